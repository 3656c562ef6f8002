"""The curves of a study: per model, set, format and metric the scores over pre-training, base,
fine-tuned and what fine-tuning adds. Imported tables and own stores alike. No jax.
"""

import dataclasses
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.changes import gain, in_views
from amuro_jax.curves.curve import Curve, make_curve
from amuro_jax.curves.turn import seed_deviations
from amuro_jax.results import pooled
from amuro_jax.results.estimate import NOTHING
from amuro_jax.results.loading import LESS_IS_BETTER
from amuro_jax.results.results import Results
from amuro_jax.variants import average_of, average_variant, noise_of

BASE, TUNED, GAIN = "base", "fine-tuned", "gain"
PLACE = ("suite", "tuned_on", "variant", "task", "format", "shots", "metric")
SERIES_COLUMNS = {
    "suite": "series of checkpoints",
    "model": "base, fine-tuned, or gain (fine-tuned − base)",
    "tuned_on": "fine-tuning set of the model; empty: the base model",
    "variant": "way of tuning on the set; empty: the study's first",
    "task": "set that is scored",
    "format": "prompt format",
    "shots": "number of shots",
    "metric": "what the score is",
    "checkpoints": "checkpoints with a usable score",
    "unit": "what positions count: tokens, steps, or the order where neither is known",
}
AXIS_OF_CHANGES = figures.Axis("change of the score")
NOTES_COLUMN = {"notes": "what was left out, merged or is unknown in the curve"}


@dataclasses.dataclass(frozen=True)
class Series:
    """One curve and what it is of.

    Attributes:
        results: that it is of: those of its series.
        place: values of PLACE.
        model: base, fine-tuned or gain.
        curve: the scores.
        records: of the cells behind each point of the curve, one, or base and fine-tuned.
    """

    results: Results
    place: dict
    model: str
    curve: Curve
    records: tuple[tuple[dict, ...], ...]

    @property
    def line(self) -> dict:
        """The columns SERIES_COLUMNS of a table."""
        named = {name: self.place[name] for name in SERIES_COLUMNS if name in self.place}
        count = {"checkpoints": len(self.curve), "unit": self.curve.unit}
        return {"suite": named.pop("suite"), "model": self.model, **named, **count}

    @property
    def label(self) -> str:
        """`pythia-160m`, `after paws`, `gain of paws`."""
        how = f" ({self.place['variant']})" if self.place["variant"] else ""
        if self.model == BASE:
            return f"{self.place['suite']}{how}"
        return f"{'gain of' if self.model == GAIN else 'after'} {self.place['tuned_on']}{how}"

    @property
    def has_rows(self) -> bool:
        """Whether the rows behind every point are stored."""
        keys = [cell["key"] for cells in self.records for cell in cells]
        return bool(keys) and all(self.results.scores(key) is not None for key in keys)

    def draws(self, most: int) -> np.ndarray | None:
        """Paired bootstrap values [N, R] of the curve's points over test rows, and over training
        seeds where a point is a mean over several; None where there are no rows.
        """
        if not self.has_rows:
            return None
        draws = self.results.draws
        drawn = [[draws[cell["key"]][:most] for cell in cells] for cells in self.records]
        rows = np.stack([cells[-1] - cells[0] if len(cells) > 1 else cells[0] for cells in drawn])
        tuned = [cells[-1] for cells in self.records]
        if not any(pooled.SEPARATOR in cell["key"] for cell in tuned):
            return rows
        spread = seed_deviations(pooled.seed_values(self.results, tuned), rows.shape[1])
        return rows if spread is None else rows + spread


def place_columns(table) -> dict:
    """The columns of a page's table that say of which curve a line is: series, model, set."""
    return {
        "series": table["suite"],
        "model": (table["model"] + " " + table["tuned_on"]).str.strip(),
        "set": named_sets(table),
    }


def named_sets(table) -> pd.Series:
    """The set of each line; with its format and number of shots where the table has several of
    them for the set: `paws in io, 4-shot`.
    """

    def where_several(name, text):
        several = table.groupby("task")[name].transform("nunique") > 1
        return text.where(several, "")

    formats = where_several("format", " in " + table["format"].astype(str))
    shots = where_several("shots", ", " + table["shots"].astype(str) + "-shot")
    return table["task"] + formats + shots


def falls_when_learned(metric: str) -> bool:
    """Whether a lower value of a metric is the better one (losses, perplexity, bits per byte)."""
    return bool(LESS_IS_BETTER.search(str(metric)))


def all_series(results: Results, *models: str) -> list[Series]:
    """Every curve of every series of the store and every metric of theirs, of these models (base,
    fine-tuned, gain; without: all), in the study's order.
    """
    if _MADE not in results.derived:
        suites = results.suites or {results.suite or results.name: results}
        results.derived[_MADE] = [
            one for name, of_suite in suites.items() for one in _of_suite(name, of_suite)
        ]
    return [one for one in results.derived[_MADE] if not models or one.model in models]


def of_each(curves: Iterable[Series], make: Callable[[Series], Any]) -> list:
    """`make` of each curve, in their order; those that share draws are done one after the other
    (`changes.in_views`).
    """
    return in_views(
        list(curves),
        lambda one: (one.place["suite"], *(one.place[name] for name in _VIEW)),
        make,
    )


_MADE = "series"  # where a study's curves are kept


_OF_CELL = ("key", "checkpoint", "step", "tokens", "value", "stderr", "n", "majority", "chance")


def _of_suite(name, results):
    groups: dict[tuple, list[dict]] = {}
    for record in _cells(name, results).to_dict("records"):
        groups.setdefault(tuple(record[part] for part in PLACE), []).append(record)

    def curves(item):
        named, records = dict(zip(PLACE, item[0], strict=True)), item[1]
        made = [_single(results, named, TUNED if named["tuned_on"] else BASE, records)]
        count = average_of(named["variant"])  # its base is the average itself
        of_base = {"tuned_on": "", "variant": average_variant(count) if count else ""}
        base = groups.get(tuple((named | of_base)[part] for part in PLACE))
        if named["tuned_on"] and base:
            made.append(_gain(results, named, base, records))
        return made

    view = operator.itemgetter(*(PLACE.index(name) for name in _VIEW))
    made = in_views(list(groups.items()), lambda item: view(item[0]), curves)
    return itertools.chain.from_iterable(made)


def _cells(name, results):
    """A series' cells with all columns of PLACE, in the order of training, and the scores in other
    metrics that the store has of it; without checkpoints whose weights a later one serves again.
    """
    cells = results.cells if results.variants is None else results.variants
    if results.suites:
        known = results.measurements
        members = {one for key in cells["key"] for one in pooled.members(key)}
        more = known[(known["suite"] == name) & ~known["key"].isin(members)]
        # Of a metric that `cells` has it is the same score under another protocol.
        own = pd.MultiIndex.from_frame(cells[["task", "metric"]])
        more = more[~pd.MultiIndex.from_frame(more[["task", "metric"]]).isin(own)]
        cells = pd.concat([cells, more.dropna(axis=1, how="all")], ignore_index=True)
    cells = cells[~cells["checkpoint"].isin(list(results.duplicate_of))]
    cells = cells[cells["variant"].fillna("").map(noise_of).isna()] if "variant" in cells else cells
    order = {checkpoint: index for index, checkpoint in enumerate(results.checkpoints)}
    cells = cells.sort_values("checkpoint", key=lambda names: names.map(order), kind="stable")
    absent = {"variant": "", "metric": "score"}
    records = {
        column: cells[column].fillna(value) if column in cells else value
        for column, value in absent.items()
    }
    cells = cells.assign(suite=name, **records)
    return cells[[column for column in (*PLACE, *_OF_CELL) if column in cells]]


_VIEW = ("task", "format", "shots")


def _single(results, named, model, records):
    curve = _curve(records, [one["value"] for one in records], [one["stderr"] for one in records])
    return Series(results, named, model, curve, tuple((records[at],) for at in curve.places))


def _gain(results, named, base, tuned):
    by_checkpoint = {one["checkpoint"]: one for one in base}
    pairs = [
        (by_checkpoint[one["checkpoint"]], one)
        for one in tuned
        if one["checkpoint"] in by_checkpoint
    ]
    # Scores in other metrics than the set's own have no draws.
    drawn = [all(cell["key"] in results.draws for cell in pair) for pair in pairs]
    shared = [
        gain(results, *pair) if known else NOTHING for pair, known in zip(pairs, drawn, strict=True)
    ]
    curve = _curve(
        [pair[1] for pair in pairs],
        [pair[1]["value"] - pair[0]["value"] for pair in pairs],
        [one.stderr for one in shared],
    )
    return Series(results, named, GAIN, curve, tuple(pairs[at] for at in curve.places))


def _curve(records, values, stderrs):
    columns = ([one.get(name) for one in records] for name in ("checkpoint", "step", "tokens"))
    return make_curve(*columns, values, stderrs)


def panels(chosen: list[Series], drawn) -> figures.FigureSpec | None:
    """A figure of curves, one panel per set and metric; `drawn(series, entry)` gives what is drawn
    of each: a tuple of `figures.Series`.

    The first formats and numbers of shots of each set are shown, and at most six models.
    """
    by_panel: dict[tuple, list[Series]] = {}
    for one in chosen:
        by_panel.setdefault((one.place["task"], one.place["metric"]), []).append(one)
    labels = list(dict.fromkeys(one.label for one in chosen))[: len(figures.SERIES)]
    entries, panels_ = figures.entries(labels), []
    for (task, metric), members in by_panel.items():
        view = {name: members[0].place[name] for name in ("format", "shots")}
        members = [
            one
            for one in members
            if one.label in entries and all(one.place[name] == view[name] for name in view)
        ]
        units = {one.curve.unit for one in members}
        if len(units) == 1:
            lines = tuple(part for one in members for part in drawn(one, entries[one.label]))
            axis = axis_of(units.pop(), [x for part in lines for x in part.x])
            named = figures.Axis(figures.METRIC_NAMES.get(metric, str(metric).replace("_", " ")))
            panels_.append(figures.LinePanel(task, axis, named, lines, task=task))
    if not panels_:
        return None
    return figures.FigureSpec(figures.one_range(panels_), tuple(entries.values()))


def x_of(curve: Curve) -> np.ndarray:
    """Where the points of a curve are drawn: at the decimal logarithm of tokens or steps; the
    untrained model, which has none, a decade before the first.
    """
    if curve.unit == "order":
        return curve.x.astype(float)
    positive = curve.x[curve.x > 0]
    first = np.log10(positive[0]) - 1 if len(positive) else 0.0
    return np.where(curve.x > 0, np.log10(np.maximum(curve.x, 1e-300)), first)


def axis_of(unit: str, positions) -> figures.Axis:
    """The axis of figures over places of `x_of`."""
    low, high = min(positions, default=0.0), max(positions, default=1.0)
    if unit == "order" or not positions:
        margin = 0.05 * (high - low or 1)
        return figures.Axis("checkpoint, in the order of training", low - margin, high + margin)
    exponents = range(int(np.ceil(low)), int(np.floor(high)) + 1)
    step = max(1, len(exponents) // figures.MOST_TICKS)
    ticks = tuple((float(one), figures.short_number(10.0**one)) for one in exponents[::step])
    margin = 0.05 * (high - low or 1)
    return figures.Axis(f"{unit} (log scale)", low - margin, high + margin, ticks)
