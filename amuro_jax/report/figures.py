"""The study's figures in one design: thin axes, colours that colour-blind readers tell apart, 95 %
bands everywhere. No jax.

A figure is a list of panels. On disk they stand together (PNG on white, SVG); in the page each is a
drawing of its own, so that a phone
shows them one below the other, and takes the page's text colour, light or dark.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from amuro_jax.analyses.study import FINE, PRE  # noqa: E402
from amuro_jax.results.results import Results  # noqa: E402

INK = "#1f2a36"  # currentColor in the page
BASE, TUNED = "#4c86c6", "#e0792b"  # mid-tones: legible on white and on near-black
SERIES = (BASE, TUNED, "#2a9d76", "#b25fa8", "#b8921f", "#7a8793")
MARKERS = ("o", "s", "^", "D", "v", "P")
LIMIT = 1.25  # widest relative change drawn, as a ratio: beyond it the arrow of the axis says so
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One drawing: its title, what draws it on an axis, its size in inches."""

    title: str
    draw: Callable
    size: tuple[float, float] = (3.3, 2.4)


@dataclasses.dataclass(frozen=True)
class Mark:
    """One entry of a legend."""

    label: str
    color: str
    marker: str = "o"
    style: str = "-"


@dataclasses.dataclass(frozen=True)
class Figure:
    """Panels that belong together, with one legend."""

    name: str
    panels: list[Panel]
    legend: tuple[Mark, ...] = ()
    columns: int = 3


@dataclasses.dataclass(frozen=True)
class Track:
    """The horizontal axis: where each checkpoint stands, which are labelled, what the axis is
    called.
    """

    at: dict[str, float]
    labels: dict[str, str]
    title: str


def save(figure: Figure, folder) -> list[str]:
    """Writes `<folder>/<name>.png` and `.svg`.

    Returns each panel as SVG, ready to stand in a page.
    """
    folder = Path(folder)
    with plt.rc_context(STYLE | {"svg.hashsalt": figure.name}):
        _save_together(figure, folder)
        return [
            _panel_svg(panel, f"{figure.name}{place}") for place, panel in enumerate(figure.panels)
        ]


def _save_together(figure, folder):
    columns = min(figure.columns, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    width, height = figure.panels[0].size
    size = (width * columns, height * rows + 0.4 * bool(figure.legend))
    drawing, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for spare in axes.flat[len(figure.panels) :]:
        spare.set_visible(False)
    for axis, panel in zip(axes.flat, figure.panels, strict=False):
        panel.draw(axis)
        axis.set_title(panel.title)
    if figure.legend:
        handles = [
            plt.Line2D([], [], color=mark.color, marker=mark.marker or None, linestyle=mark.style)
            for mark in figure.legend
        ]
        labels = [mark.label for mark in figure.legend]
        drawing.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=min(len(handles), 2 * columns),
            fontsize=8.5,
        )
    drawing.savefig(folder / f"{figure.name}.png", dpi=160, facecolor="white")
    drawing.savefig(folder / f"{figure.name}.svg", metadata={"Date": None})
    plt.close(drawing)


def _panel_svg(panel, name) -> str:
    import io

    drawing, axis = plt.subplots(figsize=panel.size, layout="constrained")
    panel.draw(axis)
    stream = io.StringIO()
    drawing.savefig(stream, format="svg", metadata={"Date": None})
    plt.close(drawing)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace("'DejaVu Sans'", "inherit")
    # Ids are local to one drawing; many stand in one page.
    svg = (
        svg.replace('id="', f'id="{name}-')
        .replace('"#', f'"#{name}-')
        .replace("url(#", f"url(#{name}-")
    )
    return svg.replace("<svg ", f'<svg role="img" aria-label="{panel.title or name}" ', 1)


def short_number(value: float) -> str:
    """1500 → 1.5k, 2000000 → 2M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def track(results: Results) -> Track:
    """Steps on a log scale where they are spread over it.

    Else evenly spaced, in the order of training.
    """
    plan = pd.concat([results.cells, results.missing])
    steps = {name: plan[plan["checkpoint"] == name]["step"].iloc[0] for name in results.checkpoints}
    known = [float(step) for step in steps.values() if step is not None and not pd.isna(step)]
    labels = {name: name if pd.isna(step) else short_number(step) for name, step in steps.items()}
    gaps = np.diff(np.log10(np.maximum(known, 1e-9)))
    if (
        len(known) == len(steps)
        and min(known) > 0
        and (len(gaps) < 2 or gaps.min() > 0.25 * gaps.mean())
    ):
        return Track(
            {name: float(np.log10(step)) for name, step in steps.items()},
            _thinned(labels),
            "pre-training step (log scale)",
        )
    return Track(
        {name: float(place) for place, name in enumerate(steps)},
        _thinned(labels),
        "pre-training step (evenly spaced)",
    )


def _thinned(labels):
    names = list(labels)
    if len(names) <= 5:
        return labels
    kept = {names[round(place)] for place in np.linspace(0, len(names) - 1, 4)}
    return {name: label for name, label in labels.items() if name in kept}


def _along(axis, line: Track):
    axis.set_xticks([line.at[name] for name in line.labels], list(line.labels.values()))
    spread = list(line.at.values())
    margin = 0.05 * (max(spread) - min(spread) or 1)
    axis.set_xlim(min(spread) - margin, max(spread) + margin)
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(line.title)


def _line(
    axis,
    line: Track,
    points: pd.DataFrame,
    value: str,
    mark: Mark,
    low="low",
    high="high",
    scale=1.0,
):
    points = points[points["checkpoint"].isin(line.at)]
    points = points.iloc[np.argsort([line.at[name] for name in points["checkpoint"]])]
    x = [line.at[name] for name in points["checkpoint"]]
    if low in points and points[low].notna().any():
        axis.fill_between(
            x,
            points[low].astype(float) * scale,
            points[high].astype(float) * scale,
            color=mark.color,
            alpha=0.18,
            linewidth=0,
        )
    drawn = points[value].astype(float) * scale
    axis.plot(
        x,
        drawn,
        color=mark.color,
        marker=mark.marker or None,
        linestyle=mark.style,
        markeredgewidth=0,
    )


def _level(axis, value, text):
    if value is not None and not pd.isna(value):
        axis.axhline(value, color=INK, linewidth=0.9, linestyle=(0, (3, 3)), alpha=0.6)
        axis.annotate(
            text,
            (1, value),
            (0, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7.5,
        )


BASE_MARK, TUNED_MARK = Mark("base", BASE), Mark("fine-tuned", TUNED, "s")


def curves(results: Results, overview: pd.DataFrame) -> Figure:
    """Base and own fine-tuned score of each set over pre-training, with 95 % intervals and the
    baseline.
    """
    line = track(results)
    table = overview.assign(
        **{
            f"{kind}_{end}": overview[kind] + sign * 1.96 * overview[f"{kind}_stderr"]
            for kind in ("base", "tuned")
            for end, sign in (("low", -1), ("high", 1))
        }
    )

    def panel(task):
        points = table[table["task"] == task]

        def draw(axis):
            if points["baseline"].notna().any():
                _level(axis, points["baseline"].dropna().iloc[-1], "baseline")
            for kind, mark in (("base", BASE_MARK), ("tuned", TUNED_MARK)):
                _line(
                    axis,
                    line,
                    points.dropna(subset=[kind]),
                    kind,
                    mark,
                    f"{kind}_low",
                    f"{kind}_high",
                )
            _along(axis, line)
            axis.set_ylabel(metric_name(results, task))

        return Panel(task, draw)

    return Figure("curves", [panel(task) for task in results.tasks()], (BASE_MARK, TUNED_MARK))


def metric_name(results: Results, task: str) -> str:
    """`accuracy` or `ROUGE-L`."""
    found = results.cells[results.cells["task"] == task]["metric"]
    return {"rouge_l": "ROUGE-L"}.get(found.iloc[0], found.iloc[0]) if len(found) else ""


def groups(results: Results, gains: pd.DataFrame) -> Figure:
    """Mean change after fine-tuning by checkpoint, a line per group of sets."""
    line = track(results)
    names = list(dict.fromkeys(gains.dropna(subset=["change"])["group"]))
    looks = {PRE: (BASE, "o"), FINE: (TUNED, "s")}
    marks = tuple(
        Mark(f"{name} ({_count(gains, name)})", *looks.get(name, (SERIES[5], "^")))
        for name in names
    )

    def draw(axis):
        axis.axhline(0, color=INK, linewidth=0.8)
        for name, mark in zip(names, marks, strict=True):
            _line(
                axis, line, gains[gains["group"] == name].dropna(subset=["change"]), "change", mark
            )
        _along(axis, line)
        axis.set_ylabel("fine-tuned − base")

    return Figure("groups", [Panel("", draw, (4.4, 2.7))], marks)


def _count(gains, name):
    sets = int(gains[gains["group"] == name]["sets"].max())
    return f"{sets} set{'s' * (sets != 1)}"


def domains(results: Results, table: pd.DataFrame) -> Figure:
    """Change in and out of domain, mean over checkpoints, one line per test set and fine-tuning
    set.
    """
    table = pd.concat(
        [
            table[table["tuned_on"] == name].sort_values("role")
            for name in results.fine_tuning_sets()
        ]
    ).dropna(subset=["change"])
    marks = {
        "in_domain": Mark("in domain", TUNED, "s", ""),
        "out_of_domain": Mark("out of domain", BASE, "o", ""),
    }

    def draw(axis):
        axis.axvline(0, color=INK, linewidth=0.8)
        for place, row in enumerate(table.itertuples()):
            mark = marks[row.role]
            axis.plot(
                [row.low, row.high],
                [place, place],
                color=mark.color,
                linewidth=2.4,
                alpha=0.75,
                solid_capstyle="butt",
            )
            axis.plot(
                row.change,
                place,
                color=mark.color,
                marker=mark.marker,
                markersize=6,
                markeredgewidth=0,
            )
        axis.set_yticks(range(len(table)), table["task"])
        axis.set_ylim(len(table) - 0.4, -0.6)
        axis.grid(visible=True, axis="x")
        axis.grid(visible=False, axis="y")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_xlabel("fine-tuned − base, mean over checkpoints")

    return Figure(
        "domains", [Panel("", draw, (4.4, 0.3 * len(table) + 0.8))], tuple(marks.values())
    )


def transfer(results: Results, table: pd.DataFrame) -> Figure:
    """Heat map: fine-tuned on the row's set, tested on the column's.

    Mean change over checkpoints ± standard error.
    """
    rows, columns = results.fine_tuning_sets(), results.tasks("in_domain")
    limit = max(0.02, float(np.nanmax(np.abs(table["change"]))))

    def draw(axis):
        for row in table.itertuples():
            x, y = columns.index(row.task), rows.index(row.tuned_on)
            if np.isnan(row.change):
                continue
            shade = TUNED if row.change < 0 else BASE
            axis.add_patch(
                Rectangle(
                    (x - 0.48, y - 0.46),
                    0.96,
                    0.92,
                    color=shade,
                    alpha=0.08 + 0.62 * abs(row.change) / limit,
                    linewidth=0,
                )
            )
            axis.annotate(
                f"{row.change:+.2f}".replace("-", "−"),
                (x, y),
                (0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=9,
            )
            axis.annotate(
                f"±{row.stderr:.2f}",
                (x, y),
                (0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=7.5,
            )
        axis.set_xlim(-0.5, len(columns) - 0.5)
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xticks(range(len(columns)), [_broken(name, len(columns)) for name in columns])
        axis.set_yticks(range(len(rows)), rows)
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.set_xlabel("tested on")
        axis.set_ylabel("fine-tuned on")

    return Figure(
        "transfer", [Panel("", draw, (0.85 * len(columns) + 1.3, 0.55 * len(rows) + 0.9))]
    )


def _broken(name, columns):
    head, joint, tail = name.partition("_")
    return f"{head}{joint}\n{tail}" if tail and columns > 2 and len(name) > 9 else name


def ratios(results: Results, table: pd.DataFrame) -> Figure:
    """Mean ratio of change on the other tasks' sets, by checkpoint, a line per fine-tuning set."""
    line = track(results)
    names = [name for name in results.fine_tuning_sets() if (table["tuned_on"] == name).any()]
    marks = tuple(
        Mark(f"after {name}", color, marker)
        for name, color, marker in zip(names, SERIES, MARKERS, strict=False)
    )

    def draw(axis):
        axis.axhline(0, color=INK, linewidth=0.8)
        for name, mark in zip(names, marks, strict=False):
            part = table[table["tuned_on"] == name].dropna(subset=["relative"])
            _line(axis, line, part, "relative", mark, "relative_low", "relative_high", scale=100)
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, -100 * LIMIT), min(high, 400 * LIMIT))
        _along(axis, line)
        axis.set_ylabel("change on other tasks, %")

    return Figure("ratios", [Panel("", draw, (4.4, 2.7))], marks)


def formats(results: Results, table: pd.DataFrame) -> Figure:
    """Score under each prompt format over checkpoints: base dashed, own fine-tuned models solid."""
    line = track(results)
    names = [
        name
        for name in dict.fromkeys(
            itertools.chain.from_iterable(map(results.formats, results.tasks()))
        )
        if name in table
    ]
    marks = {
        name: Mark(name, color, marker)
        for name, color, marker in zip(names, SERIES, MARKERS, strict=False)
    }

    def panel(task):
        points = table[table["task"] == task]

        def draw(axis):
            for (tuned_on, part), mark in itertools.product(
                points.groupby("tuned_on"), marks.values()
            ):
                shown = dataclasses.replace(mark, style="-" if tuned_on else (0, (3, 2)))
                _line(
                    axis, line, part.dropna(subset=[mark.label]), mark.label, shown, low="", high=""
                )
            _along(axis, line)
            axis.set_ylabel(metric_name(results, task))

        return Panel(task, draw)

    kinds = (Mark("base", INK, "", "--"), Mark("fine-tuned", INK, "", "-"))
    return Figure(
        "formats",
        [panel(task) for task in dict.fromkeys(table["task"])],
        (*marks.values(), *kinds),
        columns=2,
    )


def spread(results: Results, table: pd.DataFrame) -> Figure:
    """Mean spread over formats by checkpoint, base and fine-tuned."""
    line = track(results)

    def draw(axis):
        for kind, mark in (("base", BASE_MARK), ("fine-tuned", TUNED_MARK)):
            _line(
                axis, line, table[table["models"] == kind].dropna(subset=["spread"]), "spread", mark
            )
        axis.set_ylim(bottom=0)
        _along(axis, line)
        axis.set_ylabel("best − worst format")

    return Figure("spread", [Panel("", draw, (4.4, 2.6))], (BASE_MARK, TUNED_MARK))
