"""The turning point: from which checkpoint on more pre-training cannot be seen to pay. No jax."""

import pandas as pd

from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import PLACE_COLUMNS, baseline, change, floor
from amuro_jax.analyses.learned import OWN
from amuro_jax.analyses.words import listed
from amuro_jax.results.results import Results


def turning_point(results: Results, _=None) -> pd.DataFrame:
    """Per set the earliest checkpoint whose score is not distinguishable from the best, base and
    fine-tuned.

    A model that is nowhere clearly above its baseline has no turning point. Checkpoints that serve
    the weights of a later one are left out.
    """
    lines = []
    for task in results.tasks(*OWN):
        for tuned_on in ["", *results.tuned_on(task)]:
            bases = [results.find(name, tuned_on, task) for name in results.distinct]
            cells = [cell for cell in bases if cell is not None]
            if len(cells) >= 2:
                lines.append(_turning(results, task, tuned_on, cells, len(bases) - len(cells)))
    return pd.DataFrame(lines)


def _turning(results, task, tuned_on, cells, missing):
    best = max(cells, key=lambda cell: cell["value"])
    height = baseline(best)
    above = results.estimate(lambda score: score[..., 0] - floor(height), [best])
    line = {
        "task": task,
        "tuned_on": tuned_on,
        "format": results.main[task][0],
        "baseline": height,
        "above_baseline": bool(above.low > 0),
        "best": best["checkpoint"],
        "best_value": best["value"],
        "reached": "",
        "reached_value": float("nan"),
        "missing": missing,
        "note": "not tested: no standard errors" if pd.isna(above.low) else "",
    }
    if line["above_baseline"]:
        first = next(cell for cell in cells if not results.estimate(change, [cell, best]).low > 0)
        line |= {"reached": first["checkpoint"], "reached_value": first["value"]}
    return line


def say_turning(results: Results, tables):
    """For fine-tuned models, the checkpoints from which on more pre-training cannot be seen to pay;
    and the models that have none.
    """
    table = tables["turning_point"]
    if table.empty:
        return
    own = table[table["task"] == table["tuned_on"]]
    last = results.distinct[-1]
    early = own[own["above_baseline"] & (own["reached"] != last)]
    late = own[own["above_baseline"] & (own["reached"] == last)]
    if len(early):
        points = listed(f"{row.task} from {row.reached}" for row in early.itertuples())
        yield Sentence(
            "Turning point of fine-tuned models, from which on the score is not distinguishable "
            f"from the best one: {points}."
        )
    if len(late):
        yield Sentence(
            "The fine-tuned model of the last checkpoint is clearly better than every earlier one: "
            f"{listed(late['task'])}."
        )
    low = own[~own["above_baseline"] & (own["note"] == "")]
    if len(low):
        yield Sentence(
            "No turning point, since no fine-tuned model is clearly above the baseline: "
            f"{listed(low['task'])}.",
            False,
        )


def show_turning(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    return pd.DataFrame(
        {
            "set": table["task"],
            "model": [f"after {name}" if name else "base" for name in table["tuned_on"]],
            "reached at": [
                f"{row.reached} ({row.reached_value:.3f})"
                if row.above_baseline
                else row.note or "never clearly above the baseline"
                for row in table.itertuples()
            ],
            "best": [f"{row.best} ({row.best_value:.3f})" for row in table.itertuples()],
            "baseline": [f"{value:.3f}" for value in table["baseline"]],
        }
    )


TURNING = Analysis(
    "turning_point",
    "Turning points",
    turning_point,
    {
        **{name: PLACE_COLUMNS[name] for name in ("task", "tuned_on", "format")},
        "baseline": "majority class or chance, whichever is higher",
        "above_baseline": "whether the best score is clearly above the baseline",
        "best": "checkpoint of the highest score",
        "best_value": "that score",
        "reached": "earliest checkpoint not distinguishable from the best",
        "reached_value": "its score",
        "missing": "checkpoints of which the score is missing",
        "note": "why a model was not tested",
    },
    "Where does more pre-training stop paying",
    caption="The earliest checkpoint whose score is not distinguishable from the best one (95 % "
    "interval of the paired difference): from there on these rows cannot show that more "
    "pre-training pays. A model that is nowhere clearly above its baseline has none; checkpoints "
    "that serve the weights of a later one are left out.",
    sentences=say_turning,
    shown=show_turning,
)
