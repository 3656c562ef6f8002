"""Is a model trained too long to be fine-tuned? Fine-tuned scores and gains over pre-training, with
an interval for where they turn. No jax.
"""

import numpy as np
import pandas as pd

from amuro_jax.analyses import series
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import LEVEL
from amuro_jax.analyses.figures import Series as Drawn
from amuro_jax.analyses.words import count, listed
from amuro_jax.curves.turn import find_turn
from amuro_jax.evals.statistics import NORMAL_95, holm
from amuro_jax.results.pooled import seed_values
from amuro_jax.results.results import Results

ROW_DRAWS = 1000
FALLS, NONE = "falls", "no fall found"


def overtraining(results: Results, _=None) -> pd.DataFrame:
    """A line per curve of a fine-tuned score and of a gain, each way of tuning by itself: the
    highest point, the last one, where the best checkpoint may be, and whether the curve has fallen.
    """
    table = pd.DataFrame([_line(results, one) for one in _curves(results)])
    if table.empty:
        return table
    table["p_holm"] = holm(table["p"])
    clear = table["p_holm"] < LEVEL
    table["verdict"] = np.where(table["why"] != "", table["why"], np.where(clear, FALLS, NONE))
    return table.drop(columns="why")


def _curves(results):
    """Of the sets in and out of the fine-tuning's domain; with rows, since seeds are told apart by
    their cells.
    """
    for one in series.all_series(results, series.TUNED, series.GAIN):
        task, tuned_on = one.place["task"], one.place["tuned_on"]
        if one.has_rows and not series.falls_when_learned(one.place["metric"]):
            if task == tuned_on or one.results.role(task) == "out_of_domain":
                yield one


def _line(results, one):
    curve = one.curve
    seeds = seed_values(one.results, [cells[-1] for cells in one.records])
    found = find_turn(curve.value, _deviations(one))
    names = ("", "", "") if found.why else (found.best, found.first, found.last)
    best, first, last = (name if name == "" else curve.names[name] for name in names)
    return {
        **one.line,
        "seeds": max(map(len, seeds)),
        "peak": curve.value.max() if len(curve) else np.nan,
        "peak_at": best,
        "turn_from": first,
        "turn_to": last,
        "end": curve.value[-1] if len(curve) else np.nan,
        **{name: getattr(found, name) for name in ("fall", "fall_low", "fall_high", "p")},
        "why": found.why,
    }


def _deviations(one):
    """Draws of the errors of a curve's points [N, R]: of test rows and training seeds."""
    draws = one.draws(ROW_DRAWS)
    return draws - draws.mean(axis=1, keepdims=True)


def say_overtraining(results: Results, tables):
    """Where fine-tuned scores clearly fall, and how many do not."""
    table = tables["overtraining"]
    tested = table[table["p"].notna() & (table["model"] == series.TUNED)]
    if tested.empty:
        return
    falling = tested.assign(task=series.named_sets(tested))[tested["verdict"] == FALLS]
    for row in falling.itertuples():
        way = f" ({row.variant})" if row.variant else ""
        yield Sentence(
            f"{row.task} tuned on {row.tuned_on}{way} gets worse with more pre-training: "
            f"{row.peak:.3f} at {row.peak_at}, {row.end:.3f} at the end (fall at least "
            f"{row.fall_low:.3f}; the best checkpoint lies between {row.turn_from} and "
            f"{row.turn_to}).",
            effect=NORMAL_95 * row.fall / max(row.fall - row.fall_low, 1e-9),
        )
    rest = tested[tested["verdict"] == NONE]
    if len(rest):
        most = rest.loc[rest["fall_high"].idxmax()]
        curves = count(len(rest), "other curve" if len(falling) else "curve")
        where = "" if len(falling) else f", of {listed(rest['task'].unique())}"
        yield Sentence(
            f"No fall of the fine-tuned score with more pre-training can be seen in {curves}"
            f"{where} (Holm's correction included; the widest 95 % interval, of {most['task']}, "
            f"excludes falls of more than {most['fall_high']:.3f}).",
            False,
        )


def draw_overtraining(results: Results, tables):
    """Fine-tuned scores over pre-training, each way of tuning a line, with its band over rows and
    seeds.
    """
    chosen = [one for one in _curves(results) if one.model == series.TUNED]

    def drawn(one, entry):
        curve, half = one.curve, NORMAL_95 * np.nan_to_num(_deviations(one).std(axis=1))
        return (
            Drawn(
                one.label,
                entry.color,
                tuple(series.x_of(curve)),
                tuple(curve.value),
                tuple(curve.value - half),
                tuple(curve.value + half),
                names=curve.names,
                marker=entry.marker,
            ),
        )

    return series.panels(chosen, drawn)


def show_overtraining(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table."""
    known = [not name == "" for name in table["peak_at"]]
    return pd.DataFrame(
        {
            **series.place_columns(table),
            "way": table["variant"],
            "highest": [
                f"{row.peak:.3f} at {row.peak_at}" if told else "–"
                for row, told in zip(table.itertuples(), known, strict=True)
            ],
            "best between": [
                f"{row.turn_from} and {row.turn_to}" if told else "–"
                for row, told in zip(table.itertuples(), known, strict=True)
            ],
            "last": table["end"].round(3),
            "fall": [
                f"{row.fall:.3f} ({row.fall_low:.3f} to {row.fall_high:.3f})" if told else "–"
                for row, told in zip(table.itertuples(), known, strict=True)
            ],
            "verdict": table["verdict"],
        }
    )


OVERTRAINING = Analysis(
    "overtraining",
    "Fine-tuned scores that fall with more pre-training",
    overtraining,
    {
        **series.SERIES_COLUMNS,
        "seeds": "training seeds behind a point",
        "peak": "highest score (of a gain: highest gain)",
        "peak_at": "its checkpoint",
        "turn_from": "first checkpoint that may be the best one (95 %)",
        "turn_to": "last checkpoint that may be the best one (95 %)",
        "end": "score of the last checkpoint",
        "fall": "highest score − that of the last checkpoint",
        "fall_low": "lower end of its 95 % interval, the picking of the highest included",
        "fall_high": "upper end of its 95 % interval",
        "p": "p-value that the last checkpoint is as good as every other one",
        "p_holm": "p with Holm's correction over all lines",
        "verdict": f"{FALLS}, {NONE}, or why nothing can be said",
    },
    "Where does more pre-training stop paying",
    figure=draw_overtraining,
    caption="Each curve's checkpoints are compared all at once: the best one lies between "
    "`turn_from` and `turn_to` in 95 % of cases, and a fall is said where the last checkpoint is "
    "clearly worse than another one (Holm's correction over all curves). Intervals are over test "
    "rows and, where a study has several seeds, over seeds of the training; another pre-training "
    "run is not in them. So are the bands in the figure, where the variance between seeds is taken "
    "to be the same for all points of a curve.",
    sentences=say_overtraining,
    shown=show_overtraining,
    across=True,
)
