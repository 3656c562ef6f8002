"""The published model ladder (arXiv 2412.04403) from its published table: predictions and variance
against those that the authors' repository prints.

    python benchmarks/ladder.py --table=olmo_ladder.csv.gz --published=FIGURES --scratch=/tmp/ladder

FIGURES: a folder with chained_main.csv, step1_main.csv, step2_main.csv and variance.csv of
allenai/OLMo-ladder (src/scripts/paper/figures).
"""

import argparse
import pathlib
import time

import pandas as pd

from amuro_jax.analyses import ladder
from amuro_jax.interchange.columns import import_csv
from amuro_jax.results import loading

FIT = [f"{size}-{length}xC" for size in ("190M", "370M", "760M", "1B") for length in (1, 2, 5, 10)]
TARGETS = ["peteish7_eval_anneal", "peteish13_eval_final"]
NAMES = {
    "Winogrande": "winogrande_val",
    "BoolQ": "boolq_val",
    "CommonsenseQA": "csqa_val",
    "OpenBookQA": "openbookqa_test",
    "ARC-Easy": "arc_easy_test",
    "ARC-Challenge": "arc_challenge_test",
    "MMLU": "mmlu_test",
    "Social IQa": "socialiqa_val",
    "PIQA": "piqa_val",
    "HellaSwag": "hellaswag_val",
}


def main():
    """Prints the comparison."""
    parser = argparse.ArgumentParser()
    for name in ("table", "published", "scratch"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    published = pathlib.Path(options.published)
    start = time.perf_counter()
    import_csv(options.table, options.scratch)
    pairs = ladder.pairs_of(loading.load(options.scratch))
    wanted = {f"{name}_rc_5shot" for name in NAMES.values()}
    pairs = [pair for pair in pairs if pair.task in wanted]
    print(f"import and {len(pairs)} sets: {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    table = ladder.predictions(pairs, FIT, TARGETS)
    print(f"{len(table)} predictions: {time.perf_counter() - start:.1f} s")
    print(table.round(4).to_string(index=False))
    _compare(table[table["target"] == TARGETS[1]].set_index("task"), published)
    _variance(ladder.variances(pairs, "1B-10xC").set_index("task"), published)


def _compare(table, published):
    columns = {
        "step1_main": "loss_predicted",
        "step2_main": "predicted_from_true_loss",
        "chained_main": "predicted",
    }
    for name, column in columns.items():
        printed = pd.read_csv(published / f"{name}.csv").set_index("Task")["Pred"]
        printed.index = printed.index.str.replace("_avg", "").str.replace("_5shot", "_rc_5shot")
        off = (table[column] - printed).dropna().abs()
        same = f"{(off < 5e-5).sum()} of {len(off)} to four digits"
        print(f"{name}: {same}, at most {off.max():.1e} off")


def _variance(table, published):
    printed = pd.read_csv(published / "variance.csv").set_index("Task")
    printed.index = [f"{NAMES[name]}_rc_5shot" for name in printed.index]
    columns = {
        "Loss SD": "loss_sd",
        "Loss Rel SD (CV)": "loss_relative_sd",
        "Accuracy SD": "score_sd",
        "Accuracy Rel SD (CV)": "score_relative_sd",
    }
    off = pd.DataFrame(
        {ours: (table[ours] / printed[name] - 1).abs() for name, ours in columns.items()}
    )
    print(f"variance: {(off < 1e-4).to_numpy().sum()} of {off.size} cells to four digits")


if __name__ == "__main__":
    main()
