"""What noise on the weights costs base models, and what fine-tuning costs them on the sets that
pre-training has taught. No jax.
"""

import dataclasses

import numpy as np
import pandas as pd

from amuro_jax.analyses import series
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import PLACE_COLUMNS, change, uncertainty, uncertainty_columns
from amuro_jax.analyses.figures import FigureSpec, LinePanel, entries, one_range
from amuro_jax.analyses.figures import Series as Drawn
from amuro_jax.analyses.row_metrics import GOLD, row_values
from amuro_jax.analyses.words import count, plus_minus, with_interval
from amuro_jax.curves.curve import make_curve
from amuro_jax.curves.sensitivity import sensitivities
from amuro_jax.evals.statistics import NORMAL_95
from amuro_jax.results.results import Results
from amuro_jax.variants import is_derived, noise_of


def sensitivity(results: Results, _=None) -> pd.DataFrame:
    """A line per base model, set and size of noise: the mean change of the score, and of the
    log-probability of the right answer.
    """
    noise = results.noise
    if noise is None or noise.empty:
        return pd.DataFrame()
    sizes = noise["variant"].map(lambda name: noise_of(name).sigma).rename("sigma")
    lines = []
    for (task, sigma), cells in noise.groupby(["task", sizes], sort=False):
        by_checkpoint = dict(iter(cells.groupby("checkpoint", sort=False)))
        chosen = [
            (results.find(name, "", task), by_checkpoint[name].to_dict("records"))
            for name in results.distinct
            if name in by_checkpoint
        ]
        lines += _lines(results, sigma, [pair for pair in chosen if pair[0] is not None])
    return pd.DataFrame(lines)


def _lines(results, sigma, pairs):
    """Of one set and size of noise; `pairs` are a base model's cell and those with its noise."""
    estimates = [results.estimate(_mean_change, [base, *noisy]) for base, noisy in pairs]
    changes = [np.array([one["value"] for one in noisy]) - base["value"] for base, noisy in pairs]
    made = sensitivities(changes, np.array([one.stderr for one in estimates]))
    for (base, noisy), one in zip(pairs, made, strict=True):
        yield {
            **{name: base[name] for name in ("checkpoint", "task", "format", "shots")},
            "sigma": sigma,
            "draws": len(noisy),
            "score": base["value"],
            **dataclasses.asdict(one),
            "gold_change": _gold_change(results, base, noisy),
        }


def _mean_change(scores):
    return scores[..., 1:].mean(axis=-1) - scores[..., 0]


def _gold_change(results, base, noisy):
    """Mean change of the right answer's log-probability, nats; NaN of generated text."""
    values = []
    for cell in (base, *noisy):
        rows = results.rows(cell["key"])
        gold = None if rows is None else row_values(rows).get(GOLD)
        if gold is None:
            return np.nan
        values.append(gold.mean())
    return float(np.mean(values[1:]) - values[0])


def say_sensitivity(results: Results, tables):
    """Per set what the largest noise costs the first and the last base model."""
    table = tables["sensitivity"]
    if table.empty:
        return
    largest = table[table["sigma"] == table["sigma"].max()]
    for task, points in largest.groupby("task", sort=False):
        first, last = points.iloc[0], points.iloc[-1]
        if len(points) < 2 or np.isnan(first["low"]):
            continue
        grown = last["change"] - first["change"]
        half = np.hypot(*((row["high"] - row["low"]) / 2 for row in (first, last)))
        clear = bool(abs(grown) > half)
        trend = ("more" if grown < 0 else "less") if clear else "not distinguishably more or less"
        yield Sentence(
            f"Noise of {last['sigma']:g} on the weights changes {task} by "
            f"{with_interval(first)} at {first['checkpoint']} and by {with_interval(last)} at "
            f"{last['checkpoint']}: the later model loses {trend}.",
            clear,
            NORMAL_95 * abs(grown) / half if half > 0 else 0.0,
        )


def draw_sensitivity(results: Results, tables):
    """The change by checkpoint, a line for each size of noise."""
    table = tables["sensitivity"]
    if table.empty:
        return None
    place = results.cells.drop_duplicates("checkpoint").set_index("checkpoint")
    labels = {size: f"σ {size:g}" for size in sorted(table["sigma"].unique())}
    legend, panels = entries(labels.values()), []
    for task, of_task in table.groupby("task", sort=False):
        lines = []
        for sigma, points in of_task.groupby("sigma", sort=True):
            named = place.loc[points["checkpoint"], ["step", "tokens"]]
            curve = make_curve(
                list(points["checkpoint"]), *(list(named[one]) for one in named),
                list(points["change"]), list(points["draws_sd"]),
            )  # fmt: skip
            points = points.iloc[curve.places]
            entry = legend[labels[sigma]]
            lines.append(
                Drawn(
                    entry.label,
                    entry.color,
                    tuple(series.x_of(curve)),
                    tuple(curve.value),
                    tuple(points["low"].fillna(points["change"])),
                    tuple(points["high"].fillna(points["change"])),
                    names=curve.names,
                    marker=entry.marker,
                )
            )
        axis = series.axis_of(curve.unit, [x for line in lines for x in line.x])
        panels.append(LinePanel(task, axis, series.AXIS_OF_CHANGES, tuple(lines), task=task))
    return FigureSpec(one_range(panels), tuple(legend.values()))


def show_sensitivity(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    return pd.DataFrame(
        {
            "checkpoint": table["checkpoint"],
            "set": table["task"],
            "σ": table["sigma"],
            "score": table["score"].round(3),
            "change": [plus_minus(row.change, row.low, row.high) for row in table.itertuples()],
            "log-probability of the right answer": table["gold_change"].round(3),
        }
    )


def forgetting(results: Results, _=None) -> pd.DataFrame:
    """What fine-tuning changes on the multiple-choice sets: a line per fine-tuned model and set."""
    cells = results.cells if results.variants is None else results.variants
    chosen = cells[(cells["role"] == "multiple_choice") & (cells["tuned_on"] != "")]
    lines = []
    for cell in chosen.to_dict("records"):
        if is_derived(cell["variant"]):  # averages have a table of their own
            continue
        base = results.find(cell["checkpoint"], "", cell["task"], cell["format"], cell["shots"])
        moved = results.estimate(change, [base, cell])
        lines.append(
            {
                **{name: cell[name] for name in _OF_MODEL},
                "base": np.nan if base is None else base["value"],
                "tuned": cell["value"],
                "change": moved.value,
                **uncertainty(moved),
            }
        )
    return pd.DataFrame(lines)


_OF_MODEL = ("checkpoint", "tuned_on", "variant", "task", "format", "shots")


def say_forgetting(results: Results, tables):
    """How many models of the last checkpoint lose, and what loses most."""
    table = tables["forgetting"].dropna(subset=["low"])
    last = table[table["checkpoint"] == results.distinct[-1]]
    if last.empty:
        return
    most = last.loc[last["change"].idxmin()]
    lost = int((last["high"] < 0).sum())
    yield Sentence(
        f"Multiple choice at {most['checkpoint']} is clearly worse after fine-tuning in {lost} of "
        f"{count(len(last), 'score')}; lowest change {with_interval(most)}, on {most['task']} "
        f"after {most['tuned_on']}.",
        lost > 0,
    )


def show_forgetting(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    return pd.DataFrame(
        {
            "checkpoint": table["checkpoint"],
            "model": "after " + table["tuned_on"],
            "way": table["variant"],
            "set": table["task"],
            "base": table["base"].round(3),
            "change": [plus_minus(row.change, row.low, row.high) for row in table.itertuples()],
        }
    )


SENSITIVITY = Analysis(
    "sensitivity",
    "Sensitivity to noise on the weights",
    sensitivity,
    {
        **{name: PLACE_COLUMNS[name] for name in ("checkpoint", "task", "format", "shots")},
        "sigma": "standard deviation of the noise, in units of each matrix's root mean square",
        "draws": "draws of the noise",
        "score": "score without noise",
        "change": "score with noise − score, mean over draws",
        "low": "lower end of its 95 % interval over test rows and draws",
        "high": "upper end of its 95 % interval over test rows and draws",
        "draws_sd": "standard deviation over draws, one for all checkpoints of a set and size",
        "gold_change": "mean change of the log-probability of the right answer, nats",
    },
    "Do models become more sensitive with more pre-training",
    figure=draw_sensitivity,
    caption="Gaussian noise is added to every matrix of the base model, layer by layer in "
    "proportion to its root mean square; the same draws for every checkpoint. Growing sensitivity "
    "is what arXiv 2503.19206 blames for models that are harder to fine-tune after more "
    "pre-training.",
    sentences=say_sensitivity,
    shown=show_sensitivity,
)
FORGETTING = Analysis(
    "forgetting",
    "What fine-tuning costs on the sets of pre-training",
    forgetting,
    {
        **{name: PLACE_COLUMNS[name] for name in ("checkpoint", "tuned_on", "task")},
        "variant": series.SERIES_COLUMNS["variant"],
        "format": PLACE_COLUMNS["format"],
        "shots": PLACE_COLUMNS["shots"],
        "base": "score of the base model",
        "tuned": "score after fine-tuning",
        "change": "tuned − base on the same rows",
        **uncertainty_columns(),
    },
    "What is forgotten in fine-tuning",
    caption="Multiple-choice sets, each fine-tuned model by itself.",
    sentences=say_forgetting,
    shown=show_forgetting,
)
