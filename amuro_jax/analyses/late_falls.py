"""Sets that get worse late in pre-training, and sets that stop improving. No jax."""

import numpy as np
import pandas as pd

from amuro_jax.analyses import series
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.changes import LEVEL
from amuro_jax.analyses.words import listed
from amuro_jax.curves import falls
from amuro_jax.evals.statistics import holm
from amuro_jax.results.results import Results

ROW_DRAWS = 400
LATE = 0.05  # share of pre-training: a peak before is that of a barely trained model
WORSE = "gets worse"
_SAME = ["task", "format", "shots", "metric", "tuned_on"]  # what two models are compared on


def late_falls(results: Results, _=None) -> pd.DataFrame:
    """A line per base and fine-tuned curve: fall from its peak to its end, and from where on it has
    no trend. p-values with Holm's correction over all curves.
    """
    curves = series.all_series(results, series.BASE, series.TUNED)
    table = pd.DataFrame(series.of_each(curves, _line))
    if table.empty:
        return table
    table["p_holm"] = holm(table["p"])
    table["verdict"] = [_verdict(line) for line in table.to_dict("records")]
    # Another model's fall is a test of its own: it is not picked among many.
    other = table[(table["p"] < LEVEL) & table["rose"] & (table["peak_share"] >= LATE)]
    repeated = {key: set(members["suite"]) for key, members in other.groupby(_SAME, sort=False)}
    table["repeated_by"] = [
        ", ".join(
            sorted(repeated.get(tuple(line[name] for name in _SAME), set()) - {line["suite"]})
        )
        if line["verdict"] == WORSE
        else ""
        for line in table.to_dict("records")
    ]
    return table.drop(columns="why")


def _verdict(line):
    if line["why"]:
        return line["why"]
    if line["p_holm"] >= LEVEL or not line["rose"]:
        return "no fall found"
    return WORSE if line["peak_share"] >= LATE else "falls early, from a barely trained model"


def _line(one):
    curve = one.curve
    sign = -1 if series.falls_when_learned(one.place["metric"]) else 1
    fall = falls.find_fall(curve, sign, one.draws(ROW_DRAWS))
    rest = falls.find_saturation(curve)
    named = ("fall", "stderr", "p", "peak", "end", "rose", "noise", "window")
    return {
        **one.line,
        **{name: getattr(fall, name) for name in named},
        "peak_at": curve.names[fall.peak_at] if fall.peak_at >= 0 else "",
        "peak_share": curve.x[fall.peak_at] / curve.x[-1] if fall.peak_at >= 0 else np.nan,
        "no_trend_from": curve.names[rest.at] if rest.at >= 0 else "",
        "left": rest.left,
        "left_low": rest.low,
        "left_high": rest.high,
        "done_at_half": rest.half,
        "why": fall.why,
        "notes": "; ".join(curve.notes),
    }


def say_falls(results: Results, tables):
    """The clearest falls, with the other models that repeat them."""
    table = tables["late_falls"]
    if table.empty or table["p"].isna().all():
        return  # the table says of each curve why
    falls = table.assign(task=series.named_sets(table))[table["verdict"] == WORSE].sort_values("p")
    if falls.empty:
        tested = int(table["p"].notna().sum())
        yield Sentence(
            f"No score gets clearly worse towards the end of pre-training ({tested} curves tested, "
            "the picking of the peak and Holm's correction included).",
            False,
        )
        return
    texts = []
    for task, members in list(falls.groupby("task", sort=False))[:5]:
        first = members.iloc[0]
        models = members["suite"].nunique()
        who = first["suite"] if first["model"] == series.BASE else f"after {first['tuned_on']}"
        rest = f" and {models - 1} more models" if models > 1 else ""
        texts.append(
            f"{task} ({who}: {first['peak']:.3f} at {first['peak_at']} → {first['end']:.3f}{rest})"
        )
    yield Sentence(
        f"Gets worse towards the end of pre-training: {listed(texts)}; p below 0.05 with the "
        "picking of the peak and Holm's correction included.",
        effect=float((falls["fall"] / falls["stderr"]).max()),
    )


def show_falls(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: falls first."""
    shown = table.sort_values("p", kind="stable") if len(table) else table
    return pd.DataFrame(
        {
            **series.place_columns(shown),
            "metric": shown["metric"],
            "verdict": shown["verdict"],
            "peak": [
                "–" if np.isnan(row.peak) else f"{row.peak:.3f} at {row.peak_at}"
                for row in shown[["peak", "peak_at"]].itertuples()
            ],
            "end": ["–" if np.isnan(one) else f"{one:.3f}" for one in shown["end"]],
            "p (Holm)": ["–" if np.isnan(one) else f"{one:.2g}" for one in shown["p_holm"]],
            "repeated by": shown["repeated_by"],
            "no trend from": shown["no_trend_from"],
            "notes": shown["notes"],
        }
    )


FALLS = Analysis(
    "late_falls",
    "Falls and saturation",
    late_falls,
    {
        **series.SERIES_COLUMNS,
        "fall": "mean of the points about the peak less that of the last ones; positive: worse",
        "stderr": "standard error of `fall` for a peak that was not picked",
        "p": "p-value that a curve that never falls shows as large a fall somewhere",
        "p_holm": "the same with Holm's correction over all curves",
        "peak": "mean of the points about the peak",
        "end": "mean of the last points",
        "rose": "whether the peak is clearly above the start",
        "noise": "standard deviation of one point that the test reckons with",
        "window": "points whose mean is taken",
        "peak_at": "checkpoint of the peak",
        "peak_share": "share of pre-training that is done there",
        "no_trend_from": "earliest checkpoint from which on no trend can be seen; empty: none",
        "left": "change along the line from there to the end",
        "left_low": "lower end of its 95 % interval",
        "left_high": "upper end of its 95 % interval",
        "done_at_half": "share of the change from first to last that is done at half of the way",
        "verdict": "gets worse, falls early, no fall found, or why nothing can be said",
        "repeated_by": "other series in which the same set falls (p below 0.05, not corrected, "
        "since they are tests of their own)",
        **series.NOTES_COLUMN,
    },
    "Where does more pre-training stop paying",
    caption="Fall: from the highest mean of neighbouring points to that of the last ones. The "
    "p-value is that of the closest curve that never falls, with noise, whose draws pick their own "
    "peak. A fall from the score of the untrained model is none, "
    "and one from a peak in the first 5 % of pre-training is called early. Noise that neighbouring "
    "checkpoints share (a changed data order, say) is not in the test: a fall that another model "
    "repeats is stronger evidence than a small p-value.",
    sentences=say_falls,
    shown=show_falls,
    across=True,
)
