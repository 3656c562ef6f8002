"""Figures drawn by matplotlib: PNG on white and SVG files. No jax."""

import io
import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from amuro_jax import files  # noqa: E402
from amuro_jax.analyses.figures import (  # noqa: E402
    PALETTE,
    FigureSpec,
    HeatPanel,
    IntervalPanel,
    LinePanel,
)

INK = PALETTE["ink"][0]
MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "down": "v",
    "plus": "P",
    "": "",
}
DASHES = (0, (3, 2))
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
    "svg.fonttype": "none",
    "axes.axisbelow": True,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}
# `paper`: type of the size of print, for one column of 3.3 inches; line art that survives a copier.
STYLES = {
    "web": STYLE,
    "paper": STYLE
    | {
        "font.family": "serif",
        "font.serif": ["DejaVu Serif"],
        "font.size": 7,
        "axes.titlesize": 7.5,
        "axes.labelsize": 7,
        "xtick.labelsize": 6.5,
        "ytick.labelsize": 6.5,
        "lines.linewidth": 1.1,
        "lines.markersize": 3,
        "pdf.fonttype": 42,  # fonts as outlines that publishers accept
    },
}
SCALE = {"web": 1.0, "paper": 0.66}  # of a panel's size
ENDINGS = ("svg", "pdf", "png")
MOST_DIRECT = 4  # series of a panel that are labelled at their right end instead of in a legend


def figure(spec: FigureSpec, style: str = "web"):
    """The figure as matplotlib's. Close it (`matplotlib.pyplot.close`) when done.

    Series are labelled at their right end where a panel has few of them, else in a legend.
    """
    with plt.rc_context(STYLES[style]):
        columns = min(spec.columns, len(spec.panels))
        rows = -(-len(spec.panels) // columns)
        wide, high = (SCALE[style] * size for size in _size(spec.panels[0], len(spec.panels)))
        direct = style == "paper" and all(map(_is_direct, spec.panels))
        legend = () if direct else spec.legend
        size = (wide * columns, high * rows + 0.4 * bool(legend))
        drawing, axes = plt.subplots(
            rows, columns, figsize=size, squeeze=False, layout="constrained"
        )
        for spare in axes.flat[len(spec.panels) :]:
            spare.set_visible(False)
        for axis, panel in zip(axes.flat, spec.panels, strict=False):
            _PANELS[type(panel)](axis, panel)
            axis.set_title(panel.title)
            if isinstance(panel, LinePanel):
                _label_lines(axis, panel, direct)
        if legend:
            _draw_legend(drawing, legend, 2 * columns)
    return drawing


def save(spec: FigureSpec, name: str, folder) -> None:
    """Writes `<folder>/<name>.png` and `.svg`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawing = figure(spec)
    for ending in ("png", "svg"):
        _write(drawing, folder / f"{name}.{ending}", "web")
        drawing.set_layout_engine("none")  # the second file is laid out as the first one was
    plt.close(drawing)


def write(spec: FigureSpec, path, style: str = "web") -> None:
    """Writes the figure to one file; its ending, one of ENDINGS, says how."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing = figure(spec, style)
    _write(drawing, path, style)
    plt.close(drawing)


def _write(drawing, path, style):
    """The same figure gives the same bytes: no dates, no random ids."""
    kind, buffer = path.suffix[1:], io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with plt.rc_context(STYLES[style] | {"svg.hashsalt": path.stem}):
        drawing.savefig(buffer, format=kind, dpi=160, facecolor="white", metadata=undated)
    files.write_bytes(path, buffer.getvalue())


def _is_direct(panel):
    return isinstance(panel, LinePanel) and 0 < len(panel.series) <= MOST_DIRECT


def _label_lines(axis, panel, direct):
    """Names at the right end of levels, and with `direct` of the series, moved apart where they
    would touch.
    """
    low, high = axis.get_ylim()
    gap, last = 0.085 * (high - low), -math.inf
    ends = [(level.value, level.label, INK) for level in panel.levels if level.label]
    if direct:
        ends += [
            (line.y[-1], line.label, PALETTE[line.color][0]) for line in panel.series if line.y
        ]
    for y, label, color in sorted(ends):
        last = max(y, last + gap)
        axis.annotate(
            label,
            (1.02, last),
            xycoords=("axes fraction", "data"),
            va="center",
            color=color,
            annotation_clip=False,
        )


def _size(panel, count):
    if isinstance(panel, HeatPanel):
        return 0.95 * len(panel.columns) + 1.5, 0.55 * len(panel.rows) + 0.9
    if isinstance(panel, IntervalPanel):
        return 4.8, 0.3 * len(panel.rows) + 0.9
    return (3.3, 2.4) if count > 1 else (4.6, 2.8)


def _draw_legend(drawing, entries, most):
    handles = [
        plt.Line2D(
            [],
            [],
            color=PALETTE[entry.color][0],
            marker=MARKERS[entry.marker],
            linestyle=(DASHES if entry.dashed else "-") if entry.line else "",
        )
        for entry in entries
    ]
    labels = [entry.label for entry in entries]
    columns = min(len(handles), most)
    drawing.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=8.5)


def _lines(axis, panel):
    for level in panel.levels:
        axis.axhline(level.value, color=INK, linewidth=0.9, linestyle=DASHES, alpha=0.6)
    for line in panel.series:
        color = PALETTE[line.color][0]
        if line.low:
            axis.fill_between(line.x, line.low, line.high, color=color, alpha=0.17, linewidth=0)
        axis.plot(
            line.x,
            line.y,
            color=color,
            marker=MARKERS[line.marker],
            linestyle=DASHES if line.dashed else "-",
            markeredgewidth=0,
        )
    axis.set_xticks([at for at, _ in panel.x.ticks], [label for _, label in panel.x.ticks])
    axis.set_xlim(panel.x.low, panel.x.high)
    axis.yaxis.set_major_locator(MaxNLocator(5))
    if panel.y.low is not None:
        axis.set_ylim(panel.y.low, panel.y.high)
    axis.set_xlabel(panel.x.title)
    axis.set_ylabel(panel.y.title)


def _intervals(axis, panel):
    axis.axvline(0, color=INK, linewidth=0.8)
    for index, row in enumerate(panel.rows):
        color = PALETTE[row.color][0]
        axis.plot([row.low, row.high], [index, index], color=color, linewidth=2.4)
        axis.plot(row.value, index, color=color, marker=MARKERS[row.marker], markersize=6)
    axis.set_yticks(range(len(panel.rows)), [row.label for row in panel.rows])
    axis.set_ylim(len(panel.rows) - 0.4, -0.6)
    axis.grid(visible=True, axis="x")
    axis.grid(visible=False, axis="y")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(panel.x.title)


def _heat(axis, panel):
    for y, values in enumerate(panel.values):
        for x, value in enumerate(values):
            if not math.isfinite(value):
                continue
            color = PALETTE["less" if value < 0 else "more"][0]
            alpha = 0.06 + 0.56 * min(1.0, abs(value) / panel.limit)
            box = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=color, alpha=alpha, linewidth=0)
            axis.add_patch(box)
            text = f"{value:+.2f}\n± {panel.half_widths[y][x]:.2f}".replace("-", "−")
            axis.annotate(text, (x, y), ha="center", va="center", fontsize=8.5)
    axis.set_xlim(-0.5, len(panel.columns) - 0.5)
    axis.set_ylim(len(panel.rows) - 0.5, -0.5)
    names = [name.replace("_", "_\n", 1) for name in panel.columns]
    axis.set_xticks(range(len(panel.columns)), names)
    axis.set_yticks(range(len(panel.rows)), panel.rows)
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xlabel(panel.column_title)
    axis.set_ylabel(panel.row_title)


_PANELS = {LinePanel: _lines, IntervalPanel: _intervals, HeatPanel: _heat}
