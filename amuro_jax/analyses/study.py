"""The study's analyses (paper.md, "Analyses"): each a table from the finished cells. Every mean has
its standard error; gaps are named. No jax.

Uncertainty is that of the test rows: 95 % intervals from paired bootstrap draws
(`results.Results.draws`), in which a row drawn for one
model is drawn for all. Nothing here says how much another training seed would change.
"""

import dataclasses
import itertools

import numpy as np
import pandas as pd

from amuro_jax.data.registry import get_task
from amuro_jax.results.results import NOTHING, Estimate, Results

PRE, FINE, NEITHER = "learned in pre-training", "learned in fine-tuning", "not learned"
GROUPS = {"pre_training": PRE, "fine_tuning": FINE}
OWN = ("in_domain", "multiple_choice")
CURVE = (
    "task",
    "role",
    "checkpoint",
    "step",
    "tokens",
    "metric",
    "value",
    "stderr",
    "low",
    "high",
    "n",
    "majority",
    "chance",
)


def change(pairs):
    """Mean over pairs of (second − first).

    `pairs` is [..., 2 × pairs], base and fine-tuned side by side.
    """
    return np.mean(pairs[..., 1::2] - pairs[..., ::2], axis=-1)


def relative_change(pairs):
    """Mean over pairs of (second − first) / first."""
    return np.mean((pairs[..., 1::2] - pairs[..., ::2]) / pairs[..., ::2], axis=-1)


def base_curves(results: Results) -> pd.DataFrame:
    """Base score of every set and checkpoint in the main view, with interval and baselines
    (analysis 1).
    """
    lines = []
    for task, checkpoint in itertools.product(results.tasks(), results.checkpoints):
        cell = results.find(checkpoint, "", task)
        if cell is not None:
            lines.append(cell[list(CURVE)])
    return pd.DataFrame(lines, columns=list(CURVE)).reset_index(drop=True)


def gains(results: Results) -> pd.DataFrame:
    """Base against fine-tuned: a line per set, fine-tuned model, checkpoint, format and shots, with
    the paired change (analysis 2).
    """
    lines = []
    for cell in results.cells[results.cells["tuned_on"] != ""].itertuples():
        base = results.find(cell.checkpoint, "", cell.task, cell.format, cell.shots)
        tuned = results.find(cell.checkpoint, cell.tuned_on, cell.task, cell.format, cell.shots)
        found = results.estimate(change, [base, tuned])
        start, baseline = (base["value"], bar(base)) if base is not None else (np.nan, np.nan)
        lines.append(
            {
                "task": cell.task,
                "role": cell.role,
                "tuned_on": cell.tuned_on,
                "checkpoint": cell.checkpoint,
                "step": cell.step,
                "format": cell.format,
                "shots": cell.shots,
                "metric": cell.metric,
                "n": cell.n,
                "baseline": baseline,
                "base": start,
                "tuned": cell.value,
                "change": found.value,
                **_error(found),
            }
        )
    return pd.DataFrame(lines)


def _error(found: Estimate) -> dict:
    return {"stderr": found.stderr, "low": found.low, "high": found.high}


def bar(cell) -> float:
    """What a model must beat: majority class or chance, whichever is higher (for generation the
    score of another row's reference).
    """
    return max(
        (
            value
            for value in (cell["majority"], cell["chance"])
            if value is not None and not pd.isna(value)
        ),
        default=0.0,
    )


def overview(results: Results) -> pd.DataFrame:
    """Base and own fine-tuned score with standard errors, by set and checkpoint.

    Multiple choice: the mean over all fine-tuned models.
    """
    lines = []
    for task, checkpoint in itertools.product(results.tasks(), results.checkpoints):
        base = results.find(checkpoint, "", task)
        tuned = results.estimate(
            lambda scores: np.mean(scores, axis=-1),
            [results.find(checkpoint, name, task) for name in results.tuned_on(task)],
        )
        value, error = (base["value"], base["stderr"]) if base is not None else (np.nan, np.nan)
        lines.append(
            {
                "task": task,
                "role": results.role(task),
                "checkpoint": checkpoint,
                "base": value,
                "base_stderr": error,
                "tuned": tuned.value,
                "tuned_stderr": tuned.stderr,
                "models": len(results.tuned_on(task)),
                "baseline": np.nan if base is None else bar(base),
            }
        )
    return pd.DataFrame(lines)


def learned(results: Results) -> pd.DataFrame:
    """Where each set is learned: as configured, or by test.

    By test, a set is learned in pre-training when the last base model lies clearly above both the
    first one and the baseline (`bar`); else in
    fine-tuning when its own fine-tuned model at the last checkpoint lies clearly above the base
    model and the baseline; else not at all.
    """
    lines = []
    for task in results.tasks(*OWN):
        first, last = (results.find(results.checkpoints[place], "", task) for place in (0, -1))
        tuned = [
            results.find(results.checkpoints[-1], name, task) for name in results.tuned_on(task)
        ]
        rise = results.estimate(change, [first, last])
        gain = results.estimate(change, [cell for one in tuned for cell in (last, one)])
        height = np.nan if last is None else bar(last)
        score = results.estimate(lambda scores: np.mean(scores, axis=-1), tuned)
        given = results.group(task)
        group = GROUPS.get(given) or _tested(last, rise, gain, score, height)
        lines.append(
            {
                "task": task,
                "group": group,
                "decided_by": "configuration" if given else "test",
                "baseline": height,
                "rise": rise.value,
                "rise_stderr": rise.stderr,
                "gain": gain.value,
                "gain_stderr": gain.stderr,
            }
        )
    return pd.DataFrame(
        lines,
        columns=[
            "task",
            "group",
            "decided_by",
            "baseline",
            "rise",
            "rise_stderr",
            "gain",
            "gain_stderr",
        ],
    )


def _tested(last, rise, gain, score, height):
    if last is None or np.isnan(rise.low):
        return "unknown (cells are missing)"
    if rise.low > 0 and last["low"] > height:
        return PRE
    return FINE if gain.low > 0 and score.low > height else NEITHER


def group_gains(results: Results, groups: pd.DataFrame) -> pd.DataFrame:
    """Mean gain over the sets of a group by checkpoint (Table 6's question).

    Sets weigh the same, whatever the number of models they have.
    """
    lines, order = [], [name for name in (PRE, FINE) if (groups["group"] == name).any()]
    ordered = [
        (name, groups[groups["group"] == name])
        for name in dict.fromkeys([*order, *groups["group"]])
    ]
    for (group, members), checkpoint in itertools.product(ordered, results.checkpoints):
        parts = {task: _own_pairs(results, checkpoint, task) for task in members["task"]}
        whole = {
            task: cells
            for task, cells in parts.items()
            if cells and not any(cell is None for cell in cells)
        }
        found = results.estimate(
            _mean_of_sets([len(cells) for cells in whole.values()]),
            [cell for cells in whole.values() for cell in cells],
        )
        lines.append(
            {
                "group": group,
                "checkpoint": checkpoint,
                "change": found.value,
                **_error(found),
                "sets": len(whole),
                "left_out": ", ".join(sorted(set(parts) - set(whole))),
            }
        )
    return pd.DataFrame(
        lines,
        columns=["group", "checkpoint", "change", "stderr", "low", "high", "sets", "left_out"],
    )


def _own_pairs(results, checkpoint, task):
    base = results.find(checkpoint, "", task)
    return [
        cell
        for name in results.tuned_on(task)
        for cell in (base, results.find(checkpoint, name, task))
    ]


def _mean_of_sets(sizes):
    edges = np.cumsum([0, *sizes])

    def statistic(scores):
        return np.mean(
            [change(scores[..., low:high]) for low, high in itertools.pairwise(edges)], axis=0
        )

    return statistic


def pooled(results: Results, pairs: list[tuple]) -> dict:
    """Mean and mean relative change over (base, tuned) pairs of cells, with what had to be left
    out: missing cells, base scores of zero.
    """
    known = [pair for pair in pairs if pair[0] is not None and pair[1] is not None]
    absolute = results.estimate(change, [cell for pair in known for cell in pair])
    nonzero = [
        pair for pair in known if pair[0]["value"] > 0 and results.draws[pair[0]["key"]].min() > 0
    ]
    ratio = results.estimate(relative_change, [cell for pair in nonzero for cell in pair])
    return {
        "relative": ratio.value,
        **{f"relative_{name}": value for name, value in _error(ratio).items()},
        "change": absolute.value,
        **_error(absolute),
        "cells": len(known),
        "missing": len(pairs) - len(known),
        "zero_base": len(known) - len(nonzero),
    }


def out_of_domain(results: Results) -> pd.DataFrame:
    """In-domain and out-of-domain change of each fine-tuning set's models, over checkpoints
    (analysis 3).
    """
    lines = []
    for task in results.tasks("in_domain", "out_of_domain"):
        for tuned_on in results.tuned_on(task):
            pairs = [
                (results.find(name, "", task), results.find(name, tuned_on, task))
                for name in results.checkpoints
            ]
            lines.append(
                {
                    "tuned_on": tuned_on,
                    "task": task,
                    "role": results.role(task),
                    **pooled(results, pairs),
                }
            )
    return pd.DataFrame(lines)


def transfer(results: Results) -> pd.DataFrame:
    """Every fine-tuned model on every task's in-domain sets, over checkpoints: the task-transfer
    matrix (analysis 4).
    """
    lines = []
    for tuned_on, task in itertools.product(results.fine_tuning_sets(), results.tasks("in_domain")):
        pairs = [
            (results.find(name, "", task), results.find(name, tuned_on, task))
            for name in results.checkpoints
        ]
        if any(second is not None for _, second in pairs):
            lines.append(
                {
                    "tuned_on": tuned_on,
                    "task": task,
                    "own": tuned_on in results.tuned_on(task),
                    **pooled(results, pairs),
                }
            )
    return pd.DataFrame(lines)


def transfer_ratios(results: Results) -> pd.DataFrame:
    """MRC(t, i): per fine-tuning set and checkpoint the mean ratio of change over the other tasks'
    sets.
    """
    lines = []
    for tuned_on, checkpoint in itertools.product(results.fine_tuning_sets(), results.checkpoints):
        pairs = [
            (results.find(checkpoint, "", task), results.find(checkpoint, tuned_on, task))
            for task in _others(results, tuned_on)
        ]
        if pairs:
            lines.append({"tuned_on": tuned_on, "checkpoint": checkpoint, **pooled(results, pairs)})
    return pd.DataFrame(lines)


def _others(results, tuned_on):
    met = set(
        results.cells[
            (results.cells["tuned_on"] == tuned_on) & (results.cells["role"] == "cross_task")
        ]["task"]
    )
    met |= set(
        results.missing[
            (results.missing["tuned_on"] == tuned_on) & (results.missing["role"] == "cross_task")
        ]["task"]
    )
    return [task for task in results.tasks("in_domain") if task in met]


def transfer_by_kind(results: Results) -> pd.DataFrame:
    """Task transfer pooled over sets and checkpoints: classification → generation, generation →
    classification, and within each kind.
    """
    pairs: dict[tuple, list] = {}
    for tuned_on in results.fine_tuning_sets():
        for task, checkpoint in itertools.product(_others(results, tuned_on), results.checkpoints):
            kinds = (get_task(tuned_on).kind, get_task(task).kind)
            pairs.setdefault(kinds, []).append(
                (results.find(checkpoint, "", task), results.find(checkpoint, tuned_on, task))
            )
    return pd.DataFrame(
        [
            {"tuned_on": first, "task": second, **pooled(results, cells)}
            for (first, second), cells in sorted(pairs.items())
        ]
    )


def formats(results: Results) -> pd.DataFrame:
    """Sensitivity to the prompt: spread over formats (highest − lowest score) of base and own
    fine-tuned models (analysis 5).

    The spread of equal formats is above zero by chance alone: `expected` is its mean over the draws
        when each format's draws are moved to
    the common mean, `stderr` the spread's bootstrap standard error.
    """
    lines = []
    for task in results.tasks():
        names = results.formats(task)
        for tuned_on, checkpoint in (
            itertools.product(["", *results.tuned_on(task)], results.checkpoints)
            if len(names) > 1
            else ()
        ):
            cells = [
                results.find(checkpoint, tuned_on, task, name, results.main[task][1])
                for name in names
            ]
            found, expected = _spread(results, cells)
            scores = {
                name: np.nan if cell is None else cell["value"]
                for name, cell in zip(names, cells, strict=True)
            }
            lines.append(
                {
                    "task": task,
                    "tuned_on": tuned_on,
                    "checkpoint": checkpoint,
                    "spread": found.value,
                    **_error(found),
                    "expected": expected,
                    **scores,
                }
            )
    return pd.DataFrame(lines)


def _spread(results, cells):
    found = results.estimate(lambda scores: np.ptp(scores, axis=-1), cells)
    if np.isnan(found.stderr):
        return NOTHING, np.nan
    draws = np.stack([results.draws[cell["key"]] for cell in cells], axis=-1)
    centred = draws - draws.mean(axis=0)
    return dataclasses.replace(found), float(np.ptp(centred, axis=-1).mean())


def spread_by_checkpoint(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """Mean spread over sets, base and fine-tuned, by checkpoint."""
    lines = []
    for kind, checkpoint in itertools.product(("base", "fine-tuned"), results.checkpoints):
        rows = table[
            (table["checkpoint"] == checkpoint) & ((table["tuned_on"] == "") == (kind == "base"))
        ].dropna(subset=["spread"])
        spread = _mean_spread(results, rows)
        lines.append(
            {
                "models": kind,
                "checkpoint": checkpoint,
                "spread": spread.value,
                **_error(spread),
                "count": len(rows),
            }
        )
    return pd.DataFrame(lines)


def _mean_spread(results, rows):
    cells = [
        [
            results.find(row.checkpoint, row.tuned_on, row.task, name, results.main[row.task][1])
            for name in results.formats(row.task)
        ]
        for row in rows.itertuples()
    ]
    edges = np.cumsum([0, *map(len, cells)])

    def statistic(scores):
        return np.mean(
            [np.ptp(scores[..., low:high], axis=-1) for low, high in itertools.pairwise(edges)],
            axis=0,
        )

    return results.estimate(statistic, [cell for group in cells for cell in group])


def plateaus(results: Results) -> pd.DataFrame:
    """Per set the earliest checkpoint whose score is not distinguishable from the best, base and
    fine-tuned: where more pre-training stops paying.
    """
    lines = []
    for task in results.tasks(*OWN):
        for tuned_on in ["", *results.tuned_on(task)]:
            cells = [
                cell
                for name in results.checkpoints
                if (cell := results.find(name, tuned_on, task)) is not None
            ]
            if len(cells) < 2:
                continue
            best = max(cells, key=lambda cell: cell["value"])
            behind = [results.estimate(change, [cell, best]) for cell in cells]
            first = next(cell for cell, gap in zip(cells, behind, strict=True) if not gap.low > 0)
            lines.append(
                {
                    "task": task,
                    "tuned_on": tuned_on,
                    "best": best["checkpoint"],
                    "best_value": best["value"],
                    "reached": first["checkpoint"],
                    "reached_value": first["value"],
                    "missing": len(results.checkpoints) - len(cells),
                }
            )
    return pd.DataFrame(lines)
