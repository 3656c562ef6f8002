"""Rendering and tokenising MNLI rows in three formats with 4 shots: amuro_jax against
`datasets.map` with a Python function.

    python benchmarks/render.py --data_root=DATA --tokenizer=tokenizer.json [--repeats=3]

Both sides make the same ids (checked), from the same rows in memory, with the same `tokenizers`
backend; the map's cache is off. Printed: the
best of the repeats, in seconds and rows per second.
"""

import argparse
import dataclasses
import time

import datasets

from amuro_jax.data import sources
from amuro_jax.data.protocols import STRICT
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import open_tokenizer

WORDS = ("entailment", "neutral", "contradiction")
TEMPLATES = {
    "default": "### Input_1: {premise}\n ### Input_2: {hypothesis}\n ### Inference:",
    "instruct": "Consider the following texts: "
    "Text 1: {premise} Text 2: {hypothesis} The relation is",
    "io": "{premise} {hypothesis}",
}


def ours(task, tokenizer, data_root):
    """{format: ids of each context}: rows → queries fitted to 2,048 tokens → ids."""
    made = {}
    for name in TEMPLATES:
        queries = build_queries(task, name, 4, STRICT, tokenizer, data_root=data_root, rows=0)
        made[name] = tokenizer.encode_batch(
            [query.context for query in queries], shared=queries[0].shared
        )
    return made


def plain(rows, shots, tokenizer, batched):
    """The same by `Dataset.map`; `batched` hands the function 1,000 rows at a time."""
    made, dataset = {}, datasets.Dataset.from_list(rows)
    for name, template in TEMPLATES.items():
        before = "".join(
            template.format(**row).rstrip() + " " + WORDS[row["label"]] + "\n" for row in shots
        )

        def one(row, template=template, before=before):
            return {"ids": tokenizer.encode(before + template.format(**row).rstrip())}

        def many(batch, template=template, before=before):
            pairs = zip(batch["premise"], batch["hypothesis"], strict=True)
            return {
                "ids": tokenizer.encode_batch(
                    [before + template.format(premise=p, hypothesis=h).rstrip() for p, h in pairs]
                )
            }

        mapped = dataset.map(many, batched=True) if batched else dataset.map(one)
        made[name] = mapped["ids"][:]
    return made


def best(repeats, work):
    """(result, seconds of the fastest run)."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return result, min(times)


def main():
    """Runs the three ways and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    datasets.disable_caching()
    datasets.disable_progress_bars()
    task, tokenizer = get_task("mnli_matched"), open_tokenizer(given.tokenizer)
    task = dataclasses.replace(task, source=dataclasses.replace(task.source, test=("train",)))
    rows = [
        row
        for _, row in sources.raw_rows(task, sources.find_split(task, ("train",), given.data_root))
    ]
    names = build_queries(task, "default", 4, STRICT, None, data_root=given.data_root, rows=1)[
        0
    ].shot_rows
    shots = [rows[int(name.partition(":")[2])] for name in names]
    mine, mine_s = best(given.repeats, lambda: ours(task, tokenizer, given.data_root))
    for label, batched in (("datasets.map, row by row", False), ("datasets.map, batched", True)):
        theirs, seconds = best(
            given.repeats, lambda batched=batched: plain(rows, shots, tokenizer, batched)
        )
        assert {name: [list(ids) for ids in value] for name, value in theirs.items()} == mine, (
            "the two sides differ"
        )
        print(
            f"{label:<26}{seconds:8.2f} s {3 * len(rows) / seconds:10,.0f} prompts/s"
            f"   amuro_jax {seconds / mine_s:.2f} × as fast"
        )
    print(
        f"{'amuro_jax':<26}{mine_s:8.2f} s {3 * len(rows) / mine_s:10,.0f} prompts/s"
        f"   {len(rows)} rows, 3 formats, 4 shots"
    )


if __name__ == "__main__":
    main()
