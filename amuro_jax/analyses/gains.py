"""What fine-tuning adds, and whether more pre-training makes it add more. No jax."""

import itertools

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import (
    CORRECTED_COLUMNS,
    LEVEL,
    PLACE_COLUMNS,
    baseline,
    change,
    gain,
    in_views,
    uncertainty,
    uncertainty_columns,
    with_families,
)
from amuro_jax.analyses.figures import FigureSpec, LinePanel
from amuro_jax.analyses.learned import FINE, NEITHER, PRE
from amuro_jax.analyses.words import count, effect, is_clear, listed, unclear, with_interval
from amuro_jax.evals.statistics import holm, mcnemar
from amuro_jax.results.results import Results


def gains(results: Results, _=None) -> pd.DataFrame:
    """Base against fine-tuned: a line per set, fine-tuned model, checkpoint, format and shots, with
    the paired change.
    """
    cells = list(results.cells[results.cells["tuned_on"] != ""].itertuples())
    lines = in_views(
        cells,
        lambda cell: (cell.task, cell.format, cell.shots),
        lambda cell: _gain(results, cell),
    )
    of = "changes of every set, checkpoint, format and number of shots after that fine-tuning"
    return with_families(pd.DataFrame(lines), of, ["tuned_on"])


def _gain(results, cell):
    base = results.find(cell.checkpoint, "", cell.task, cell.format, cell.shots)
    tuned = results.find(cell.checkpoint, cell.tuned_on, cell.task, cell.format, cell.shots)
    changed = gain(results, base, tuned)
    same = ("task", "role", "tuned_on", "checkpoint", "step", "format", "shots", "metric", "n")
    return {
        **{name: getattr(cell, name) for name in same},
        "baseline": np.nan if base is None else baseline(base),
        "base": np.nan if base is None else base["value"],
        "tuned": cell.value,
        "change": changed.value,
        **uncertainty(changed),
        **_rows_changed(results, base, tuned),
    }


def _rows_changed(results, base, tuned):
    """How many rows only one of two models has right, and McNemar's exact test of them; of right
    and wrong answers on the same rows alone.
    """
    unknown = {"gained": np.nan, "lost": np.nan, "p_mcnemar": np.nan}
    if base is None or base["metric"] != "accuracy":
        return unknown
    first, second = results.scores(base["key"]), results.scores(tuned["key"])
    if first is None or second is None or not first.index.equals(second.index):
        return unknown
    if not (first.isin((0, 1)).all() and second.isin((0, 1)).all()):  # a mean over seeds
        return unknown
    gained, lost = int((second > first).sum()), int((second < first).sum())
    return {"gained": gained, "lost": lost, "p_mcnemar": mcnemar(gained, lost)}


def gain_by_group(results: Results, tables) -> pd.DataFrame:
    """Mean gain over the sets of a group by checkpoint (Table 6's question)."""
    return gains_of(results, tables["learned"])


def gains_of(results: Results, groups: pd.DataFrame) -> pd.DataFrame:
    """Mean gain by checkpoint over groups of sets, a table with `task` and `group`; each set in the
    `format` of the table, where it has that column, else in its main one.

    Sets weigh the same, whatever the number of models they have (`Results.weight`).
    """
    order = [name for name in (PRE, FINE) if (groups["group"] == name).any()]
    lines = []
    for group in dict.fromkeys([*order, *groups["group"]]):
        of_group = groups[groups["group"] == group]
        names = of_group["format"] if "format" in of_group else [""] * len(of_group)
        members = dict(zip(of_group["task"], names, strict=True))
        lines += [_mean_gain(results, group, members, name) for name in results.checkpoints]
    return with_families(pd.DataFrame(lines), "checkpoints of the group", ["group"])


def _mean_gain(results, group, members, checkpoint):
    pairs = {
        task: _own_pairs(results, checkpoint, task, format) for task, format in members.items()
    }
    complete = {
        task: cells
        for task, cells in pairs.items()
        if cells and not any(cell is None for cell in cells)
    }
    weights = [results.weight(task) for task in complete]
    statistic = _mean_of_sets([len(cells) for cells in complete.values()], weights)
    mean = results.estimate(statistic, [cell for cells in complete.values() for cell in cells])
    return {
        "group": group,
        "checkpoint": checkpoint,
        "change": mean.value,
        **uncertainty(mean),
        "sets": len(complete),
        "left_out": ", ".join(sorted(set(pairs) - set(complete))),
    }


def _own_pairs(results, checkpoint, task, format):
    base = results.find(checkpoint, "", task, format)
    return [
        cell
        for name in results.tuned_on(task)
        for cell in (base, results.find(checkpoint, name, task, format))
    ]


def _mean_of_sets(sizes, weights):
    edges = np.cumsum([0, *sizes])

    def statistic(scores):
        means = [change(scores[..., low:high]) for low, high in itertools.pairwise(edges)]
        return np.average(means, axis=0, weights=weights)

    return statistic


def draw_groups(results: Results, tables) -> FigureSpec | None:
    """Mean change after fine-tuning by checkpoint, a line per group of sets."""
    table = tables["gain_by_group"].dropna(subset=["change"])
    if table.empty:
        return None
    line, legend = figures.track(results), {}
    for group, entry in figures.entries(dict.fromkeys(table["group"])).items():
        sets = count(int(table[table["group"] == group]["sets"].max()), "set")
        legend[group] = figures.LegendEntry(f"{group} ({sets})", entry.color, entry.marker)
    drawn = tuple(
        figures.series(line, table[table["group"] == group], entry, "change")
        for group, entry in legend.items()
    )
    axis = figures.Axis("fine-tuned − base")
    panel = LinePanel("", line.axis, axis, drawn, (figures.Level(0.0, ""),))
    return FigureSpec(figures.one_range([panel]), tuple(legend.values()))


def say_gains(results: Results, tables):
    """The gain at the last checkpoint by group, and at how many checkpoints it is clear."""
    learned = tables["learned"]
    for group, points in tables["gain_by_group"].groupby("group", sort=False):
        known = points.dropna(subset=["low"])
        if known.empty:
            continue
        last, clear = known.iloc[-1], known[known["p_holm"] < LEVEL]
        up, down = int((clear["change"] > 0).sum()), int((clear["change"] < 0).sum())
        text = (
            f"Sets {group} ({listed(learned[learned['group'] == group]['task'])}): fine-tuning "
            f"{last['checkpoint']} changes the mean score by "
            f"{with_interval(last)}"
        )
        text += "" if is_clear(last) else f", {unclear(last)}"
        if group == NEITHER and is_clear(last) and last["change"] > 0:
            text += ", which leaves them at or below the baseline"
        text += f"; a gain is clear at {up} and a loss at {down} of {len(known)} checkpoints (Holm)"
        yield Sentence(text + ".", is_clear(last), effect(last))


def say_early_and_late(results: Results, tables):
    """Whether fine-tuning ends higher from the last checkpoint than from the first, per fine-tuning
    set on its own test.
    """
    ends, changes = (results.distinct[0], results.distinct[-1]), {}
    for task in results.tasks("in_domain"):
        if task in results.fine_tuning_sets():
            cells = [results.find(name, task, task) for name in ends]
            estimate = results.estimate(change, cells)
            if not np.isnan(estimate.low):
                changes[task] = (
                    estimate,
                    f"{task} ({cells[0]['value']:.3f} → {cells[1]['value']:.3f})",
                )
    corrected = dict(zip(changes, holm([one.p for one, _ in changes.values()]), strict=True))
    clear = {task: one for task, (one, _) in changes.items() if corrected[task] < LEVEL}
    grows = [changes[task][1] for task, one in clear.items() if one.value > 0]
    falls = [changes[task][1] for task, one in clear.items() if one.value < 0]
    same = [text for task, (_, text) in changes.items() if task not in clear]
    size = max((abs(one.value) / one.stderr for one in clear.values() if one.stderr), default=0.0)
    if grows:
        yield Sentence(
            "More pre-training makes for a better fine-tuned model, first to last checkpoint: "
            f"{listed(grows)}.",
            effect=size,
        )
    if falls:
        yield Sentence(
            "More pre-training makes for a worse fine-tuned model, first to last checkpoint: "
            f"{listed(falls)}.",
            effect=size,
        )
    if same:
        yield Sentence(
            "Fine-tuned from the first or from the last checkpoint, the scores are not "
            f"distinguishable: {listed(same)}.",
            False,
        )


def say(results: Results, tables):
    """Gains by group, then early against late."""
    yield from say_gains(results, tables)
    yield from say_early_and_late(results, tables)


GAINS = Analysis(
    "gains",
    "Every change after fine-tuning",
    gains,
    {
        **PLACE_COLUMNS,
        "step": "pre-training step",
        "metric": "what the score is",
        "n": "scored rows",
        "baseline": "majority class or chance, whichever is higher",
        "base": "score of the base model",
        "tuned": "score of the fine-tuned model",
        "change": "fine-tuned − base on the same rows",
        **uncertainty_columns(),
        **CORRECTED_COLUMNS,
        "gained": "rows that only the fine-tuned model has right (accuracy alone)",
        "lost": "rows that only the base model has right (accuracy alone)",
        "p_mcnemar": "p-value of McNemar's exact test of the two",
    },
)
BY_GROUP = Analysis(
    "gain_by_group",
    "What fine-tuning adds, by group of sets",
    gain_by_group,
    {
        "group": "where the sets are learned",
        "checkpoint": PLACE_COLUMNS["checkpoint"],
        "change": "mean of fine-tuned − base over the group's sets",
        **uncertainty_columns(),
        **CORRECTED_COLUMNS,
        "sets": "sets in the mean",
        "left_out": "sets left out because a cell is missing",
    },
    "Does fine-tuning help, and from which checkpoint on",
    draw_groups,
    "Mean of fine-tuned − base over the sets of a group, each after its own fine-tuning (multiple "
    "choice: after each), in the format that the set's group hangs on. Bands: 95 % intervals.",
    say,
)
