"""The turning point of a curve as a change-point fit: a line with one turn in the logarithm of the
tokens, against a logistic curve, a straight one and none at all. No jax.
"""

import numpy as np
import pandas as pd

from amuro_jax.analyses import series
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.figures import Series as Drawn
from amuro_jax.analyses.figures import short_number
from amuro_jax.analyses.words import listed
from amuro_jax.curves import shapes
from amuro_jax.results.results import Results

DRAWS = (
    400  # bootstrap draws per curve; the end of a 95 % interval is known to about 0.1 of its width
)


def change_points(results: Results, _=None) -> pd.DataFrame:
    """A line per curve with its shape, turn, interval and slopes; "none found" is an answer."""
    curves = series.all_series(results)
    return pd.DataFrame(series.of_each(curves, lambda one: _line(one, _shape(one))))


def _shape(one):
    return shapes.fit_shape(one.curve, DRAWS, row_values=one.draws(DRAWS))


def _line(one, shape):
    best = min(shape.bic.values(), default=np.nan)
    distance = {f"bic_{kind}": shape.bic.get(kind, np.nan) - best for kind in shapes.PARAMETERS}
    named = ("turn", "low", "high", "bounded", "before", "before_low", "before_high")
    more = (
        "after",
        "after_low",
        "after_high",
        "middle",
        "mostly",
        "mostly_low",
        "mostly_high",
        "p",
        "noise",
    )
    return {
        **one.line,
        "shape": shape.kind,
        "verdict": shape.why,
        **{name: getattr(shape, name) for name in (*named, *more)},
        **distance,
        "notes": "; ".join(one.curve.notes),
    }


def say_change_points(results: Results, tables):
    """The turns that were found, and how many curves have none."""
    table = tables["change_points"]
    if table.empty or not (table["shape"] != "").any():
        return  # the table says of each curve why
    turns = table.assign(task=series.named_sets(table))[table["shape"] == shapes.TURN]
    for model, members in turns.groupby("model", sort=False):
        shown = members.sort_values("p").head(6)
        texts = [
            f"{row.task} ({row.suite if model == series.BASE else row.tuned_on}) at "
            f"{_place(row.turn, row.unit)} (95 % interval {_place(row.low, '')} to "
            f"{_place(row.high, row.unit)}; {row.verdict})"
            for row in shown.itertuples()
        ]
        rest = len(members) - len(shown)
        more = f", and {rest} more in the table" if rest else ""
        yield Sentence(f"Turns of {model} curves: {listed(texts)}{more}.")
    none = table[table["shape"] != shapes.TURN]
    if len(none):
        why = none["verdict"].str.removeprefix("none found: ").value_counts()
        reasons = listed(f"{text} ({number})" for text, number in why.items())
        yield Sentence(f"No turn is found in {len(none)} of {len(table)} curves: {reasons}.", False)


def _place(value, unit):
    if np.isnan(value):
        return "–"
    return f"{short_number(value)}{' ' + unit if unit and unit != 'order' else ''}"


def draw_change_points(results: Results, tables):
    """Base curves (or, of one series, base and fine-tuned) with the fitted line dashed."""
    table = tables["change_points"]
    chosen = series.all_series(results, series.BASE, series.TUNED)
    shape_of = {_identity(row): row for row in table.to_dict("records")}

    def drawn(one, entry):
        x = tuple(series.x_of(one.curve))
        points = Drawn(
            one.label,
            entry.color,
            x,
            tuple(one.curve.value),
            names=one.curve.names,
            marker=entry.marker,
        )
        row = shape_of.get(_identity(one.line))
        return (points, *_fitted(one, row, entry))

    return series.panels(chosen, drawn)


def _identity(line):
    return tuple(line[name] for name in ("model", *series.PLACE))


def _fitted(one, row, entry):
    """The two straight parts, through the points' least squares."""
    if row is None or row["shape"] != shapes.TURN:
        return ()
    points, u = one.curve.positions()
    log = one.curve.unit != "order"
    turn = np.log(row["turn"]) if log else row["turn"]
    design = np.stack([np.ones_like(u), u, np.maximum(u - turn, 0)], axis=1)
    coefficients = np.linalg.lstsq(design, one.curve.value[points], rcond=None)[0]
    ends = np.array([u[0], turn, u[-1]])
    parts = np.stack([np.ones(3), ends, np.maximum(ends - turn, 0)], axis=1)
    x = ends / np.log(10) if log else ends
    y = parts @ coefficients
    return (
        Drawn(f"{one.label}, fit", entry.color, tuple(x), tuple(y), marker="plus", dashed=True),
    )


def show_change_points(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    return pd.DataFrame(
        {
            "series": table["suite"],
            "set": series.named_sets(table),
            "model": [
                f"{row.model} {row.tuned_on}".strip()
                for row in table[["model", "tuned_on"]].itertuples()
            ],
            "metric": table["metric"],
            "verdict": table["verdict"],
            "turn at": [
                f"{_place(row.turn, row.unit)} ({_place(row.low, '')} to {_place(row.high, '')})"
                if row.shape == shapes.TURN
                else "–"
                for row in table[["shape", "turn", "low", "high", "unit"]].itertuples()
            ],
            "notes": table["notes"],
        }
    )


CHANGE_POINTS = Analysis(
    "change_points",
    "Turns of curves",
    change_points,
    {
        **series.SERIES_COLUMNS,
        "shape": "the best by BIC: constant, linear, turn or logistic; empty: nothing can be said",
        "verdict": "what that means, or why no turn is found",
        "turn": "tokens (steps, order) at the turn; missing: none found",
        "low": "lower end of its 95 % interval",
        "high": "upper end of its 95 % interval",
        "bounded": "whether both ends of the interval lie within the curve",
        "before": "slope before the turn, per e-fold of tokens",
        "before_low": "lower end of the 95 % interval of `before`",
        "before_high": "upper end of the 95 % interval of `before`",
        "after": "slope after it",
        "after_low": "lower end of the 95 % interval of `after`",
        "after_high": "upper end of the 95 % interval of `after`",
        "middle": "of a logistic curve: where half of the change is done",
        "mostly": "of a logistic curve: where nine tenths of the change are done",
        "mostly_low": "lower end of the 95 % interval of `mostly`",
        "mostly_high": "upper end of the 95 % interval of `mostly`",
        "p": "p-value that a straight curve shows as clear a turn",
        "noise": "standard deviation of the scores about the shape",
        **{
            f"bic_{kind}": f"BIC of the {kind} shape less that of the best one"
            for kind in shapes.PARAMETERS
        },
        **series.NOTES_COLUMN,
    },
    "Where does more pre-training stop paying",
    draw_change_points,
    "Each curve as one of four shapes in the logarithm of the tokens: constant, straight, straight "
    "with one turn, or logistic; the best by BIC, and a turn only where a straight curve with "
    "noise shows as clear a one in fewer than 5 % of draws. Interval of the turn: bootstrap of the "
    "residuals, and of the test rows where they are known. The untrained model has no place on the "
    "axis and takes no part. Noise that neighbouring checkpoints share is not in the interval.",
    say_change_points,
    show_change_points,
    across=True,
)
