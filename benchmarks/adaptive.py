"""The adaptive search replayed on published curves and on planted ones: verdicts equal to the full
grid's, and the share of the full grid's rows that was scored.

    python benchmarks/adaptive.py --pythia=pythia_evals.csv.gz --ladder=olmo_ladder.csv.gz

What is published is a score for each checkpoint, not which rows are right. Of each set the number
of rows is known (Pythia: from score and standard error; ladder: the smallest number of which all
scores are multiples), and so how many are right. Which ones is drawn: `--agreement=0` draws them
for each checkpoint by itself, so that a part's count is hypergeometric; more gives rows a
difficulty that checkpoints share, a correlation of its normal scores.
"""

import argparse
import concurrent.futures
import functools

import numpy as np
import pandas as pd

from amuro_jax.curves import adaptive, falls
from amuro_jax.curves.adaptive import Known

RUNS = ("190M-10xC", "370M-10xC", "760M-10xC", "1B-10xC", "3B-10xC")
RUNS += ("peteish7_eval_full", "peteish13_eval_full")


def drawn_rows(values, rows, agreement, rng):
    """Right or wrong [N, rows], in the order in which rows are scored."""
    difficulty = rng.normal(size=rows)
    right = np.zeros((len(values), rows))
    for place, count in enumerate(np.round(values * rows).astype(int)):
        own = rng.normal(size=rows)
        order = np.sqrt(agreement) * difficulty + np.sqrt(1 - agreement) * own
        right[place, np.argsort(order)[:count]] = 1
    return right


def search(x, right, stderrs=None):
    """The belief that the search ends with, and the rows that it scored of each checkpoint."""
    scores, rows = {}, right.shape[1]
    while (part := adaptive.next_part(Known.of(x, rows, scores, stderrs))) is not None:
        place, count = part
        scores[place] = right[place, :count]
    known = Known.of(x, rows, scores, stderrs)
    return adaptive.believe(known), known.counts


def same(verdict, x, values, stderrs):
    """Whether a verdict is that of the full grid: the same of learned and falls; and, of what is
    learned, the end reached where the full grid puts it: between its first checkpoint that is not
    clearly below the end and the one after its last that is.
    """
    learned, fallen, first, last = (one[0] for one in adaptive.outcome(x, values[None], stderrs))
    if (verdict.learned, verdict.falls) != (learned, fallen):
        return False
    return not learned or first <= verdict.high <= last


def replayed(curve, agreement, seed):
    """Whether the verdict is the full grid's; rows scored, of how many; checkpoints looked at."""
    x, values, stderrs, rows, given = curve
    right = drawn_rows(values, rows, agreement, np.random.default_rng(seed))
    belief, counts = search(x, right, stderrs if given else None)
    equal = same(belief.verdict, x, values, stderrs)
    return equal, counts.sum() / rows, len(x), (counts > 0).sum()


def table(families, agreement, seeds, workers):
    """Lines of a family each, and one of all; `seeds` are those of the draws."""
    print(f"\nagreement {agreement}, draws {', '.join(map(str, seeds))}")
    print("| curves | number | checkpoints | same verdict | by draw | scores, mean | most |")
    print("|---|---|---|---|---|---|---|")
    every = []
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        for name, curves in families:
            runs = []
            for seed in seeds:
                replay = functools.partial(replayed, agreement=agreement, seed=seed)
                runs.append(np.array(list(pool.map(replay, curves)), float))
            line(name, np.stack(runs))
            every.append(np.concatenate(runs))
    line("all", np.concatenate(every)[None])


def line(name, runs):
    """Of runs [seeds, curves, 4]: share of scores is of all rows of the full grids."""
    equal, spent, length, _ = np.moveaxis(runs, 2, 0)
    shares, each = spent / length, equal.mean(1)
    print(
        f"| {name} | {runs.shape[1]} | {length.mean():.0f} | {equal.mean():.1%} | "
        f"{each.min():.1%} to {each.max():.1%} | {spent.sum() / length.sum():.1%} | "
        f"{shares.max():.1%} |",
        flush=True,
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
            stderr = group["stderr"].where(group["stderr"] > 0, known).fillna(0.01).to_numpy()
            values = group["value"].to_numpy(float)
            inner = np.clip(values, 0.01, 0.99)
            rows = 1 + round(float(np.median(inner * (1 - inner) / stderr**2)))
            curves.append((group["step"].to_numpy(float), values, stderr, rows, False))
        yield f"Pythia, {shots}-shot", curves


def ladder(path):
    """Accuracies of the ladder; their error is the scatter about the curve."""
    table = pd.read_csv(path)
    table = table[table["kind"] == "downstream"]
    rows = {task: multiples(group["value"].to_numpy()) for task, group in table.groupby("task")}
    for run in RUNS:
        curves = []
        for task, group in table[table["run"] == run].groupby("task"):
            values = group.groupby("tokens")["value"].mean().sort_index()
            noise = np.full(len(values), max(falls.scatter(values.to_numpy()), 1e-4))
            curves.append(
                (values.index.to_numpy(float), values.to_numpy(), noise, rows[task], True)
            )
        yield run, curves


def multiples(values):
    """The smallest number of rows of which all scores are multiples."""
    numbers = np.arange(50, 11_001)
    products = np.unique(values)[:300, None] * numbers
    off = np.abs(products - np.round(products)).max(0)
    return int(numbers[off < 0.02][0])


def planted(count, length=64, rows=400, seed=0):
    """Facts that enter at a known checkpoint, as many that never do; scores of some rows."""
    rng, x = np.random.default_rng(seed), np.geomspace(1e9, 1e12, length)
    hits, spent, false = 0, [], 0
    for _ in range(count):
        at = int(rng.integers(4, length - 4))
        level = np.where(np.arange(length) < at, 0.25, 0.9)
        for learned in (True, False):
            truth = level if learned else np.full(length, 0.25)
            right = rng.random((length, rows)) < truth[:, None]
            belief, counts = search(x, right * 1.0)
            spent.append(counts.sum() / right.size)
            if learned:
                hits += belief.verdict.learned and abs(belief.verdict.high - at) <= 1
            else:
                false += belief.verdict.learned
    print(f"\nplanted facts found within one checkpoint: {hits} of {count}")
    print(f"facts that never enter, called learned: {false} of {count}")
    print(f"share of the scores: {np.mean(spent):.1%}")


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pythia", help="published scores of Pythia")
    parser.add_argument("--ladder", help="published scores of the ladder")
    parser.add_argument("--agreement", type=float, nargs="+", default=[0.0, 0.6])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4], help="of the draws")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--planted", type=int, default=200, help="facts of each kind")
    options = parser.parse_args()
    families = list(pythia(options.pythia)) if options.pythia else []
    families += ladder(options.ladder) if options.ladder else []
    for agreement in options.agreement if families else ():
        table(families, agreement, options.seeds, options.workers)
    if options.planted:
        planted(options.planted)


if __name__ == "__main__":
    main()
