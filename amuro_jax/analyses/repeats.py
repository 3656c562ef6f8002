"""Trainings that a study repeats: over seeds, and in several ways on one set. No jax."""

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import (
    LEVEL,
    PLACE_COLUMNS,
    beside,
    corrected,
    uncertainty_columns,
)
from amuro_jax.analyses.words import count, effect, signed
from amuro_jax.results.pooled import IDENTITY
from amuro_jax.results.results import Results

MOST_ROWS = 16  # of a panel of the figure of variants
VARIANT = "way of tuning on the set; empty: the study's first"


def seeds(results: Results, _=None) -> pd.DataFrame:
    """Mean and spread over training seeds of every fine-tuned score that has several."""
    every = results.every
    if every is None or every["seed"].isna().all():
        return pd.DataFrame()
    lines = []
    for identity, group in every[every["tuned_on"] != ""].groupby(IDENTITY, sort=False):
        values = group["value"].to_numpy(np.float64)
        lines.append(
            {
                **dict(zip(IDENTITY, identity, strict=True)),
                "role": group["role"].iloc[0],
                "seeds": len(group),
                "mean": values.mean(),
                "seed_sd": values.std(ddof=1) if len(values) > 1 else np.nan,
                "lowest": values.min(),
                "highest": values.max(),
                "rows_stderr": group["stderr"].mean(),
            }
        )
    return pd.DataFrame(lines)


def shown_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: each set on its own models, mean ± standard deviation over seeds."""
    own = table[table["role"] == "in_domain"]
    spread = [
        f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"
        for mean, sd in zip(own["mean"], own["seed_sd"], strict=True)
    ]
    columns = ["checkpoint", "tuned_on", "variant", "task", "format", "seeds"]
    return own[columns].assign(**{"mean ± sd over seeds": spread})


def say_seeds(results: Results, tables):
    """The spread over seeds beside the uncertainty of the test rows."""
    table = tables["seeds"]
    if table.empty or table["seed_sd"].isna().all():
        return
    known = table.dropna(subset=["seed_sd"])
    spread, rows = known["seed_sd"].median(), known["rows_stderr"].median()
    worst = known.loc[known["seed_sd"].idxmax()]
    yield Sentence(
        f"Over {count(int(known['seeds'].max()), 'training seed')} a fine-tuned score has a "
        f"standard deviation of {spread:.3f} (median of {count(len(known), 'score')}; standard "
        f"error over test rows {rows:.3f}); largest: {worst['seed_sd']:.3f} on {worst['task']} "
        f"after {worst['tuned_on']} from {worst['checkpoint']}."
    )


def variants(results: Results, _=None) -> pd.DataFrame:
    """Every further way of tuning on a set against the study's first, on the same rows."""
    cells = results.variants
    if cells is None or (cells["variant"] == "").all():
        return pd.DataFrame()
    other = cells[cells["variant"] != cells["tuned_on"].map(_first(results))]
    lines = []
    for cell in other[other["tuned_on"] != ""].to_dict("records"):
        first = results.find(
            cell["checkpoint"], cell["tuned_on"], cell["task"], cell["format"], cell["shots"]
        )
        place = {name: cell[name] for name in (*IDENTITY, "role")}
        lines.append(place | beside(results, cell, first, "first"))
    return corrected(lines, ["variant", "tuned_on"])


def _first(results):
    return results.cells.drop_duplicates("tuned_on").set_index("tuned_on")["variant"].to_dict()


def say_variants(results: Results, tables):
    """Per set and variant, at how many checkpoints it is clearly better or worse than the first."""
    table = tables["variants"]
    if table.empty:
        return
    own = table[(table["task"] == table["tuned_on"]) & (table["format"] == _main(results, table))]
    for (task, variant), points in own.dropna(subset=["low"]).groupby(["task", "variant"]):
        clear = points[points["p_holm"] < LEVEL]
        better, worse = int((clear["difference"] > 0).sum()), int((clear["difference"] < 0).sum())
        last = points.iloc[-1]
        text = (
            f"{task} tuned as {variant}, against {_called(results, task)}: clearly better at "
            f"{better} and worse at {worse} of {count(len(points), 'checkpoint')} (Holm); "
            f"{signed(last['difference'])} at {last['checkpoint']}."
        )
        size = max((effect(row, "difference") for _, row in clear.iterrows()), default=0.0)
        yield Sentence(text, bool(better or worse), size)


def _main(results, table):
    return table["task"].map(lambda task: results.main[task][0])


def _called(results, task):
    return _first(results).get(task) or "the study's first way"


def shown_variants(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: each set on its own models."""
    own = table[table["role"] == "in_domain"]
    columns = ["checkpoint", "tuned_on", "variant", "task", "format", "first", "value"]
    return own[columns].assign(difference=own["difference"].map(signed))


def draw_variants(results: Results, tables) -> figures.FigureSpec | None:
    """A panel per fine-tuning set, on its own rows in the main format: what each further way of
    tuning changes at each checkpoint; of many, at those that fit.
    """
    table = tables["variants"]
    if table.empty:
        return None
    own = table[(table["task"] == table["tuned_on"]) & (table["format"] == _main(results, table))]
    own = own.dropna(subset=["low"])
    names = list(dict.fromkeys(own["variant"]))[: len(figures.SERIES)]
    colors = dict(zip(names, figures.SERIES, strict=False))
    most = max(1, MOST_ROWS // max(1, len(names)))
    panels = []
    for task, points in own[own["variant"].isin(names)].groupby("task", sort=False):
        shown = list(dict.fromkeys(points["checkpoint"]))[-most:]
        rows = tuple(
            figures.Interval(
                f"{row.variant}, {row.checkpoint}",
                row.difference,
                row.low,
                row.high,
                colors[row.variant],
            )
            for name in names
            for row in points[points["variant"] == name].itertuples()
            if row.checkpoint in shown
        )
        panels.append(figures.IntervalPanel(task, figures.Axis("score − first way's"), rows))
    legend = tuple(figures.LegendEntry(name, colors[name], line=False) for name in names)
    return figures.FigureSpec(tuple(panels), legend, columns=2) if panels else None


def rates(results: Results, _=None) -> pd.DataFrame:
    """The trainings among which each checkpoint's learning rate was chosen."""
    return results.rates()


def say_rates(results: Results, tables):
    """Whether the best rate is the same for every checkpoint."""
    table = tables["rates"]
    for task, points in table[table["best"].astype(bool)].groupby("tuned_on") if len(table) else ():
        values = sorted(points["learning_rate"].unique())
        what = ", ".join(f"{value:g}" for value in values)
        same = (
            "one rate is the best from every checkpoint"
            if len(values) == 1
            else (f"the best rate depends on the checkpoint ({what})")
        )
        yield Sentence(
            f"{task}: {same}, by the loss on rows that were kept out of training "
            f"({count(len(points), 'choice')}).",
            len(values) > 1,
        )


def shown_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: every rate with its loss, the chosen one marked."""
    marks = table["best"].map({True: "chosen", False: ""})
    columns = ["checkpoint", "tuned_on", "seed", "learning_rate", "held_out_loss"]
    return table[columns].assign(held_out_loss=table["held_out_loss"].round(4), best=marks)


SEEDS = Analysis(
    "seeds",
    "Spread over training seeds",
    seeds,
    {
        **{name: PLACE_COLUMNS[name] for name in ("checkpoint", "tuned_on", "task", "role")},
        "variant": VARIANT,
        "format": PLACE_COLUMNS["format"],
        "shots": PLACE_COLUMNS["shots"],
        "seeds": "trainings that were scored",
        "mean": "mean score over seeds",
        "seed_sd": "standard deviation of the score over seeds",
        "lowest": "lowest score of a seed",
        "highest": "highest score of a seed",
        "rows_stderr": "mean over seeds of the bootstrap standard error over test rows",
    },
    "How much another training seed would change",
    caption="Every fine-tuned score that was computed with several seeds of training (order of the "
    "examples, initial adapter). Everywhere else in the report a fine-tuned score is the mean over "
    "them, and its interval is that of the test rows.",
    sentences=say_seeds,
    shown=shown_seeds,
    note="Mean ± standard deviation over seeds, sets in the domain of their model.",
)
VARIANTS = Analysis(
    "variants",
    "Ways of tuning on one set",
    variants,
    {
        **{name: PLACE_COLUMNS[name] for name in ("checkpoint", "tuned_on", "task", "role")},
        "variant": VARIANT,
        "format": PLACE_COLUMNS["format"],
        "shots": PLACE_COLUMNS["shots"],
        "value": "score of the model that was tuned in this way",
        "first": "score of the model that was tuned in the study's first way",
        "difference": "value − first on the same rows",
        **uncertainty_columns(),
        "p_holm": "p with Holm's correction over the variant's scores on models of one set",
    },
    "Does it matter how a checkpoint is tuned",
    figure=draw_variants,
    caption="Each further way of tuning on a set (LoRA, another loss, a rate chosen for each "
    "checkpoint) against the study's first, which is the one that all other sections show.",
    sentences=say_variants,
    shown=shown_variants,
    note="Scores of sets in the domain of their model.",
)
RATES = Analysis(
    "rates",
    "Learning rates chosen for each checkpoint",
    rates,
    {
        **{name: PLACE_COLUMNS[name] for name in ("checkpoint", "tuned_on")},
        "step": "pre-training step",
        "seed": "of the training",
        "lora_rank": "of the adapter; empty: all parameters were trained",
        "learning_rate": "peak learning rate",
        "held_out_loss": "loss on the rows of the training set that were kept out of training",
        "candidate": "whether the rate is one of those among which is chosen",
        "best": "whether it was chosen",
    },
    "Does it matter how a checkpoint is tuned",
    caption="Where a set names several learning rates, each checkpoint is tuned with each of them, "
    "and the one with the lowest loss on rows that were kept out of training is scored as the "
    'variant `best rate`, beside the fixed rate (section "Ways of tuning on one set").',
    sentences=say_rates,
    shown=shown_rates,
)
