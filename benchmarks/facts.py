"""A search for when facts are learned, judged by what the corpus told when: the laboratory of
facts, scored at every checkpoint.

    amuro lab --config=configs/lab/facts.py --config.out=work/facts/lab
    amuro study --config=configs/study/facts.py --config.suite=work/facts/lab/checkpoints \\
      --config.data_root=work/facts/lab/data --config.workdir=work/facts/study
    python benchmarks/facts.py --lab=work/facts/lab --study=work/facts/study

A creature counts as found where the verdict names a checkpoint at most one away from the first that
was published after documents had told of all its attributes, and as a false discovery where it is
called learned and no document tells of it, or at a checkpoint published before any did.
"""

import argparse
import collections
import json
from pathlib import Path

import numpy as np
from scipy import stats

from amuro_jax import load_results
from amuro_jax.curves import adaptive, examples
from amuro_jax.evals.statistics import benjamini_hochberg

LEVEL = 0.05


def read_lines(path):
    """The values of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_truth(lab, steps):
    """Creature → place of the first checkpoint published after documents had told of it, and of all
    its attributes, both None where none ever does; the founders are left out.
    """
    complete = {}
    for fact in read_lines(lab / "truth" / "facts.jsonl"):
        if fact["about"] == "attribute":
            creature = fact["words"][0]
            read = [fact["read"][str(step)] > 0 for step in steps]
            complete.setdefault(creature, []).append(read.index(True) if any(read) else len(steps))
    places = {}
    for line in read_lines(lab / "truth" / "late.jsonl"):
        entered = line["entered"]
        if entered is None:
            places[line["creature"]] = (None, None)
        elif entered > 0:
            after = int(np.searchsorted(steps, entered, side="right"))
            places[line["creature"]] = (after, max(complete[line["creature"]]))
    return places


def curves_of(rows, clustered):
    """Creature → (scores, standard errors) by checkpoint; and the design effect.

    Args:
        clustered: whether questions about one attribute count as one cluster: a model that does not
            know answers them alike.
    """
    table = {}
    for doc_id, answers in zip(rows["doc_id"], rows["answers"], strict=True):
        creature, attribute, _ = doc_id.split("-")
        right = [one == "1" for one in answers]
        table.setdefault(creature, {}).setdefault(attribute, []).append(right)
    right = {name: np.array(list(by.values()), float) for name, by in table.items()}  # [A, M, N]
    factor = design_effect(np.stack(list(right.values()))) if clustered else 1.0
    curves = {}
    for name, answers in right.items():
        count = answers.shape[0] * answers.shape[1]
        values = answers.mean(axis=(0, 1))
        variance = np.maximum(values * (1 - values), 1 / count)
        curves[name] = values, np.sqrt(variance * factor / count)
    return curves, factor


def design_effect(right):
    """Factor by which clusters of questions raise the variance of a mean (Kish, 1965): from right
    and wrong answers [creatures, attributes, questions, checkpoints], one for all.
    """
    size = right.shape[2]
    of_attribute = right.mean(axis=2, keepdims=True)
    between = size * of_attribute.var(axis=1, ddof=1).mean()
    within = right.var(axis=2, ddof=1).mean()
    alike = (between - within) / (between + (size - 1) * within)
    return 1 + (size - 1) * max(alike, 0.0)


def search(x, values, stderrs):
    """The adaptive search's verdict on a curve, and the number of checkpoints that it looks at."""
    rows = adaptive.FEWEST  # as many are scored at once: a creature has fewer
    counts = np.zeros(len(x), int)
    while True:
        seen = np.where(counts > 0, values, np.nan)
        known = adaptive.Known(x, seen, counts, stderrs * rows**0.5, rows, stderrs=stderrs)
        if (part := adaptive.next_part(known)) is None:
            return adaptive.believe(known).verdict, int((counts > 0).sum())
        counts[part[0]] = rows


def of_search(x, curves):
    """Creature → place at which the adaptive search says that it is learned, if at all; the same of
    those whose rise is clear with the false discovery rate over all curves held at LEVEL; and the
    share of the scores that was looked at, its mean over the curves.
    """
    found, p_values, shares = {}, [], []
    for name, (values, stderrs) in curves.items():
        verdict, looked_at = search(x, values, stderrs)
        found[name] = verdict.high if verdict.learned else None
        rise = (values[-1] - values[0]) / np.hypot(stderrs[0], stderrs[-1])
        p_values.append(2 * stats.norm.sf(abs(rise)))
        shares.append(looked_at / len(x))
    clear = dict(zip(found, benjamini_hochberg(p_values) < LEVEL, strict=True))
    corrected = {name: place if clear[name] else None for name, place in found.items()}
    return found, corrected, float(np.mean(shares))


def of_examples(rows, names):
    """Row → place at which the analysis of examples says that it is learned; creature → the median
    of its rows where most of them are learned.
    """
    by_row, by_creature = {}, {}
    place = {name: index for index, name in enumerate(names)}
    for row in rows.itertuples():
        learned = row.state == examples.LEARNED
        by_row[row.doc_id] = place[row.first_learned] if learned else None
    for doc_id, at in by_row.items():
        by_creature.setdefault(doc_id.split("-")[0], []).append(at)
    middle = {
        name: int(np.median([at for at in places if at is not None]))
        if 2 * sum(at is not None for at in places) > len(places)
        else None
        for name, places in by_creature.items()
    }
    return by_row, middle


def say(name, found, share, truth):
    """Prints a line of the table; gives back how many checkpoints later than possible what is found
    was found, −2 and 2 for all beyond.
    """
    entering = {one: truth[one.split("-")[0]] for one in found}
    lags = [
        found[one] - places[1]
        for one, places in entering.items()
        if places[1] is not None and found[one] is not None
    ]
    count = sum(places[1] is not None for places in entering.values())
    never = [one for one, places in entering.items() if places[1] is None]
    wrong = sum(found[one] is not None for one in never)
    early = sum(
        found[one] is not None and places[0] is not None and found[one] < places[0]
        for one, places in entering.items()
    )
    hits = sum(abs(lag) <= 1 for lag in lags)
    print(
        f"| {name} | {count} | {len(lags)} | {hits} ({hits / count:.1%}) | {early} | "
        f"{wrong} of {len(never)} ({wrong / len(never):.1%}) | "
        f"{(wrong + early) / max(1, wrong + len(lags)):.1%} | {share:.1%} |"
    )
    return collections.Counter(np.clip(lags, -2, 2).tolist())


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lab", type=Path, required=True)
    parser.add_argument("--study", required=True)
    options = parser.parse_args()
    results = load_results(options.study)
    rows = results.analysis("examples")
    published = json.loads((options.lab / "lab.json").read_text())["checkpoints"]
    steps = [one["step"] for one in published]
    truth, x = read_truth(options.lab, steps), np.array(steps, float)
    independent, _ = curves_of(rows, clustered=False)
    clustered, factor = curves_of(rows, clustered=True)
    print(f"design effect of questions about one attribute: {factor:.2f}")
    for name, known in (("entered", True), ("never entered", False)):
        chosen = [c for one, (c, _) in clustered.items() if (truth[one][0] is not None) == known]
        ends = [np.mean([c[end] for c in chosen]) for end in (0, -1)]
        print(f"mean score, {name}: {ends[0]:.3f} first, {ends[1]:.3f} last checkpoint")
    print(
        "| judged by | entered | called learned | found within one checkpoint | before entry | "
        "of those never entered | false of all discoveries | scores |"
    )
    print("|---|---|---|---|---|---|---|---|")
    alone, _, first = of_search(x, independent)
    found, corrected, second = of_search(x, clustered)
    by_row, middle = of_examples(rows, [one["name"] for one in published])
    judged = {
        "search, rows independent": (alone, first),
        "search, questions in clusters": (found, second),
        "the same, corrected for all curves": (corrected, second),
        "examples, row by row": (by_row, 1.0),
        "examples, most rows of a creature": (middle, 1.0),
    }
    lags = {name: say(name, *of, truth) for name, of in judged.items()}
    print("| checkpoints later than possible | −2 or less | −1 | 0 | 1 | 2 or more |")
    print("|---|---|---|---|---|---|")
    for name, counts in lags.items():
        print(f"| {name} | {' | '.join(str(counts[lag]) for lag in range(-2, 3))} |")


if __name__ == "__main__":
    main()
