"""The adaptive search replayed on published curves and on planted ones: verdicts equal to the full
grid's, and share of the scores that were looked at.

    python benchmarks/adaptive.py --pythia=pythia_evals.csv.gz --ladder=olmo_ladder.csv.gz
"""

import argparse

import numpy as np
import pandas as pd

from amuro_jax.curves import adaptive, falls

RUNS = ("190M-10xC", "370M-10xC", "760M-10xC", "1B-10xC", "3B-10xC")
RUNS += ("peteish7_eval_full", "peteish13_eval_full")


def replayed(name, curves):
    """A line of the table."""
    same, shares = 0, []
    for x, values, stderrs in curves:
        found, order = adaptive.replay(x, values, stderrs)
        same += adaptive.same(found, x, values, stderrs)
        shares.append(len(order) / len(x))
    length = np.mean([len(x) for x, _, _ in curves])
    print(
        f"| {name} | {len(curves)} | {length:.0f} | {same / len(curves):.1%} | "
        f"{np.mean(shares):.1%} | {np.max(shares):.1%} |"
    )


def pythia(path):
    """Accuracies of Pythia by number of shots, with their standard errors."""
    table = pd.read_csv(path)
    table = table[table["metric"] == "acc"]
    for shots, members in table.groupby("shots"):
        curves = []
        for _, group in members.groupby(["model", "task"]):
            group = group.sort_values("step")
            known = group["stderr"][group["stderr"] > 0].median()
            stderr = group["stderr"].where(group["stderr"] > 0, known).fillna(0.01)
            curves.append(
                [group[name].to_numpy(float) for name in ("step", "value")] + [stderr.to_numpy()]
            )
        yield f"Pythia, {shots}-shot", curves


def ladder(path):
    """Accuracies of the ladder; their error is the scatter about the curve."""
    table = pd.read_csv(path)
    table = table[(table["kind"] == "downstream") & table["run"].isin(RUNS)]
    for run in RUNS:
        curves = []
        for _, group in table[table["run"] == run].groupby("task"):
            values = group.groupby("tokens")["value"].mean().sort_index()
            noise = max(falls.scatter(values.to_numpy()), 1e-4)
            curves.append(
                (values.index.to_numpy(float), values.to_numpy(), np.full(len(values), noise))
            )
        yield run, curves


def planted(count=200, length=64, rows=400, seed=0):
    """Facts that enter at a known checkpoint, as many that never do; scores of some rows."""
    rng, x = np.random.default_rng(seed), np.geomspace(1e9, 1e12, length)
    hits, spent, false = 0, [], 0
    for _ in range(count):
        at = int(rng.integers(4, length - 4))
        level = np.where(np.arange(length) < at, 0.25, 0.9)
        for learned in (True, False):
            truth = level if learned else np.full(length, 0.25)
            values = rng.binomial(rows, truth) / rows
            stderrs = np.sqrt(np.maximum(values * (1 - values), 1 / rows) / rows)
            found, order = adaptive.replay(x, values, stderrs)
            spent.append(len(order) / length)
            if learned:
                hits += found.learned and abs(found.high - at) <= 1
            else:
                false += found.learned
    print(f"planted facts found within one checkpoint: {hits} of {count}")
    print(f"facts that never enter, called learned: {false} of {count}")
    print(f"share of the scores: {np.mean(spent):.1%}")


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pythia", required=True)
    parser.add_argument("--ladder", required=True)
    options = parser.parse_args()
    print("| curves | number | checkpoints | same verdict | scores, mean | scores, most |")
    print("|---|---|---|---|---|---|")
    for name, curves in (*pythia(options.pythia), *ladder(options.ladder)):
        replayed(name, curves)
    planted()


if __name__ == "__main__":
    main()
