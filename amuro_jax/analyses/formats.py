"""Sensitivity to the prompt format. No jax."""

import itertools

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import PLACE_COLUMNS, uncertainty, uncertainty_columns
from amuro_jax.analyses.figures import FigureSpec, LinePanel
from amuro_jax.results.estimate import NOTHING, estimate_from_draws
from amuro_jax.results.results import Results


def format_sensitivity(results: Results, _=None) -> pd.DataFrame:
    """Spread over formats (highest − lowest score) of base and own fine-tuned models.

    The spread of equal formats is above zero by chance alone: `expected` is its mean over the draws
    when each format's draws are moved to the common mean.
    """
    lines = []
    for task in results.tasks():
        names = results.formats(task)
        if len(names) < 2:
            continue
        for tuned_on, checkpoint in itertools.product(
            ["", *results.tuned_on(task)], results.checkpoints
        ):
            shots = results.main[task][1]
            cells = [results.find(checkpoint, tuned_on, task, name, shots) for name in names]
            spread, expected, draws = _spread(results, cells)
            if draws is not None:
                _keep(results, tuned_on, checkpoint, spread.value, draws)
            line = {
                "task": task,
                "tuned_on": tuned_on,
                "checkpoint": checkpoint,
                "spread": spread.value,
                **uncertainty(spread),
                "expected": expected,
            }
            for name, cell in zip(names, cells, strict=True):
                for suffix, column in (("", "value"), (" low", "low"), (" high", "high")):
                    line[f"{name}{suffix}"] = np.nan if cell is None else cell[column]
            lines.append(line)
    return pd.DataFrame(lines).drop(columns=["p", "p_equivalent"], errors="ignore")


def _spread(results, cells):
    if any(cell is None for cell in cells):
        return NOTHING, np.nan, None
    draws = np.stack([results.draws[cell["key"]] for cell in cells])
    widths = draws.max(axis=0) - draws.min(axis=0)
    spread = estimate_from_draws(float(np.ptp([cell["value"] for cell in cells])), widths)
    if np.isnan(spread.stderr):
        return NOTHING, np.nan, None
    centred = draws - draws.mean(axis=1, keepdims=True)
    return spread, float((centred.max(axis=0) - centred.min(axis=0)).mean()), widths


def format_spread(results: Results, tables) -> pd.DataFrame:
    """Mean spread over sets, base and fine-tuned, by checkpoint."""
    table, lines = tables["format_sensitivity"], []
    if table.empty:
        return table
    for kind, checkpoint in itertools.product(("base", "fine-tuned"), results.checkpoints):
        rows = table[
            (table["checkpoint"] == checkpoint) & ((table["tuned_on"] == "") == (kind == "base"))
        ].dropna(subset=["spread"])
        spread = _mean_spread(results, kind, checkpoint)
        lines.append(
            {
                "models": kind,
                "checkpoint": checkpoint,
                "spread": spread.value,
                **uncertainty(spread),
                "expected": rows["expected"].mean(),
                "count": len(rows),
            }
        )
    return pd.DataFrame(lines).drop(columns=["p", "p_equivalent"])


def _keep(results, tuned_on, checkpoint, value, draws):
    """Adds a spread to the sums of which `format_spread` has the means: the draws of all cells
    together do not fit into memory.
    """
    sums = results.derived.setdefault(_SUMS, {})
    kept = sums.setdefault((_kind(tuned_on), checkpoint), [0, 0.0, 0.0])
    kept[:] = kept[0] + 1, kept[1] + value, kept[2] + draws


_SUMS = "format spreads"  # number, sum of values, sum of draws by kind of model and checkpoint


def _kind(tuned_on):
    return "fine-tuned" if tuned_on else "base"


def _mean_spread(results, kind, checkpoint):
    kept = results.derived.get(_SUMS, {}).get((kind, checkpoint))
    return NOTHING if kept is None else estimate_from_draws(*(one / kept[0] for one in kept[1:]))


def draw_formats(results: Results, tables) -> FigureSpec | None:
    """Per set a panel of the base models and one of the fine-tuned ones, a line per format."""
    table = tables["format_sensitivity"]
    if table.empty:
        return None
    line = figures.track(results)
    tasks = list(dict.fromkeys(table["task"]))
    names = list(dict.fromkeys(itertools.chain.from_iterable(map(results.formats, tasks))))
    looks, panels = figures.entries(names), []
    for task, tuned_on in itertools.product(tasks, ["", *results.fine_tuning_sets()]):
        points = table[(table["task"] == task) & (table["tuned_on"] == tuned_on)]
        if points.empty:
            continue
        drawn = tuple(
            figures.series(line, points, looks[name], name, f"{name} low", f"{name} high")
            for name in results.formats(task)
        )
        model = (
            "base" if not tuned_on else "fine-tuned" if tuned_on == task else f"after {tuned_on}"
        )
        metric = figures.Axis(figures.metric_name(results, task))
        panels.append(LinePanel(f"{task}, {model}", line.axis, metric, drawn, task=task))
    return FigureSpec(figures.one_range(panels), tuple(looks.values()), columns=2)


def draw_spread(results: Results, tables) -> FigureSpec | None:
    """Mean spread over formats by checkpoint, base and fine-tuned."""
    table = tables["format_spread"]
    if table.empty or table["spread"].isna().all():
        return None
    line = figures.track(results)
    drawn = tuple(
        figures.series(line, table[table["models"] == entry.label], entry, "spread")
        for entry in (figures.BASE, figures.TUNED)
    )
    panel = LinePanel(
        "", line.axis, figures.Axis("best − worst format"), drawn, (figures.Level(0.0, ""),)
    )
    return FigureSpec(figures.one_range([panel]), (figures.BASE, figures.TUNED))


def say_formats(results: Results, tables):
    """Per set the spread of the last base model and of its fine-tuned one."""
    table = tables["format_sensitivity"]
    if table.empty:
        return
    last = table[table["checkpoint"] == results.checkpoints[-1]].dropna(subset=["spread"])
    for task, points in last.groupby("task", sort=False):
        base, own = points[points["tuned_on"] == ""], points[points["tuned_on"] == task]
        if len(base) and len(own):
            yield _say_spread(results, task, base.iloc[0], own.iloc[0])


def _say_spread(results, task, base, own):
    metric = figures.metric_name(results, task)
    differ = bool(base["low"] > own["high"] or own["low"] > base["high"])
    error = np.hypot(base["stderr"], own["stderr"])
    text = (
        f"Formats, last checkpoint, {task}: {metric} differs by {base['spread']:.3f} between best "
        f"and worst format of the base model ({_best(results, task, base)}; {base['expected']:.3f} "
        f"expected from chance) and by {own['spread']:.3f} after fine-tuning (chance "
        f"{own['expected']:.3f})"
    )
    text += "." if differ else "; the two are not distinguishable."
    size = abs(base["spread"] - own["spread"]) / error if error > 0 else 0.0
    return Sentence(text, differ, size)


def _best(results, task, row):
    values = row[results.formats(task)].astype(float)
    return f"best {values.idxmax()}, worst {values.idxmin()}"


QUESTION = "How much depends on the prompt format"
SPREAD_COLUMNS = {
    name: text
    for name, text in uncertainty_columns(of="of `spread`").items()
    if not name.startswith("p")
}
SENSITIVITY = Analysis(
    "format_sensitivity",
    "Sensitivity to the prompt format",
    format_sensitivity,
    {
        **{name: PLACE_COLUMNS[name] for name in ("task", "tuned_on", "checkpoint")},
        "spread": "highest − lowest score over formats",
        **SPREAD_COLUMNS,
        "expected": "spread that equal formats would show by chance",
    },
    QUESTION,
    draw_formats,
    "The same rows under each format, with 95 % intervals: base models and, beside them, the "
    "models fine-tuned on the set. The closer the lines, the less the wording matters.",
    say_formats,
)
SPREAD = Analysis(
    "format_spread",
    "Spread over formats",
    format_spread,
    {
        "models": "base or fine-tuned",
        "checkpoint": PLACE_COLUMNS["checkpoint"],
        "spread": "mean over sets of highest − lowest score over formats",
        **SPREAD_COLUMNS,
        "expected": "mean spread that equal formats would show by chance",
        "count": "sets and models in the mean",
    },
    QUESTION,
    draw_spread,
    "Best minus worst format, mean over sets, with 95 % intervals. It is above zero by chance "
    "alone: the column `expected` of format_spread.csv has the size to expect from chance.",
)
