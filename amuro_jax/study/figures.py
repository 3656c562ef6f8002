"""The study's figures in one design: thin axes, direct labels, colours that colour-blind readers tell apart, error bands everywhere.

Each function gives a matplotlib Figure. `save` writes PNG (for slides, on white) and SVG whose text and axes take the page's colour.
"""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.ticker import FixedLocator, NullLocator  # noqa: E402

INK = "#1f2a36"  # becomes currentColor in the SVG
BASE, TUNED, THIRD = "#4c86c6", "#e0792b", "#2a9d76"
SERIES = (BASE, TUNED, THIRD, "#b25fa8", "#c9a227", "#7a8793")
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.grid.axis": "y", "grid.color": INK, "grid.alpha": 0.14,
    "grid.linewidth": 0.6, "lines.linewidth": 1.8, "lines.markersize": 4, "legend.frameon": False, "xtick.major.size": 0, "ytick.major.size": 0,
    "figure.facecolor": "none", "axes.facecolor": "none", "svg.fonttype": "path", "svg.hashsalt": "amuro", "axes.axisbelow": True,
}  # fmt: skip


def save(figure, folder, name: str) -> str:
    """Writes `<folder>/<name>.png` and `.svg`; returns the SVG, ready to stand in a page."""
    figure.savefig(folder / f"{name}.png", dpi=160, facecolor="white", bbox_inches="tight")
    figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = (folder / f"{name}.svg").read_text().replace(INK, "currentColor")
    svg = svg[svg.index("<svg") :]
    (folder / f"{name}.svg").write_text(svg)
    # Ids are local to one drawing; several stand in one page.
    return svg.replace('id="', f'id="{name}-').replace('"#', f'"#{name}-').replace("url(#", f"url(#{name}-")


def _panels(count, columns=4, width=2.65, height=2.15):
    with plt.rc_context(STYLE):
        columns = min(columns, count)
        rows = -(-count // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(width * columns + 0.4, height * rows + 0.3), squeeze=False, layout="constrained")
        for spare in axes.flat[count:]:
            spare.set_visible(False)
        return figure, list(axes.flat[:count])


def _steps(axis, steps):
    steps = sorted(set(steps))
    if min(steps) > 0 and max(steps) / max(1, min(steps)) > 30:
        axis.set_xscale("log")
    else:
        axis.set_xscale("symlog", linthresh=max(1, min((s for s in steps if s > 0), default=1)))
    shown = steps if len(steps) <= 4 else [steps[0], steps[len(steps) // 2], steps[-1]]
    axis.xaxis.set_major_locator(FixedLocator(shown))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([short_number(step) for step in shown])


def short_number(value: float) -> str:
    """1500 → 1.5k, 2000000 → 2M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _band(axis, x, value, error, color, label, style="-", marker="o"):
    x, value, error = (np.asarray(part, float) for part in (x, value, error))
    axis.fill_between(x, value - 1.96 * error, value + 1.96 * error, color=color, alpha=0.18, linewidth=0)
    axis.plot(x, value, style, color=color, marker=marker, label=label, markeredgewidth=0)


def _baseline(axis, value, text):
    if value is None or pd.isna(value):
        return
    axis.axhline(value, color=INK, linewidth=0.9, linestyle=(0, (3, 3)), alpha=0.55)
    axis.annotate(text, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7, alpha=0.75)


def curves(overview: pd.DataFrame, results) -> plt.Figure:
    """Base and own-fine-tuned score of each set over pre-training, with 95 % bands and the baseline."""
    names = list(dict.fromkeys(overview["task"]))
    figure, axes = _panels(len(names), columns=3, width=3.1)
    base = results.main()[results.main()["tuned_on"] == ""].set_index(["task", "checkpoint"])
    with plt.rc_context(STYLE):
        for axis, name in zip(axes, names, strict=True):
            points = overview[overview["task"] == name].sort_values("step")
            _band(axis, points["step"], points["base"], points["base_stderr"], BASE, "base")
            if points["tuned"].notna().any():
                _band(axis, points["step"], points["tuned"], points["tuned_stderr"], TUNED, "fine-tuned")
            row = base.loc[name].iloc[-1] if name in base.index.get_level_values(0) else None
            if row is not None:
                choice = pd.isna(row["majority"]) or row["role"] == "multiple_choice"
                _baseline(axis, row["chance"] if choice else row["majority"], "chance" if choice else "majority")
            axis.set_title(name)
            _steps(axis, points["step"])
        axes[0].legend(loc="best", fontsize=8)
        figure.supxlabel("pre-training steps", fontsize=9)
        figure.supylabel("accuracy or ROUGE-L", fontsize=9)
    return figure


def groups(gains: pd.DataFrame) -> plt.Figure:
    """Mean change after fine-tuning by checkpoint: sets learned in pre-training against the others."""
    figure, (axis,) = _panels(1, width=5.4, height=2.7)
    with plt.rc_context(STYLE):
        for color, (label, points) in zip((BASE, TUNED), gains.groupby("group"), strict=False):
            points = points.sort_values("step")
            sets = int(points["sets"].max())
            _band(axis, points["step"], points["change"], points["stderr"], color, f"{label} ({sets} set{'s' * (sets != 1)})")
        axis.axhline(0, color=INK, linewidth=0.8)
        _steps(axis, gains["step"])
        axis.set_xlabel("pre-training steps")
        axis.set_ylabel("fine-tuned − base")
        axis.legend(loc="best", fontsize=8)
    return figure


def domains(table: pd.DataFrame) -> plt.Figure:
    """Mean change in and out of domain, one line per test set."""
    table = table.sort_values(["tuned_on", "role"])
    figure, (axis,) = _panels(1, width=5.6, height=0.34 * len(table) + 0.7)
    with plt.rc_context(STYLE):
        for place, row in enumerate(table.itertuples()):
            color = TUNED if row.role == "in_domain" else BASE
            axis.errorbar(row.change, place, xerr=1.96 * row.change_stderr, color=color, fmt="o", capsize=0, elinewidth=2.2)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(range(len(table)), table["task"])
        axis.invert_yaxis()
        axis.grid(axis="x")
        axis.grid(visible=False, axis="y")
        axis.set_xlabel("fine-tuned − base, mean over checkpoints")
        marks = [plt.Line2D([], [], color=color, marker="o", linestyle="") for color in (TUNED, BASE)]
        axis.legend(marks, ["in domain", "out of domain"], loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)
    return figure


def transfer(table: pd.DataFrame) -> plt.Figure:
    """Heat map: fine-tuned on the row's set, tested on the column's; mean change over checkpoints."""
    grid = table.pivot(index="tuned_on", columns="task", values="change")
    order = [name for name in grid.index if name in grid.columns] + [name for name in grid.columns if name not in grid.index]
    grid = grid.reindex(columns=order)
    figure, (axis,) = _panels(1, width=1.05 * len(grid.columns) + 1.6, height=0.55 * len(grid) + 0.8)
    limit = max(0.05, float(np.nanmax(np.abs(grid.to_numpy()))))
    with plt.rc_context(STYLE):
        axis.imshow(grid, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        for (row, column), value in np.ndenumerate(grid.to_numpy()):
            if not np.isnan(value):
                dark = abs(value) > 0.62 * limit
                axis.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=8.5, color="#ffffff" if dark else "#22262b")
        axis.set_xticks(range(len(grid.columns)), grid.columns, rotation=20, ha="right")
        axis.set_yticks(range(len(grid.index)), grid.index)
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.set_xlabel("tested on")
        axis.set_ylabel("fine-tuned on")
    return figure


def formats(table: pd.DataFrame, names: list[str]) -> plt.Figure:
    """Score under each prompt format over checkpoints: base (dashed) and fine-tuned on the set (solid)."""
    tasks = [name for name in dict.fromkeys(table["task"]) if (table["task"] == name).any()]
    figure, axes = _panels(len(tasks), columns=2, width=3.9)
    with plt.rc_context(STYLE):
        for axis, task in zip(axes, tasks, strict=True):
            for color, name in zip(SERIES, names, strict=False):
                for tuned_on, style in (("", "--"), (task, "-")):
                    points = table[(table["task"] == task) & (table["tuned_on"] == tuned_on)].sort_values("step")
                    if name in points and len(points):
                        axis.plot(points["step"], points[name], style, color=color, marker="o", markersize=3, label=name if style == "-" else None)
            axis.set_title(task)
            _steps(axis, table["step"])
        handles, labels = axes[0].get_legend_handles_labels()
        handles += [plt.Line2D([], [], color=INK, linestyle=style) for style in ("--", "-")]
        figure.legend(handles, labels + ["base", "fine-tuned"], loc="outside upper center", ncols=len(handles), fontsize=8)
        figure.supxlabel("pre-training steps", fontsize=9)
    return figure
