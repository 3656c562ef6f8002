"""The study's published result tables as `Results`, read where the real data lie: no rows, so
nothing is paired.
"""

import re

import pandas as pd

from amuro_jax.results.results import Results, normal_draws

STEPS = ("1000", "18000", "342000", "424000", "505000", "592000", "738000", "main")
TUNED = {
    "mnli": "mnli_matched",
    "paws": "paws",
    "xsum": "xsum",
    "socialiqa": "socialiqa",
    "tulu": "tulu",
}
OWNERS = {name: name for name in ("mnli_matched", "paws", "xsum", "socialiqa")} | {
    "mnli_mismatched": "mnli_matched",
    "xlsum": "xsum",
}
CHOICE = ("boolq", "sciq_choice", "hellaswag", "arc_challenge", "arc_easy", "openbookqa")
BASE = re.compile(
    r"(?:olmo1b_)?checkpoint-(\d+)(?:_original_hf_4shots)?$|olmo1b_original_hf(?:_4shots)?$"
)
FINE = re.compile(r"olmo1b_hf_(?:ckpt(\d+)|main)_([a-z]+)_\d+epoch_2e-[67](?:_4shots)?$")


def results(folder) -> Results:
    """In-domain and cross-task scores (first table), multiple choice (second)."""
    first = pd.read_csv(folder / "all_perf_table.csv").rename(
        columns={"eval dataset": "task", "Performance": "value", "std": "stderr"}
    )
    second = pd.read_csv(folder / "official_eval_table.csv").rename(
        columns={"eval dataset": "task", "Performance": "value"}
    )
    second["task"] = second["task"].replace({"sciq": "sciq_choice"})
    lines = [
        *_lines(first[first["task"].isin(OWNERS)], four=True),
        *_lines(second[second["task"].isin(CHOICE)], four=False),
    ]
    cells = (
        pd.DataFrame(lines)
        .drop_duplicates(["checkpoint", "tuned_on", "task"])
        .reset_index(drop=True)
    )
    cells["key"] = [f"cell{place}" for place in range(len(cells))]
    main = {task: ("default", 4) for task in [*OWNERS, *CHOICE]}
    missing = pd.DataFrame(
        columns=[
            "checkpoint",
            "step",
            "tokens",
            "tuned_on",
            "task",
            "role",
            "format",
            "shots",
            "of",
            "group",
            "key",
            "why",
        ]
    )
    return Results("published", list(STEPS), cells, missing, main, normal_draws(cells, 400))


def _lines(table, four):
    for row in table.itertuples():
        name = row.model_id
        base, fine = BASE.match(name), FINE.match(name)
        if not (base or fine) or (four and not name.endswith("4shots")):
            continue
        tuned_on = TUNED[fine[2]] if fine else ""
        owner = OWNERS.get(row.task, "tulu")
        role = (
            ("in_domain" if row.task in OWNERS else "multiple_choice")
            if tuned_on in ("", owner)
            else "cross_task"
        )
        if role == "cross_task" and (row.task not in TUNED.values() or tuned_on == "tulu"):
            continue
        yield {
            "checkpoint": (base or fine)[1] or "main",
            "step": None,
            "tokens": None,
            "tuned_on": tuned_on,
            "task": row.task,
            "role": role,
            "format": "default",
            "shots": 4,
            "of": owner,
            "group": "",
            "metric": "accuracy",
            "value": row.value,
            "stderr": getattr(row, "stderr", 0.0),
            "low": None,
            "high": None,
            "n": 0,
            "majority": None,
            "chance": None,
        }
