"""Averages of the last checkpoints against the last one alone, and of fine-tuned models over seeds
against the mean score of the seeds: is a finding the noise of one model? No jax.
"""

import pandas as pd

from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import (
    LEVEL,
    PLACE_COLUMNS,
    beside,
    corrected,
    uncertainty,
    uncertainty_columns,
)
from amuro_jax.analyses.words import count, effect, signed, with_interval
from amuro_jax.curves.turn import seed_deviations
from amuro_jax.results.estimate import estimate_from_draws
from amuro_jax.results.pooled import seed_values
from amuro_jax.results.results import Results
from amuro_jax.variants import average_of, seeds_of, without_average

_PLACE = ("checkpoint", "tuned_on", "task", "role", "format", "shots")


def averages(results: Results, _=None) -> pd.DataFrame:
    """A line per score of an average, base or tuned from it, with that of its last checkpoint."""
    cells = results.variants if results.variants is not None else results.cells
    lines, pairs = [], []
    for cell in cells.to_dict("records"):
        averaged = _averaged(cell["variant"])
        if not averaged:
            continue
        single = results.find(
            cell["checkpoint"],
            cell["tuned_on"],
            cell["task"],
            cell["format"],
            cell["shots"],
            without_average(cell["variant"]),
        )
        place = {name: cell[name] for name in _PLACE}
        lines.append(place | {"averaged": averaged} | beside(results, cell, single, "single"))
        pairs.append((cell, single))
    _spread_by_seeds(results, lines, pairs)
    return corrected(lines, ["averaged", "tuned_on"])


def _spread_by_seeds(results, lines, pairs):
    """Puts the spread of training seeds into the intervals of models that are tuned from averages
    of checkpoints: each of the two is a mean over trainings of its own. One variance for all
    scores of a set, a format and a number of shots after one fine-tuning.
    """
    groups = {}
    for place, (line, (cell, single)) in enumerate(zip(lines, pairs, strict=True)):
        if line["tuned_on"] and single is not None and average_of(cell["variant"]):
            view = tuple(line[name] for name in ("tuned_on", "task", "format", "shots"))
            groups.setdefault(view, []).append(place)
    for places in groups.values():
        cells = [cell for place in places for cell in pairs[place]]
        count = len(results.draws[cells[0]["key"]])
        spread = seed_deviations(seed_values(results, cells), count)
        if spread is None:
            continue
        for place, of_average, of_single in zip(places, spread[::2], spread[1::2], strict=True):
            average, single = (results.draws[cell["key"]] for cell in pairs[place])
            draws = average - single + of_average - of_single
            lines[place] |= uncertainty(estimate_from_draws(lines[place]["difference"], draws))


def _averaged(variant):
    """`3 checkpoints`, `3 seeds`; "" of a single model."""
    if count := average_of(variant):
        return f"{count} checkpoints"
    return f"{count} seeds" if (count := seeds_of(variant)) else ""


def say_averages(results: Results, tables):
    """At how many checkpoints an average is clearly better or worse than its last checkpoint."""
    table = tables["averages"].dropna(subset=["low"])
    for number, points in table.groupby("averaged", sort=False):
        for what, members in (
            ("base models", points[points["tuned_on"] == ""]),
            ("fine-tuned models", points[points["tuned_on"] != ""]),
        ):
            if members.empty:
                continue
            clear = members[members["p_holm"] < LEVEL]
            better, worse = (
                int((clear["difference"] > 0).sum()),
                int((clear["difference"] < 0).sum()),
            )
            largest = members.loc[members["difference"].abs().idxmax()]
            against = "the mean score of them" if "seeds" in number else "the last of them"
            yield Sentence(
                f"Averages of {number} against {against}, {what}: clearly "
                f"better in {better} and worse in {worse} of {count(len(members), 'score')} "
                f"(Holm); largest difference {with_interval(largest, 'difference')} on "
                f"{largest['task']} at {largest['checkpoint']}.",
                bool(better or worse),
                max((effect(row, "difference") for _, row in clear.iterrows()), default=0.0),
            )


def show_averages(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: sets in the domain of their model, and what base models are scored on."""
    shown = table[table["role"] != "cross_task"]
    return pd.DataFrame(
        {
            "checkpoint": shown["checkpoint"],
            "model": [f"after {name}" if name else "base" for name in shown["tuned_on"]],
            "set": shown["task"],
            "of": shown["averaged"],
            "alone": shown["single"].round(3),
            "average": shown["value"].round(3),
            "difference": shown["difference"].map(signed),
        }
    )


AVERAGES = Analysis(
    "averages",
    "Averages of checkpoints",
    averages,
    {
        **{name: PLACE_COLUMNS[name] for name in _PLACE},
        "averaged": "what is averaged: checkpoints, `checkpoint` the last of them, or the models "
        "of several seeds",
        "value": "score of the average, or of the model that is tuned from it",
        "single": "score of the last checkpoint alone, or of the model that is tuned from it; of "
        "seeds their mean score",
        "difference": "value − single on the same rows",
        **uncertainty_columns(),
        "stderr": "standard error over test rows and, of models that are tuned with several seeds, "
        "over these (one variance for all scores of a set)",
        "p_holm": "p with Holm's correction over the scores of averages of one size and one "
        "fine-tuning set",
    },
    "Is it the noise of one checkpoint",
    caption="The parameters of the last checkpoints of the series are averaged, as base models and "
    "as what is fine-tuned (`averages` in the study); those of fine-tuned models over their seeds "
    "(`average_seeds`). A finding that the average does not share is noise of one model, or "
    "of checkpoints too far apart in training to be averaged. Intervals of fine-tuned models hold "
    "the spread of their training seeds where there are several.",
    sentences=say_averages,
    shown=show_averages,
)
