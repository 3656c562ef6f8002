"""Base and fine-tuned scores over pre-training. No jax."""

import itertools

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis
from amuro_jax.analyses.changes import PLACE_COLUMNS, baseline, mean
from amuro_jax.analyses.figures import FigureSpec, Level, LinePanel
from amuro_jax.evals.statistics import NORMAL_95
from amuro_jax.results.results import Results


def scores(results: Results, _=None) -> pd.DataFrame:
    """Base and own fine-tuned score by set and checkpoint, in the set's main view."""
    lines = []
    for task, checkpoint in itertools.product(results.tasks(), results.checkpoints):
        base = results.find(checkpoint, "", task)
        tuned = results.estimate(
            mean, [results.find(checkpoint, name, task) for name in results.tuned_on(task)]
        )
        low, high = _interval(base)
        lines.append(
            {
                "task": task,
                "role": results.role(task),
                "metric": figures.metric_name(results, task),
                "checkpoint": checkpoint,
                "base": np.nan if base is None else base["value"],
                "base_stderr": np.nan if base is None else base["stderr"],
                "base_low": low,
                "base_high": high,
                "tuned": tuned.value,
                "tuned_stderr": tuned.stderr,
                "tuned_low": tuned.low,
                "tuned_high": tuned.high,
                "models": len(results.tuned_on(task)),
                "baseline": np.nan if base is None else baseline(base),
                "duplicate_of": results.duplicate_of.get(checkpoint, ""),
            }
        )
    return pd.DataFrame(lines)


def _interval(cell):
    if cell is None:
        return np.nan, np.nan
    if pd.isna(cell["low"]):
        half = NORMAL_95 * cell["stderr"]
        return cell["value"] - half, cell["value"] + half
    return cell["low"], cell["high"]


def draw_curves(results: Results, tables) -> FigureSpec:
    """One panel per set: base and fine-tuned, with bands and the baseline."""
    line, table = figures.track(results), tables["scores"]
    panels = []
    for task in results.tasks():
        points = table[table["task"] == task]
        height = points["baseline"].dropna()
        levels = (Level(height.iloc[-1], "baseline"),) if len(height) else ()
        drawn = (
            figures.series(line, points, figures.BASE, "base", "base_low", "base_high"),
            figures.series(line, points, figures.TUNED, "tuned", "tuned_low", "tuned_high"),
        )
        metric = figures.Axis(figures.metric_name(results, task))
        panels.append(LinePanel(task, line.axis, metric, drawn, levels, task))
    return FigureSpec(figures.one_range(panels), (figures.BASE, figures.TUNED))


CELL_COLUMNS = {
    **PLACE_COLUMNS,
    "variant": "way of tuning on the set; empty: the study's first",
    "seed": "of the training, where the study repeats it",
    "step": "pre-training step",
    "tokens": "pre-training tokens",
    "of": "fine-tuning sets that the set belongs to",
    "group": "where the configuration says that the set is learned",
    "key": "content key: the folder under cells/",
}

SCORES = Analysis(
    "scores",
    "Base and fine-tuned over pre-training",
    scores,
    {
        **{name: PLACE_COLUMNS[name] for name in ("task", "role", "checkpoint")},
        "metric": "what the score is",
        "base": "score of the base model",
        "base_stderr": "its bootstrap standard error",
        "base_low": "lower end of its 95 % interval",
        "base_high": "upper end of its 95 % interval",
        "tuned": "mean score of the set's fine-tuned models",
        "tuned_stderr": "its bootstrap standard error",
        "tuned_low": "lower end of its 95 % interval",
        "tuned_high": "upper end of its 95 % interval",
        "models": "number of fine-tuned models behind `tuned`",
        "baseline": "majority class or chance, whichever is higher; for generated text the score "
        "of another row's reference",
        "duplicate_of": "checkpoint that serves the same weights",
    },
    "Which scores rise, and what fine-tuning makes of them",
    draw_curves,
    "The base model and the model fine-tuned on the set's own task (multiple choice: mean over all "
    "fine-tuned models), in each set's main format and number of shots. Bands: 95 % intervals over "
    "test rows. Baseline: the majority class or chance, whichever is higher; for generated text "
    "the score of another row's reference. Panels of one metric have one vertical range.",
)
CELLS = Analysis(
    "cells",
    "Every score",
    lambda results, _: results.cells if results.every is None else results.every,
    {
        **CELL_COLUMNS,
        "protocol": "protocol, with switched quirks",
        "method": "how an answer is read off the model",
        "metric": "what the score is",
        "value": "score",
        "stderr": "bootstrap standard error over test rows",
        "low": "lower end of the 95 % interval",
        "high": "upper end of the 95 % interval",
        "n": "scored rows",
        "majority": "score of always giving the most frequent answer",
        "chance": "score of guessing",
        "seconds": "wall time of scoring",
        "weights": "identity of the checkpoint's weights",
    },
)
MISSING = Analysis(
    "missing_cells",
    "Missing scores",
    lambda results, _: results.missing,
    {**CELL_COLUMNS, "why": "why it is missing"},
)
