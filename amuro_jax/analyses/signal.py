"""Signal and noise: which sets and metrics can tell two checkpoints, sizes or seeds apart, and with
how many rows. No jax.
"""

import re

import numpy as np
import pandas as pd

from amuro_jax.analyses import figures, row_metrics, series
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.series import Series
from amuro_jax.analyses.words import listed
from amuro_jax.curves import noise
from amuro_jax.curves.curve import make_curve
from amuro_jax.results.results import Results

CHECKPOINTS, MODELS, SEEDS = "checkpoints", "models", "seeds"
SHARES = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
NEAR = 1.5  # a checkpoint within this factor of an amount of pre-training stands for it
_SEED = re.compile(r"[-_]?seed[-_]?\w+$")
_VIEW = ("tuned_on", "task", "format", "shots", "metric")


def signal_and_noise(results: Results, _=None) -> pd.DataFrame:
    """A line per curve, metric and subset of rows; and per set for the differences between models
    (sizes, fine-tuned models) and seeds.
    """
    curves = series.all_series(results, series.BASE, series.TUNED)
    lines = [line for one in curves for line in _of_curve(one)]
    return pd.DataFrame([*lines, *_between(curves, MODELS), *_between(curves, SEEDS)])


def _of_curve(one):
    rows = row_metrics.row_curves(one)
    needed = _rows_needed(one, rows)
    yield _line(one.line, one.curve, "", needed, one.curve.notes)
    if rows is None:
        return
    for metric, values in rows.values.items():
        where = {"": np.ones(len(rows.rows), bool)}
        where |= {name: rows.groups == name for name in np.unique(rows.groups) if name}
        for subset, members in where.items():
            if metric == row_metrics.SCORE and not subset:
                continue  # that is the curve itself
            named = one.place["metric"] if metric == row_metrics.SCORE else metric
            curve = _mean_curve(one.curve, values[members])
            needed = _needed(curve, _paired_variance(curve, values[members]), int(members.sum()))
            notes = (f"{rows.left_out} rows are not in all checkpoints",) if rows.left_out else ()
            yield _line(one.line | {"metric": named}, curve, subset, needed, notes)


def _mean_curve(curve, values):
    stderr = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else ()
    return make_curve(curve.names, curve.x, [None] * len(curve), values.mean(axis=0), stderr)


def _line(named, curve, subset, needed, notes):
    tail = curve.value[len(curve) - noise.last_of(len(curve)) :]
    measured = noise.signal_and_noise(curve.value, [tail], within=True)
    sign = -1 if series.falls_when_learned(named["metric"]) else 1
    tau, p = noise.kendall(curve.x, sign * curve.value)
    return {
        "scope": CHECKPOINTS,
        **named,
        "subset": subset,
        **_numbers(measured),
        "tau": tau,
        "tau_p": p,
        **dict.fromkeys(("decision", "decision_low", "decision_high"), np.nan),
        **needed,
        "notes": "; ".join([*([measured.why] if measured.why else []), *notes]),
    }


def _numbers(measured):
    return {
        "mean": measured.mean,
        "signal": measured.signal,
        "noise": measured.noise,
        "ratio": measured.ratio,
        "ratio_low": measured.low,
        "ratio_high": measured.high,
        "last": measured.last,
    }


def _half(curve):
    """Place of the checkpoint nearest half of the pre-training, the last one left out."""
    return int(np.abs(curve.x[:-1] - curve.x[-1] / 2).argmin())


def _paired_variance(curve, values):
    return float((values[:, -1] - values[:, _half(curve)]).var()) if len(curve) > 1 else np.nan


def _rows_needed(one: Series, rows):
    if rows is not None and row_metrics.SCORE in rows.values:
        values = rows.values[row_metrics.SCORE]
        return _needed(one.curve, _paired_variance(one.curve, values), len(values))
    if len(one.curve) < 2:
        return _needed(one.curve, np.nan, np.nan)
    positions = (_half(one.curve), len(one.curve) - 1)
    sizes = [_size(one.records[at][0], one.curve.stderr[at]) for at in positions]
    variance = sum(
        size * one.curve.stderr[at] ** 2 for size, at in zip(sizes, positions, strict=True)
    )
    return _needed(one.curve, variance, sizes[-1])


def _size(record, stderr):
    """Rows behind a score: as stored, or those that give an accuracy this standard error."""
    if not pd.isna(record.get("n")) and record["n"] > 0:
        return float(record["n"])
    value = record["value"]
    return value * (1 - value) / stderr**2 if 0 < value < 1 and stderr > 0 else np.nan


def _needed(curve, variance, rows):
    names = ("half", "difference", "rows", "rows_needed", "tells")
    if len(curve) < 2:
        return dict(zip(names, ("", np.nan, rows, np.nan, ""), strict=True))
    half = _half(curve)
    difference = float(curve.value[-1] - curve.value[half])
    needed = noise.rows_needed(difference, variance)
    tells = "" if np.isnan(needed) or np.isnan(rows) else "yes" if rows >= needed else "no"
    return dict(zip(names, (curve.names[half], difference, rows, needed, tells), strict=True))


def _between(curves, scope):
    """Lines for the differences between models, or between the seeds of one model."""
    groups: dict[tuple, list[Series]] = {}
    for one in curves:
        model = (one.place["suite"], one.place["variant"])
        family = "".join(_SEED.sub("", str(part)) for part in model) if scope == SEEDS else ""
        groups.setdefault((family, *(one.place[name] for name in _VIEW)), []).append(one)
    for members in groups.values():
        members = [one for one in members if len(one.curve)]
        long = [one for one in members if len(one.curve) >= noise.FEWEST_LAST]
        # One model of a single checkpoint must not keep the others from being compared.
        if len(long) > 1:
            short = [one.label for one in members if len(one.curve) < noise.FEWEST_LAST]
            yield _line_between(long, scope, short)
        elif len(members) > 1:
            yield _line_between(members, scope, [])


def _line_between(members, scope, short):
    tails = [one.curve.value[-noise.last_of(len(one.curve)) :] for one in members]
    measured = noise.signal_and_noise(np.array([tail.mean() for tail in tails]), tails)
    early = np.array([_value_at(one.curve, 0.5) for one in members])
    ends = np.array([one.curve.value[-1] for one in members])
    decision = noise.decision_interval(early, ends)
    first = members[0]
    variants = scope == SEEDS and _SEED.sub("", str(first.place["suite"])) != first.place["suite"]
    suites = [one.place["suite"] for one in members]
    return {
        "scope": scope,
        **first.line,
        "suite": _SEED.sub("", str(suites[0])) if variants else f"{len(members)} {scope}",
        "checkpoints": sum(len(one.curve) for one in members),
        "subset": "",
        **_numbers(measured),
        "tau": np.nan,
        "tau_p": np.nan,
        **dict(zip(("decision", "decision_low", "decision_high"), decision, strict=True)),
        **_needed(make_curve([], [], [], []), np.nan, np.nan),
        "notes": "; ".join(filter(None, [measured.why, _left_out(short)])),
    }


def _left_out(short):
    few = f"fewer than {noise.FEWEST_LAST} checkpoints"
    return f"left out, with {few}: {listed(short)}" if short else ""


def _value_at(curve, share):
    """The score at a share of a model's own pre-training; NaN where no checkpoint is near."""
    target, positive = share * curve.x[-1], curve.x > 0
    if not positive.any():
        return np.nan
    distance = np.where(positive, np.abs(np.log(np.where(positive, curve.x, 1) / target)), np.inf)
    nearest = int(distance.argmin())
    return curve.value[nearest] if distance[nearest] <= np.log(NEAR) else np.nan


def rank_agreement(results: Results, _=None) -> pd.DataFrame:
    """Per set and share of pre-training, the share of pairs of models that are ordered as at the
    end: decision accuracy by step.
    """
    groups: dict[tuple, list[Series]] = {}
    for one in series.all_series(results, series.BASE, series.TUNED):
        if len(one.curve) > 1 and one.curve.unit != "order":
            key = tuple(one.place[name] for name in _VIEW)
            groups.setdefault(key, []).append(one)
    lines = []
    for key, members in groups.items():
        if len(members) < 2:
            continue
        ends = np.array([one.curve.value[-1] for one in members])
        for share in SHARES:
            early = np.array([_value_at(one.curve, share) for one in members])
            value, low, high = noise.decision_interval(early, ends)
            number = noise.pairs_in_order(early, ends)[1]
            amounts = {"share": share, "models": int(np.isfinite(early).sum()), "pairs": number}
            line = {"decision": value, "low": low, "high": high}
            lines.append(dict(zip(_VIEW, key, strict=True)) | amounts | line)
    return pd.DataFrame(
        lines, columns=[*_VIEW, "share", "models", "pairs", "decision", "low", "high"]
    )


def say_signal(results: Results, tables):
    """The clearest and the noisiest sets, and whether another metric is clearer than the score."""
    table = tables["signal_and_noise"]
    if table.empty:
        return
    usual = table[(table["subset"] == "") & (table["scope"] == CHECKPOINTS)]
    base = usual[(usual["model"] == series.BASE) & usual["ratio"].notna()]
    if len(base):
        means = base.groupby(["task", "metric"], sort=False)["ratio"].median().sort_values()
        best, worst = means.iloc[::-1].head(3), means.head(3)
        yield Sentence(
            "Signal over noise along pre-training (median over base models) is highest for "
            f"{_named(best)} and lowest for {_named(worst)}."
        )
    weak = usual[usual["tells"] == "no"]
    if len(weak):
        most = weak.sort_values("rows_needed").groupby("task", sort=False).first().head(4)
        texts = [
            f"{task} ({row.rows:,.0f} rows, {row.rows_needed:,.0f} needed)"
            for task, row in most.iterrows()
        ]
        yield Sentence(
            f"Too few rows to tell the last checkpoint from the one at half of pre-training: "
            f"{listed(texts)}.",
            False,
        )


def _named(ratios):
    return listed(f"{task} {metric} ({value:.1f})" for (task, metric), value in ratios.items())


def score_and_bits(results: Results, tables) -> pd.DataFrame:
    """Per curve the score beside the bits per byte of its right answers: which of the two follows
    pre-training more closely, and which is less noisy.
    """
    table = tables["signal_and_noise"]
    keys = ["suite", "tuned_on", "variant", "set", "shots", "format"]
    columns = [*keys, "metric", "tau", "noise", "ratio"]
    if not len(table):
        return pd.DataFrame(columns=[*keys, *_BOTH])
    table = table[(table["scope"] == CHECKPOINTS) & (table["subset"] == "")]
    table = table.assign(set=table["task"].str.replace(_METRIC_IN_NAME, "", regex=True))
    bits = table["metric"].str.contains(_BITS)
    known = table["metric"].isin([row_metrics.GOLD, row_metrics.MARGIN])
    falling = table["metric"].map(series.falls_when_learned)
    both = table.loc[~bits & ~known & ~falling, columns].merge(
        table.loc[bits, columns], on=keys, suffixes=("_score", "_bits")
    )
    difference = both["tau_bits"] - both["tau_score"]
    closer = np.where(difference > 0, "bits per byte", "score")
    return both.assign(closer=np.where(difference.isna(), "", closer))[[*keys, *_BOTH]]


_BITS = "bpb|bits_per_byte"
# Imported tables put the metric into the name of the set: arc_easy_test_rc_5shot_len_norm.
_METRIC_IN_NAME = r"_(bpb|len_norm|acc|soft|soft_log)$"
_BOTH = ["metric_score", "tau_score", "tau_bits", "noise_score", "noise_bits"]
_BOTH += ["ratio_score", "ratio_bits", "closer"]


def say_bits(results: Results, tables):
    """In how many curves bits per byte follow pre-training more closely than the score."""
    both = tables["score_and_bits"]
    both = both[both["closer"] != ""]
    if both.empty:
        return
    closer = int((both["closer"] == "bits per byte").sum())
    gap = (both["tau_score"] - both["tau_bits"]).sort_values(ascending=False)
    text = (
        f"Bits per byte follow pre-training more closely than the score (Kendall's τ) in {closer} "
        f"of {len(both)} curves"
    )
    if len(gap.dropna()) and gap.iloc[0] > 0:
        row = both.loc[gap.index[0]]
        text += (
            f"; least so in {row['set']} ({row['suite']}: τ {row['tau_score']:.2f} of the score, "
            f"{row['tau_bits']:.2f} of bits per byte)"
        )
    yield Sentence(f"{text}.", not 0.25 < closer / len(both) < 0.75)


MOST_ROWS = 24  # lines of the figure that can be read


def draw_signal(results: Results, tables):
    """Signal over noise with its interval, a line per set and metric (the first series of each)."""
    table = tables["signal_and_noise"]
    if table.empty:
        return None
    known = table[table["ratio"].notna() & (table["subset"] == "")]
    known = known[known["model"] == series.BASE].drop_duplicates(["scope", "task", "metric"])
    panels = []
    for scope, members in known.groupby("scope", sort=False):
        members = members.sort_values("ratio", ascending=False).head(MOST_ROWS)
        rows = tuple(
            figures.Interval(
                f"{row.task} {row.metric}", row.ratio, row.ratio_low, row.ratio_high, "base"
            )
            for row in members.itertuples()
        )
        axis = figures.Axis("signal / noise")
        panels.append(figures.IntervalPanel(f"between {scope}", axis, rows))
    return figures.FigureSpec(tuple(panels), (figures.BASE,), columns=1) if panels else None


def show_signal(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: whole sets."""
    shown = table[table["subset"] == ""] if len(table) else table
    return pd.DataFrame(
        {
            "between": shown["scope"],
            **series.place_columns(shown),
            "metric": shown["metric"],
            "signal / noise": [
                "–"
                if np.isnan(row.ratio)
                else f"{row.ratio:.1f} ({row.ratio_low:.1f} to {row.ratio_high:.1f})"
                for row in shown[["ratio", "ratio_low", "ratio_high"]].itertuples()
            ],
            "τ with step": ["–" if np.isnan(one) else f"{one:.2f}" for one in shown["tau"]],
            "rows / needed": [
                "–" if np.isnan(row.rows_needed) else f"{row.rows:,.0f} / {row.rows_needed:,.0f}"
                for row in shown[["rows", "rows_needed"]].itertuples()
            ],
            "notes": shown["notes"],
        }
    )


SIGNAL = Analysis(
    "signal_and_noise",
    "Signal and noise",
    signal_and_noise,
    {
        "scope": "what is told apart: checkpoints of one model, models, or seeds of one model",
        **series.SERIES_COLUMNS,
        "metric": "what the score is: the set's own, or gold_logprob (log-probability of the right "
        "answer), margin (that less the best wrong one's), bits_per_byte (of the right answer)",
        "subset": "group of rows; empty: all rows",
        "mean": "mean of the compared scores",
        "signal": "largest difference of the compared scores over their mean",
        "noise": "standard deviation of the last `last` checkpoints over their mean",
        "ratio": "signal / noise",
        "ratio_low": "lower end of its 95 % interval, from that of the deviation",
        "ratio_high": "upper end of its 95 % interval",
        "last": "neighbouring checkpoints at the end that the noise is of",
        "tau": "Kendall's τ of the score with the amount of pre-training; of losses, perplexities "
        "and bits per byte with the sign turned, so that 1 is always steady improvement",
        "tau_p": "its p-value",
        "decision": "share of pairs of models ordered at half of pre-training as at its end",
        "decision_low": "lower end of its 95 % interval, over models",
        "decision_high": "upper end of its 95 % interval",
        "half": "checkpoint nearest half of pre-training",
        "difference": "last checkpoint's score less that one's",
        "rows": "rows behind a score; of imported accuracies without a count, from their error",
        "rows_needed": "rows with which that difference is seen at 95 % with a power of 80 %",
        "tells": "whether there are as many",
        **series.NOTES_COLUMN,
    },
    "Which sets and metrics can be trusted",
    draw_signal,
    "Signal: the largest difference of the compared scores over their mean. Noise: the standard "
    "deviation of the last neighbouring checkpoints (a third of them, 3 to 10) over their mean. "
    "Where checkpoints are far apart, what is learned between the last ones counts as noise, so "
    "that the ratio is a lower bound. Rows needed: to see the difference between the last "
    "checkpoint and the one at half of pre-training; paired where rows are known.",
    say_signal,
    show_signal,
    across=True,
)
AGREEMENT = Analysis(
    "rank_agreement",
    "Rank agreement by step",
    rank_agreement,
    {
        **{name: series.SERIES_COLUMNS[name] for name in _VIEW},
        "share": "of each model's own pre-training",
        "models": "that have a checkpoint near it",
        "pairs": "of models that differ at the end",
        "decision": "share of these pairs that is ordered as at the end",
        "low": "lower end of its 95 % interval, over models",
        "high": "upper end of its 95 % interval, over models",
    },
    "Which sets and metrics can be trusted",
    across=True,
)
BITS = Analysis(
    "score_and_bits",
    "The score beside bits per byte",
    score_and_bits,
    {
        **{name: series.SERIES_COLUMNS[name] for name in ("suite", "tuned_on", "variant")},
        **{name: series.SERIES_COLUMNS[name] for name in ("shots", "format")},
        "set": "set that is scored, without the metric that imported names end with",
        "metric_score": "what the score is",
        "tau_score": "Kendall's τ of the score with the amount of pre-training",
        "tau_bits": "the same of bits per byte, the sign turned",
        "noise_score": "relative noise of the score, as in signal_and_noise",
        "noise_bits": "relative noise of bits per byte",
        "ratio_score": "signal over noise of the score",
        "ratio_bits": "signal over noise of bits per byte",
        "closer": "which of the two has the higher τ; empty: one of them has none",
    },
    "Which sets and metrics can be trusted",
    sentences=say_bits,
    across=True,
)
