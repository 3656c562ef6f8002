"""What fine-tuning on one task does to the others: transfer and forgetting. No jax.

The absolute change leads. A ratio to a base score near zero, or one that a constant answer earns,
says more about the base score than about the change; it is given where the base is clearly above
both. The study's own statistic, the mean ratio of change, has a table of its own.
"""

import itertools

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import (
    CORRECTED_COLUMNS,
    LEVEL,
    PLACE_COLUMNS,
    POOLED_COLUMNS,
    pairs_of,
    pooled,
    with_families,
)
from amuro_jax.analyses.figures import FigureSpec, HeatPanel, LinePanel
from amuro_jax.analyses.words import (
    count,
    effect,
    is_clear,
    plus_minus,
    signed,
    unclear,
    with_interval,
)
from amuro_jax.config import Metric
from amuro_jax.data.registry import TASKS
from amuro_jax.data.task import Kind
from amuro_jax.results.results import Results

SMALLEST_LIMIT = 0.02  # of the colours: below it, noise would look like an effect


def task_transfer(results: Results, _=None) -> pd.DataFrame:
    """Every fine-tuned model on every task's in-domain sets, mean over checkpoints."""
    lines = []
    for tuned_on, task in itertools.product(results.fine_tuning_sets(), results.tasks("in_domain")):
        pairs = pairs_of(results, results.distinct, tuned_on, task)
        if any(second is not None for _, second in pairs):
            lines.append(
                {
                    "tuned_on": tuned_on,
                    "task": task,
                    "own": tuned_on in results.tuned_on(task),
                    **pooled(results, pairs),
                }
            )
    return with_families(pd.DataFrame(lines), "pairs of sets of one or of two tasks", ["own"])


def transfer_by_checkpoint(results: Results, _=None) -> pd.DataFrame:
    """Per fine-tuning set and checkpoint the mean change over the other tasks' sets."""
    return _by_checkpoint(results, every_base=False)


def mean_ratio_of_change(results: Results, _=None) -> pd.DataFrame:
    """MRC(t, i) as the study defines it: per fine-tuning set and checkpoint the mean ratio of
    change over the other tasks' sets, of every base score above zero.
    """
    return _by_checkpoint(results, every_base=True)


def _by_checkpoint(results, every_base):
    lines = []
    others = {name: _others(results, name) for name in results.fine_tuning_sets()}
    for tuned_on, checkpoint in itertools.product(others, results.checkpoints):
        pairs = [
            pair
            for task in others[tuned_on]
            for pair in pairs_of(results, [checkpoint], tuned_on, task)
        ]
        if pairs:
            lines.append(
                {
                    "tuned_on": tuned_on,
                    "checkpoint": checkpoint,
                    **pooled(results, pairs, every_base),
                }
            )
    of = "checkpoints of the fine-tuning set"
    return with_families(pd.DataFrame(lines), of, ["tuned_on"])


def _others(results, tuned_on):
    plan = pd.concat([results.cells, results.missing])
    crossed = plan[(plan["tuned_on"] == tuned_on) & (plan["role"] == "cross_task")]
    return [task for task in results.tasks("in_domain") if task in set(crossed["task"])]


def transfer_by_kind(results: Results, _=None) -> pd.DataFrame:
    """Task transfer pooled over sets and checkpoints, by kind of task on either side."""
    return _by_kind(results, every_base=False)


def mrc_by_kind(results: Results, _=None) -> pd.DataFrame:
    """The study's mean ratio of change pooled over sets and checkpoints, by kind of task."""
    return _by_kind(results, every_base=True)


def _kind(results, task):
    """How a set is answered; of a user's own set, which no registry has, by its metric."""
    if task in TASKS:
        return TASKS[task].kind
    metrics = set(results.cells.loc[results.cells["task"] == task, "metric"])
    return Kind.CLASSIFICATION if metrics <= {Metric.ACCURACY} else Kind.GENERATION


def _by_kind(results, every_base):
    pairs: dict[tuple, list] = {}
    for tuned_on in results.fine_tuning_sets():
        for task in _others(results, tuned_on):
            kinds = (_kind(results, tuned_on), _kind(results, task))
            of_kind = pairs_of(results, results.distinct, tuned_on, task)
            pairs.setdefault(kinds, []).extend(of_kind)
    table = pd.DataFrame(
        [
            {"tuned_on": first, "task": second, **pooled(results, cells, every_base)}
            for (first, second), cells in sorted(pairs.items())
        ]
    )
    return with_families(table, "pairs of kinds of task")


def draw_matrix(results: Results, tables) -> FigureSpec | None:
    """Heat map: fine-tuned on the row's set, tested on the column's."""
    table = tables["task_transfer"]
    table = table.dropna(subset=["change"]) if len(table) else table
    if table.empty:
        return None
    rows = [name for name in results.fine_tuning_sets() if (table["tuned_on"] == name).any()]
    columns = [name for name in results.tasks("in_domain") if (table["task"] == name).any()]
    at = table.set_index(["tuned_on", "task"])
    at["half"] = (at["high"] - at["low"]) / 2

    def matrix(name):
        return tuple(
            tuple(float(at[name].get((row, column), np.nan)) for column in columns) for row in rows
        )

    limit = max(SMALLEST_LIMIT, float(table["change"].abs().max()))
    panel = HeatPanel(
        "",
        tuple(rows),
        tuple(columns),
        matrix("change"),
        matrix("half"),
        limit,
        "fine-tuned on",
        "tested on",
    )
    legend = (
        figures.LegendEntry("below the base model: forgotten", "less", "square", line=False),
        figures.LegendEntry("above the base model", "more", "square", line=False),
    )
    return FigureSpec((panel,), legend)


def draw_forgetting(results: Results, tables) -> FigureSpec | None:
    """Mean change on the other tasks' sets by checkpoint, a line per fine-tuning set."""
    table = tables["transfer_by_checkpoint"]
    table = table.dropna(subset=["change"]) if len(table) else table
    if table.empty:
        return None
    line = figures.track(results)
    legend = figures.entries(f"after {name}" for name in dict.fromkeys(table["tuned_on"]))
    drawn = tuple(
        figures.series(
            line, table[table["tuned_on"] == label.removeprefix("after ")], entry, "change"
        )
        for label, entry in legend.items()
    )
    axis = figures.Axis("change on other tasks")
    panel = LinePanel("", line.axis, axis, drawn, (figures.Level(0.0, ""),))
    return FigureSpec(figures.one_range([panel]), tuple(legend.values()))


def say_transfer(results: Results, tables):
    """Pooled transfer by kind of task: the change, and the ratio where there is one."""
    for _, row in tables["transfer_by_kind"].iterrows():
        if pd.isna(row["low"]):
            continue
        text = (
            f"Task transfer, {row['tuned_on']} → {row['task']}: mean change {with_interval(row)} "
            f"over {count(row['cells'], 'pair')}"
        )
        text += "" if is_clear(row) else f", {unclear(row)}"
        with_ratio = row["cells"] - row["no_ratio"]
        if not pd.isna(row["relative"]):
            text += (
                f"; {signed(100 * row['relative'], 0)} % of the base score in the {with_ratio} "
                "whose base is clearly above zero and its baseline"
            )
        yield Sentence(text + ".", is_clear(row) and row["p_holm"] < LEVEL, effect(row))


def show_by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: changes first, then ratios."""
    return pd.DataFrame(
        {
            "fine-tuned on → tested on": _arrows(table),
            "mean change": _pm(table, "change"),
            "relative to base": _pm(table, "relative", "relative_", 100, 0, " %"),
            "pairs": table["cells"].astype(str),
            "without ratio": table["no_ratio"].astype(str),
            "missing": table["missing"].astype(str),
        }
    )


def show_mrc(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table of the study's statistic."""
    return pd.DataFrame(
        {
            "fine-tuned on → tested on": _arrows(table),
            "mean ratio of change": _pm(table, "relative", "relative_", 100, 1, " %"),
            "pairs": table["cells"].astype(str),
            "base score zero": table["no_ratio"].astype(str),
        }
    )


def _arrows(table):
    return [f"{row.tuned_on} → {row.task}" for row in table.itertuples()]


def _pm(table, name, prefix="", scale=1.0, digits=3, unit=""):
    columns = (table[name], table[f"{prefix}low"], table[f"{prefix}high"])
    texts = (
        plus_minus(*values, scale=scale, digits=digits) for values in zip(*columns, strict=True)
    )
    return [text + unit if text != "–" else text for text in texts]


QUESTION = "What is forgotten: fine-tuning on one task, tested on another"
AT = {name: PLACE_COLUMNS[name] for name in ("tuned_on", "task", "checkpoint")}
KINDS = {"tuned_on": "kind of the fine-tuning set", "task": "kind of the set that is scored"}
STUDYS_RATIO = "Mean of (fine-tuned − base) / base over the pairs whose base score is above zero. "
MATRIX = Analysis(
    "task_transfer",
    "Task transfer",
    task_transfer,
    {
        "tuned_on": AT["tuned_on"],
        "task": AT["task"],
        "own": "whether the set belongs to the fine-tuning set's own task",
        **POOLED_COLUMNS,
        **CORRECTED_COLUMNS,
    },
    QUESTION,
    draw_matrix,
    "Change of each task's in-domain set after fine-tuning on each set, mean over checkpoints, ± "
    "half the width of the 95 % interval.",
)
BY_KIND = Analysis(
    "transfer_by_kind",
    "Task transfer by kind of task",
    transfer_by_kind,
    {**KINDS, **POOLED_COLUMNS, **CORRECTED_COLUMNS},
    QUESTION,
    caption="Pooled over checkpoints and over the sets of other tasks, ± half the width of the "
    "95 % interval. The change relative to the base score is over the pairs whose base score is "
    "clearly above zero and above its baseline.",
    sentences=say_transfer,
    shown=show_by_kind,
)
BY_CHECKPOINT = Analysis(
    "transfer_by_checkpoint",
    "Forgetting over pre-training",
    transfer_by_checkpoint,
    {"tuned_on": AT["tuned_on"], "checkpoint": AT["checkpoint"], **POOLED_COLUMNS}
    | CORRECTED_COLUMNS,
    QUESTION,
    draw_forgetting,
    "Change after fine-tuning (fine-tuned − base), mean over the other tasks' sets, with 95 % "
    "intervals.",
)
MRC = Analysis(
    "mean_ratio_of_change",
    "The study's mean ratio of change, by checkpoint",
    mean_ratio_of_change,
    {"tuned_on": AT["tuned_on"], "checkpoint": AT["checkpoint"], **POOLED_COLUMNS}
    | CORRECTED_COLUMNS
    | {"relative": STUDYS_RATIO.strip()},
    QUESTION,
)
MRC_BY_KIND = Analysis(
    "mrc_by_kind",
    "The study's mean ratio of change",
    mrc_by_kind,
    {**KINDS, **POOLED_COLUMNS, **CORRECTED_COLUMNS} | {"relative": STUDYS_RATIO.strip()},
    QUESTION,
    caption=STUDYS_RATIO + "This is the statistic that the study reports (MRC). Base scores "
    "near zero dominate it, so that it may rank models otherwise than the change itself.",
    shown=show_mrc,
    note="± is half the width of the 95 % interval.",
)
