"""What shots in the prompt do to base and fine-tuned models. No jax."""

import itertools

import pandas as pd

from amuro_jax.analyses import figures
from amuro_jax.analyses.analysis import Analysis
from amuro_jax.analyses.changes import PLACE_COLUMNS
from amuro_jax.analyses.figures import FigureSpec, LinePanel
from amuro_jax.results.results import Results


def shots(results: Results, _=None) -> pd.DataFrame:
    """Scores in the main format by number of shots, of the sets that were scored with several."""
    lines = []
    for task in results.tasks():
        numbers = sorted(results.cells[results.cells["task"] == task]["shots"].unique())
        if len(numbers) < 2:
            continue
        models, format = ["", *results.tuned_on(task)], results.main[task][0]
        for tuned_on, number, checkpoint in itertools.product(models, numbers, results.checkpoints):
            cell = results.find(checkpoint, tuned_on, task, format, number)
            if cell is not None:
                values = {name: cell[name] for name in ("value", "stderr", "low", "high")}
                lines.append(
                    {
                        "task": task,
                        "tuned_on": tuned_on,
                        "checkpoint": checkpoint,
                        "format": format,
                        "shots": int(number),
                        **values,
                    }
                )
    return pd.DataFrame(lines)


def draw_shots(results: Results, tables) -> FigureSpec | None:
    """Per set a panel of the base models and one of each fine-tuned kind, a line per number of
    shots.
    """
    table = tables["shots"]
    if table.empty:
        return None
    line, panels = figures.track(results), []
    labels = {number: f"{number} shots" for number in sorted(table["shots"].unique())}
    legend = figures.entries(labels.values())
    for (task, tuned_on), points in table.groupby(["task", "tuned_on"], sort=False):
        drawn = tuple(
            figures.series(line, points[points["shots"] == number], legend[label], "value")
            for number, label in labels.items()
            if (points["shots"] == number).any()
        )
        title = f"{task}, {f'after {tuned_on}' if tuned_on else 'base'}"
        metric = figures.Axis(figures.metric_name(results, task))
        panels.append(LinePanel(title, line.axis, metric, drawn, task=task))
    return FigureSpec(figures.one_range(panels), tuple(legend.values()), columns=2)


SHOTS = Analysis(
    "shots",
    "Effect of shots",
    shots,
    {
        **{name: PLACE_COLUMNS[name] for name in ("task", "tuned_on", "checkpoint", "format")},
        "shots": PLACE_COLUMNS["shots"],
        "value": "score",
        "stderr": "its bootstrap standard error",
        "low": "lower end of its 95 % interval",
        "high": "upper end of its 95 % interval",
    },
    "How much depends on the number of shots",
    draw_shots,
    "Scores in the main format by number of shots, with 95 % intervals.",
)
