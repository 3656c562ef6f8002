"""In and out of domain, always compared in one format. No jax."""

import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import (
    CORRECTED_COLUMNS,
    LEVEL,
    PLACE_COLUMNS,
    POOLED_COLUMNS,
    change,
    pairs_of,
    pooled,
    uncertainty,
    uncertainty_columns,
    with_families,
)
from amuro_jax.analyses.figures import FigureSpec, Interval, IntervalPanel, LegendEntry, LinePanel
from amuro_jax.analyses.words import effect, is_clear, listed, plus_minus, unclear, with_interval
from amuro_jax.results.results import Results

LOOKS = {
    "in_domain": LegendEntry("in domain", "tuned", "square", line=False),
    "out_of_domain": LegendEntry("out of domain", "b", "circle", line=False),
}


def ood_change(results: Results, _=None) -> pd.DataFrame:
    """In-domain and out-of-domain change of each fine-tuning set's models, mean over checkpoints.

    The sets of one fine-tuning set are compared in the first format and number of shots that the
    study asks for with all of them; where there is none, each in its main one, and `same_format`
    says so.
    """
    lines = []
    for tuned_on in results.fine_tuning_sets():
        tasks = [
            task
            for task in results.tasks("in_domain", "out_of_domain")
            if tuned_on in results.tuned_on(task)
        ]
        common = results.common_view(*tasks) if tasks else None
        for task in tasks:
            view = common or results.main[task]
            pairs = pairs_of(results, results.distinct, tuned_on, task, view)
            lines.append(
                {
                    "tuned_on": tuned_on,
                    "task": task,
                    "role": results.role(task),
                    "format": view[0],
                    "shots": view[1],
                    "same_format": common is not None,
                    **pooled(results, pairs),
                }
            )
    return with_families(pd.DataFrame(lines), "sets of the role", ["role"])


def ood_by_checkpoint(results: Results, tables) -> pd.DataFrame:
    """The out-of-domain change of each fine-tuning set's models at each checkpoint, in the format
    of `ood_change`.
    """
    table, lines = tables["ood_change"], []
    outside = table[table["role"] == "out_of_domain"] if len(table) else table
    for row in outside.itertuples():
        view = (row.format, row.shots)
        for checkpoint in results.checkpoints:
            cells = pairs_of(results, [checkpoint], row.tuned_on, row.task, view)[0]
            mean = results.estimate(change, list(cells))
            lines.append(
                {
                    "tuned_on": row.tuned_on,
                    "task": row.task,
                    "checkpoint": checkpoint,
                    "format": row.format,
                    "change": mean.value,
                    **uncertainty(mean),
                }
            )
    of = "checkpoints of the set and fine-tuning set"
    return with_families(pd.DataFrame(lines), of, ["tuned_on", "task"])


def draw_by_checkpoint(results: Results, tables) -> FigureSpec | None:
    """Out-of-domain change over pre-training, a line per set."""
    table = tables["ood_by_checkpoint"]
    table = table.dropna(subset=["change"]) if len(table) else table
    if table.empty:
        return None
    line, drawn = figures.track(results), []
    names = {
        f"{row.task} after {row.tuned_on}": (row.task, row.tuned_on) for row in table.itertuples()
    }
    legend = figures.entries(names)
    for label, (task, tuned_on) in names.items():
        points = table[(table["task"] == task) & (table["tuned_on"] == tuned_on)]
        drawn.append(figures.series(line, points, legend[label], "change"))
    axis = figures.Axis("fine-tuned − base")
    panel = LinePanel("", line.axis, axis, tuple(drawn), (figures.Level(0.0, ""),))
    return FigureSpec(figures.one_range([panel]), tuple(legend.values()))


def draw_domains(results: Results, tables) -> FigureSpec | None:
    """Change in and out of domain, one line per test set and fine-tuning set."""
    table = tables["ood_change"]
    table = table.dropna(subset=["change"]) if len(table) else table
    if table.empty:
        return None
    rows = tuple(
        Interval(
            row.task,
            row.change,
            row.low,
            row.high,
            LOOKS[row.role].color,
            LOOKS[row.role].marker,
        )
        for row in table.itertuples()
    )
    axis = figures.Axis("fine-tuned − base, mean over checkpoints")
    return FigureSpec((IntervalPanel("", axis, rows),), tuple(LOOKS.values()))


def say_domains(results: Results, tables):
    """One finding per out-of-domain set, beside what happens in domain."""
    table = tables["ood_change"]
    if table.empty:
        return
    inside = table[table["role"] == "in_domain"]
    for _, row in table[table["role"] == "out_of_domain"].dropna(subset=["low"]).iterrows():
        text = (
            f"Out of domain, fine-tuning on {row['tuned_on']} changes {row['task']} by "
            f"{with_interval(row)}"
        )
        text += "" if is_clear(row) else f", {unclear(row)}"
        beside = inside[inside["tuned_on"] == row["tuned_on"]].dropna(subset=["low"])
        if len(beside) and row["same_format"]:
            values = (plus_minus(one.change, one.low, one.high) for one in beside.itertuples())
            text += f"; in domain {listed(values)}, in the same format ({row['format']})"
        elif len(beside):
            text += "; no format is common with the in-domain set"
        yield Sentence(
            f"{text}; mean over checkpoints.",
            is_clear(row) and row["p_holm"] < LEVEL,
            effect(row),
        )


QUESTION = "Does what is learned carry over to other data of the task"
DOMAINS = Analysis(
    "ood_change",
    "In and out of domain",
    ood_change,
    {
        **{name: PLACE_COLUMNS[name] for name in ("tuned_on", "task", "role", "format", "shots")},
        "same_format": "whether all sets of the fine-tuning set are compared in this format",
        **POOLED_COLUMNS,
        **CORRECTED_COLUMNS,
    },
    QUESTION,
    draw_domains,
    "Change after fine-tuning, mean over checkpoints, with 95 % intervals. The sets of a task are "
    "compared in one format.",
    say_domains,
)
BY_CHECKPOINT = Analysis(
    "ood_by_checkpoint",
    "Out of domain over pre-training",
    ood_by_checkpoint,
    {
        **{name: PLACE_COLUMNS[name] for name in ("tuned_on", "task", "checkpoint", "format")},
        "change": "fine-tuned − base on the out-of-domain set",
        **uncertainty_columns(),
        **CORRECTED_COLUMNS,
    },
    QUESTION,
    draw_by_checkpoint,
    "Change of each out-of-domain set after fine-tuning, by checkpoint, with 95 % intervals.",
)
