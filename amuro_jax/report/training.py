"""Fine-tuning as it went: loss by optimizer step, and what it cost, from the records of a store and
the logs of its runs. No jax.

It is an analysis like the others, but for what it reads: they know scores alone.
"""

import json

import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis, Tables
from amuro_jax.analyses.figures import Axis, FigureSpec, LegendEntry, LinePanel, Series
from amuro_jax.analyses.registry import all_analyses
from amuro_jax.results.results import Results
from amuro_jax.results.store import Store

NAME = "training"
COLUMNS = {
    "tuned_on": "fine-tuning set",
    "checkpoint": "pre-training checkpoint that was fine-tuned",
    "variant": "tells models of one set and checkpoint apart; empty: the only one",
    "examples": "training examples that the recipe asks for; empty: all",
    "epochs": "times that each is seen",
    "steps": "optimizer steps",
    "tokens": "tokens of the examples, over all epochs",
    "loss": "mean loss of the last logged steps",
    "seconds": "wall time, compilation included",
    "key": "identity of the fine-tuned model",
}


def with_training(results: Results, store: Store) -> Tables:
    """Every analysis's table on a study, and that of its fine-tunings."""
    return Tables(results, (*all_analyses(), _analysis(store)))


def _analysis(store):
    return Analysis(
        NAME,
        "Fine-tuning: loss and cost",
        lambda results, _: training(results, store),
        COLUMNS,
        "What does fine-tuning cost",
        lambda results, tables: draw(results, tables[NAME], store),
        "Training loss by optimizer step, as logged; of some checkpoints where there are many.",
        shown=shown,
        note="Time is wall time on the machine that the study ran on, compilation included.",
    )


def training(results: Results, store: Store) -> pd.DataFrame:
    """A line per fine-tuned model that the study scores."""
    tuned = results.cells[results.cells["tuned_on"] != ""]
    pairs = set(zip(tuned["checkpoint"], tuned["tuned_on"], strict=True))
    lines = [
        {
            "tuned_on": record.model.tuned_on,
            "checkpoint": record.model.checkpoint,
            "variant": record.model.variant,
            "examples": record.recipe.rows,
            "epochs": record.recipe.epochs,
            **{name: record.metrics.get(name) for name in ("steps", "tokens", "loss")},
            "seconds": record.seconds,
            "key": record.key,
        }
        for record in store.records("train")
        if (record.model.checkpoint, record.model.tuned_on) in pairs
    ]
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    order = {name: index for index, name in enumerate(results.checkpoints)}
    return table.sort_values(
        ["tuned_on", "checkpoint"],
        key=lambda column: column.map(order) if column.name == "checkpoint" else column,
        ignore_index=True,
    )


def draw(results: Results, table: pd.DataFrame, store: Store) -> FigureSpec | None:
    """Per fine-tuning set a panel with the loss of some checkpoints' runs."""
    chosen = figures.thinned(results.checkpoints)
    looks = figures.entries(chosen).items()
    legend = {name: LegendEntry(name, look.color, "") for name, look in looks}
    panels = []
    for tuned_on, models in table.groupby("tuned_on", sort=False):
        curves = [
            (legend[row.checkpoint], _losses(store, row.key))
            for row in models.itertuples()
            if row.checkpoint in legend
        ]
        drawn = tuple(
            Series(entry.label, entry.color, *zip(*points, strict=True), marker="")
            for entry, points in curves
            if points
        )
        if drawn:
            last = max(max(line.x) for line in drawn)
            ticks = tuple((at, figures.short_number(at)) for at in _ticks(last))
            axis = Axis("optimizer step", 0, last, ticks)
            panels.append(LinePanel(tuned_on, axis, Axis("training loss"), drawn))
    if not panels:
        return None
    return FigureSpec(figures.one_range(panels), tuple(legend.values()))


def _ticks(last):
    step = max(1, int(round(last / 4, -1 if last >= 40 else 0)))
    return range(0, int(last) + 1, step)


def _losses(store, key):
    """(step, loss) of a run, from its log; empty where the log is gone or cut off."""
    text = store.storage.child("runs", key).get("metrics.jsonl") or b""
    points = []
    for line in text.decode(errors="replace").splitlines():
        try:
            logged = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if "loss" in logged and "step" in logged:
            points.append((float(logged["step"]), float(logged["loss"])))
    return points


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: a line per fine-tuning set."""
    groups = table.groupby("tuned_on", sort=False)
    return pd.DataFrame(
        {
            "fine-tuning set": [name for name, _ in groups],
            "models": [f"{len(models)}" for _, models in groups],
            "examples × epochs": [
                " or ".join(
                    f"{'all' if pd.isna(rows) else int(rows)} × {int(epochs)}"
                    for rows, epochs in models[["examples", "epochs"]].drop_duplicates().to_numpy()
                )
                for _, models in groups
            ],
            "steps": [_range(models["steps"], 0) for _, models in groups],
            "last loss, first to last checkpoint": [
                " → ".join(f"{value:.3f}" for value in models["loss"].dropna().iloc[[0, -1]])
                if models["loss"].notna().any()
                else "–"
                for _, models in groups
            ],
            "seconds per model": [_range(models["seconds"], 1) for _, models in groups],
            "minutes in all": [f"{models['seconds'].sum() / 60:.1f}" for _, models in groups],
        }
    )


def _range(values, digits):
    values = values.dropna().astype(float)
    if values.empty:
        return "–"
    low, high = f"{values.min():.{digits}f}", f"{values.max():.{digits}f}"
    return low if low == high else f"{low} to {high}"
