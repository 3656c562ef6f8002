"""Figures as data: panels, series and axes that matplotlib and the page draw alike. No jax, and no
drawing here.

A colour is the name of a role in `PALETTE`, so that one colour means one thing in the whole report:
base models are blue and fine-tuned ones orange, everywhere and nothing else.
"""

import dataclasses
import math

import numpy as np
import pandas as pd

from amuro_jax.results.results import Results

# Role → (on white, on near-black). At least 4.5:1 against the page's background, and told apart by
# readers with the common colour-vision deficiencies.
PALETTE = {
    "ink": ("#1f2a36", "#e4e9ef"),
    "base": ("#2f6cb0", "#7db2ea"),
    "tuned": ("#ad4e0c", "#f0a063"),
    "less": ("#a3245f", "#f28ab8"),
    "more": ("#1a7558", "#56d09b"),
    "a": ("#1a7558", "#56d09b"),
    "b": ("#8a3f8f", "#d99be0"),
    "c": ("#7d6200", "#d8b84a"),
    "d": ("#5d6b7a", "#9aa8b7"),
    "e": ("#a3245f", "#f28ab8"),
    "f": ("#0f7285", "#5cc8dc"),
}
SERIES = tuple("abcdef")
MARKERS = ("circle", "square", "triangle", "diamond", "down", "plus")


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis: its title, range in data units (None: from the data), and ticks as (where, text)."""

    title: str
    low: float | None = None
    high: float | None = None
    ticks: tuple[tuple[float, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Series:
    """Points joined by a line, with 95 % bands where `low` and `high` are known.

    `names` says what each point is, for readers who hover.
    """

    label: str
    color: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    marker: str = "circle"
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Level:
    """A horizontal line across a panel, with its name."""

    value: float
    label: str


@dataclasses.dataclass(frozen=True)
class LinePanel:
    """Lines over one horizontal axis; `task` names the set that they are about, where it is one."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()
    task: str = ""


@dataclasses.dataclass(frozen=True)
class Interval:
    """One line of an interval panel: a value with its 95 % interval."""

    label: str
    value: float
    low: float
    high: float
    color: str
    marker: str = "circle"


@dataclasses.dataclass(frozen=True)
class IntervalPanel:
    """Intervals one below the other, and zero."""

    title: str
    x: Axis
    rows: tuple[Interval, ...]


@dataclasses.dataclass(frozen=True)
class HeatPanel:
    """A matrix of changes: `values[row][column]` with half widths of their 95 % intervals.

    `limit` is the change at which the colour is full.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    half_widths: tuple[tuple[float, ...], ...]
    limit: float
    row_title: str
    column_title: str


@dataclasses.dataclass(frozen=True)
class LegendEntry:
    """What a colour, marker or line style stands for; no marker: a line alone."""

    label: str
    color: str
    marker: str = "circle"
    dashed: bool = False
    line: bool = True


@dataclasses.dataclass(frozen=True)
class FigureSpec:
    """Panels that belong together, with one legend.

    Attributes:
        left_out: panels that were left out of a figure that would be too large (`within`).
    """

    panels: tuple[LinePanel | IntervalPanel | HeatPanel, ...]
    legend: tuple[LegendEntry, ...] = ()
    columns: int = 3
    left_out: int = 0


MOST_PANELS = 48  # of one figure in a report: more are no picture any longer


def within(spec: FigureSpec, most: int = MOST_PANELS) -> FigureSpec:
    """A figure of at most so many panels, the first ones; it knows how many it leaves out."""
    left_out = max(0, len(spec.panels) - most)
    return dataclasses.replace(spec, panels=spec.panels[:most], left_out=left_out)


BASE = LegendEntry("base", "base", "circle")
TUNED = LegendEntry("fine-tuned", "tuned", "square")


def entries(labels) -> dict[str, LegendEntry]:
    """A colour and marker of its own for each label, other than those of base and fine-tuned."""
    return {
        label: LegendEntry(label, SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)])
        for index, label in enumerate(labels)
    }


def short_number(value: float) -> str:
    """1500 → 1.5k, 2000000 → 2M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


@dataclasses.dataclass(frozen=True)
class Track:
    """Where each checkpoint lies on the horizontal axis."""

    at: dict[str, float]
    axis: Axis


def checkpoint_values(results: Results, column: str) -> dict:
    """`step` or `tokens` of each checkpoint, in the order of training; None where it is unknown."""
    plan = pd.concat([results.cells, results.missing])
    known = plan.drop_duplicates("checkpoint").set_index("checkpoint")[column]
    return {
        name: None if pd.isna(known[name]) else float(known[name]) for name in results.checkpoints
    }


def track(results: Results) -> Track:
    """Steps on a log scale where they are spread over it, else evenly spaced in the order of
    training.
    """
    steps = checkpoint_values(results, "step")
    known = [step for step in steps.values() if step is not None]
    gaps = np.diff(np.log10(np.maximum(known, 1e-9)))
    # Evenly spread over the log axis: no gap is under a quarter of the mean one, so that no two
    # checkpoints lie on one spot.
    on_log = (
        len(known) == len(steps)
        and min(known) > 0
        and (len(gaps) < 2 or gaps.min() > 0.25 * gaps.mean())
    )
    at = {
        name: math.log10(step) if on_log else float(index)
        for index, (name, step) in enumerate(steps.items())
    }
    labels = {name: name if step is None else short_number(step) for name, step in steps.items()}
    ticks = tuple((at[name], labels[name]) for name in thinned(list(at)))
    title = f"pre-training step ({'log scale' if on_log else 'evenly spaced'})"
    margin = 0.05 * (max(at.values()) - min(at.values()) or 1)
    return Track(at, Axis(title, min(at.values()) - margin, max(at.values()) + margin, ticks))


MOST_TICKS = 5  # labels that fit under a panel of 300 px


def thinned(names: list) -> list:
    """At most MOST_TICKS of the names, evenly chosen."""
    if len(names) <= MOST_TICKS:
        return names
    shown = {round(position) for position in np.linspace(0, len(names) - 1, MOST_TICKS - 1)}
    return [name for position, name in enumerate(names) if position in shown]


def series(
    line: Track,
    points: pd.DataFrame,
    entry: LegendEntry,
    value: str,
    low: str = "low",
    high: str = "high",
) -> Series:
    """A series over checkpoints from a table with a `checkpoint` column; gaps are left out."""
    points = points.dropna(subset=[value])
    points = points[points["checkpoint"].isin(line.at)]
    points = points.iloc[np.argsort([line.at[name] for name in points["checkpoint"]])]

    def column(name):
        return tuple(points[name].astype(float)) if name in points else ()

    return Series(
        entry.label,
        entry.color,
        tuple(line.at[name] for name in points["checkpoint"]),
        column(value),
        column(low),
        column(high),
        tuple(points["checkpoint"]),
        entry.marker,
        entry.dashed,
    )


def one_range(panels: list[LinePanel]) -> tuple[LinePanel, ...]:
    """The panels with one vertical range per axis title, so that they can be compared by eye."""
    spans: dict[str, list[float]] = {}
    for panel in panels:
        values = [level.value for level in panel.levels]
        for line in panel.series:
            values += [*line.y, *line.low, *line.high]
        spans.setdefault(panel.y.title, []).extend(v for v in values if math.isfinite(v))
    return tuple(_with_range(panel, spans[panel.y.title]) for panel in panels)


def _with_range(panel, values):
    if not values:
        return panel
    low, high = min(values), max(values)
    margin = 0.04 * (high - low or 1)
    return dataclasses.replace(
        panel, y=dataclasses.replace(panel.y, low=low - margin, high=high + margin)
    )


METRIC_NAMES = {"rouge_l": "ROUGE-L", "rougeL": "ROUGE-L", "exact_number": "exact number"}


def metric_name(results: Results, task: str) -> str:
    """The metric of a set in words: `accuracy`, `ROUGE-L`, `exact number`."""
    metrics = results.cells[results.cells["task"] == task]["metric"].dropna()
    if metrics.empty:
        return ""
    return METRIC_NAMES.get(metrics.iloc[0], str(metrics.iloc[0]).replace("_", " "))
