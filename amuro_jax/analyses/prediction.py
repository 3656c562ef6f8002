"""Fine-tuned scores predicted from base models: of checkpoints that were not fine-tuned, and how
well it works where they were. No jax.
"""

import numpy as np
import pandas as pd

from amuro_jax.analyses import base_features
from amuro_jax.analyses.analysis import Analysis, Sentence
from amuro_jax.analyses.words import count
from amuro_jax.curves import held_out, prediction
from amuro_jax.curves.held_out import CHECKPOINT, PREDICTOR, SERIES, SETS, Held
from amuro_jax.curves.prediction import Grid
from amuro_jax.results.results import Results

FEWEST_CHECKPOINTS = 4  # of a curve: fewer have no shape that could be predicted
MOST_LINES = 1500  # each fold solves as many equations; of a larger store curves are drawn
_LINE = ("suite", "tuned_on", "task", "role", "format", "shots", "checkpoint")


def lines_of(results: Results) -> pd.DataFrame:
    """A line per series, fine-tuning set, scored set and checkpoint with a base score, each pair of
    sets in the format and number of shots that most of its checkpoints have: `_LINE`, place, base,
    tuned (NaN where there is none), stderr, the base features and those of the probe.
    """
    parts = [_of_suite(name, one) for name, one in _suites(results).items()]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if table.empty:
        return table
    amounts = next(
        (table[name] for name in ("tokens", "step") if (table[name].astype(float) > 0).all()), None
    )
    order = table["order"].astype(float) + 1
    return table.assign(place=np.log(order if amounts is None else amounts.astype(float)))


def _suites(results):
    return results.suites or {results.suite or results.name: results}


def _of_suite(suite, results):
    cells, lines, probed = results.cells, [], base_features.probe_features(results)
    unknown = dict.fromkeys(base_features.PROBED, np.nan)
    for (tuned_on, task), group in cells[cells["tuned_on"] != ""].groupby(
        ["tuned_on", "task"], sort=False
    ):
        views = group.groupby(["format", "shots"], sort=False)["checkpoint"].nunique()
        format, shots = views.idxmax()
        by_checkpoint = group[(group["format"] == format) & (group["shots"] == shots)]
        by_checkpoint = by_checkpoint.drop_duplicates("checkpoint").set_index("checkpoint")
        if by_checkpoint.index.isin(results.distinct).sum() < FEWEST_CHECKPOINTS:
            continue
        for order, checkpoint in enumerate(results.distinct):
            base = results.find(checkpoint, "", task, format, int(shots))
            if base is None:
                continue
            known = checkpoint in by_checkpoint.index
            tuned = by_checkpoint.loc[checkpoint] if known else None
            named = dict(suite=suite, tuned_on=tuned_on, task=task, checkpoint=checkpoint)
            lines.append(
                {
                    **named,
                    "role": str(by_checkpoint["role"].iloc[0]),
                    "metric": str(base["metric"]),
                    "format": format,
                    "shots": int(shots),
                    "order": order,
                    "step": base["step"],
                    "tokens": base["tokens"],
                    "base": base["value"],
                    "tuned": tuned["value"] if known else np.nan,
                    "stderr": tuned["stderr"] if known else np.nan,
                    **_features(results, base),
                    **probed.get((checkpoint, tuned_on), unknown),
                }
            )
    return pd.DataFrame(lines)


def _features(results, base):
    kept = results.derived.setdefault("base features", {})
    if base["key"] not in kept:
        kept[base["key"]] = base_features.base_features(results, base)
    return kept[base["key"]]


def grid_of(lines: pd.DataFrame) -> Grid:
    """The lines as the arrays of the predictor."""

    def numbers(*columns):
        return lines.groupby(list(columns), sort=False).ngroup().to_numpy()

    known = [*base_features.NAMES, *base_features.PROBED]
    features = lines[known].to_numpy(float)
    place, base = (lines[name].to_numpy(float) for name in ("place", "base"))
    return Grid(
        numbers("suite", "tuned_on", "task"),
        numbers("tuned_on", "task"),
        numbers("tuned_on"),
        numbers("role", "metric"),
        numbers("suite"),
        lines["order"].to_numpy(int),
        place,
        base,
        features,
        lines["tuned"].to_numpy(float),
        lines["stderr"].to_numpy(float),
    )


def usable(results: Results) -> pd.DataFrame:
    """The lines, where there are enough for a prediction; else an empty table. Of more than
    `MOST_LINES` those of as many curves as fit, the ones with an unknown score first.
    """
    lines = lines_of(results)
    if lines.empty or lines["tuned"].notna().sum() < FEWEST_CHECKPOINTS:
        return pd.DataFrame()
    if len(lines) <= MOST_LINES:
        return lines
    curves = lines.groupby(["suite", "tuned_on", "task"], sort=False)["tuned"]
    sizes = curves.agg(lines="size", known="count").sample(frac=1, random_state=0)
    sizes = sizes.assign(full=sizes["lines"] == sizes["known"]).sort_values("full", kind="stable")
    kept = sizes.index[sizes["lines"].cumsum() <= MOST_LINES]
    chosen = lines.set_index(["suite", "tuned_on", "task"]).index.isin(kept)
    return lines[chosen].reset_index(drop=True)


def prediction_table(results: Results, _=None) -> pd.DataFrame:
    """How well each method predicts what is held out: a line per kind of what is held out, what it
    was (`all` together first) and method.
    """
    lines = usable(results)
    if lines.empty:
        return pd.DataFrame()
    lines = lines[lines["tuned"].notna()].reset_index(drop=True)
    grid, made = grid_of(lines), []
    for what, names in _schemes(lines).items():
        held = held_out.evaluate(grid, what)
        for which in ("all", *dict.fromkeys(names)):
            chosen = np.ones(len(lines), bool) if which == "all" else (names == which).to_numpy()
            made += [
                {"held_out": what, "which": which, "method": method}
                | _judged(grid, held, method, chosen)
                for method, said in held.values.items()
                if np.isfinite(said[chosen]).any()  # else it says nothing of them
            ]
    return pd.DataFrame(made)


def _schemes(lines):
    """What can be held out → its name in each line."""
    schemes = {CHECKPOINT: lines["checkpoint"], SETS: lines["tuned_on"]}
    if lines["suite"].nunique() > 1:
        schemes[SERIES] = lines["suite"]
    return {what: names for what, names in schemes.items() if names.nunique() > 1}


def _judged(grid: Grid, held: Held, method: str, chosen):
    lines = np.flatnonzero(chosen)
    ends = chosen[held.decided]
    of = np.flatnonzero(ends.any(axis=1)) if len(held.decided) else np.zeros(0, int)
    right = held_out.share_right(grid, held, method, of)
    nothing = (np.nan, np.nan, np.nan)
    score = method not in held_out.NO_SCORE
    r2 = held_out.r_squared(grid, held, method, lines) if score else nothing
    errors = np.abs(grid.tuned - held.values[method])[lines]
    known = np.isfinite(errors)
    inside = (held.low <= grid.tuned) & (grid.tuned <= held.high)
    covered = method == PREDICTOR and np.isfinite(held.low[lines]).any()
    return {
        "curves": len(np.unique(grid.curve[lines])),
        "scores": len(lines),
        "r2": r2[0],
        "r2_low": r2[1],
        "r2_high": r2[2],
        "error": float(errors[known].mean()) if score and known.any() else np.nan,
        "decisions": len(of),
        "right": right[0],
        "right_low": right[1],
        "right_high": right[2],
        "coverage": float(inside[lines].mean()) if covered else np.nan,
    }


def predicted_gains(results: Results, _=None) -> pd.DataFrame:
    """The expected fine-tuned score and gain of every checkpoint that has a base score and no
    fine-tuned one, with their 90 % intervals.
    """
    lines = usable(results)
    if lines.empty or lines["tuned"].notna().all():
        return pd.DataFrame()
    grid = grid_of(lines)
    known = np.isfinite(grid.tuned)
    made = prediction.predict(grid, known, grid.checkpoint)
    table = lines[list(_LINE)].assign(
        step=lines["step"],
        base=lines["base"],
        expected=made.value,
        expected_low=made.low,
        expected_high=made.high,
        gain=made.value - grid.base,
        gain_low=made.low - grid.base,
        gain_high=made.high - grid.base,
    )
    return table[~known].reset_index(drop=True)


def say_prediction(results: Results, tables):
    """Whether the predictor beats the baselines, by what is held out."""
    table = tables["prediction"]
    if table.empty:
        return
    for what, group in table[table["which"] == "all"].groupby("held_out", sort=False):
        ours = group[group["method"] == PREDICTOR].iloc[0]
        others = group[group["method"] != PREDICTOR]
        if pd.isna(ours["r2"]):
            continue
        best, order = (_best(others, name) for name in ("r2", "right"))
        pairs = count(int(ours["curves"]), "pair")
        text = (
            f"With each {what} held out, the fine-tuned scores of {pairs} of sets are predicted "
            f"with R² {ours['r2']:.2f} within a pair (95 % interval {ours['r2_low']:.2f} to "
            f"{ours['r2_high']:.2f}); {_beside(best, 'r2')}. Of {int(ours['decisions'])} clear "
            f"orders of two checkpoints {ours['right']:.1%} are right ({ours['right_low']:.1%} to "
            f"{ours['right_high']:.1%}); {_beside(order, 'right')}. 90 % intervals cover "
            f"{ours['coverage']:.0%}."
        )
        yield Sentence(text, bool(ours["r2_low"] > 0))


def _best(others, column):
    known = others.dropna(subset=[column])
    return None if known.empty else known.loc[known[column].idxmax()]


def _beside(best, column):
    if best is None:
        return "no baseline says anything of them"
    value = f"{best[column]:.2f}" if column == "r2" else f"{best[column]:.1%}"
    return f"the best baseline ({best['method']}) has {value}"


def show_prediction(table: pd.DataFrame) -> pd.DataFrame:
    """The page's table: everything that is held out of one kind together."""
    table = table[table["which"] == "all"]

    def interval(name, form):
        return [
            "–" if pd.isna(value) else f"{value:{form}} ({low:{form}} to {high:{form}})"
            for value, low, high in zip(
                table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True
            )
        ]

    return pd.DataFrame(
        {
            "held out": table["held_out"],
            "method": table["method"],
            "R² within a pair": interval("r2", ".2f"),
            "mean error": ["–" if pd.isna(one) else f"{one:.3f}" for one in table["error"]],
            "orders right": interval("right", ".1%"),
            "of": table["decisions"],
            "coverage": ["–" if pd.isna(one) else f"{one:.1%}" for one in table["coverage"]],
        }
    )


PREDICTION = Analysis(
    "prediction",
    "Fine-tuned scores predicted without fine-tuning",
    prediction_table,
    {
        "held_out": "what the prediction does without: every fine-tuned score of a checkpoint (in "
        "all series at once), of a fine-tuning set, or of a series",
        "which": "what was held out; all: each in turn, judged together",
        "method": "predictor (base scores and features, place, the other fine-tuned scores), or a "
        "baseline",
        "curves": "pairs of fine-tuning and scored set of a series",
        "scores": "fine-tuned scores that are predicted",
        "r2": "share of the variance within a pair that is predicted; relative to the mean of the "
        "pair's other checkpoints, of sets and series to the pair's own mean",
        "r2_low": "lower end of its 95 % interval, over draws of pairs",
        "r2_high": "upper end of that interval",
        "error": "mean absolute error",
        "decisions": "pairs of checkpoints whose fine-tuned scores differ by more than 1.96 "
        "standard errors",
        "right": "share of these whose order is right, both held out; a tie is half right",
        "right_low": "lower end of its 95 % interval, over draws of pairs",
        "right_high": "upper end of that interval",
        "coverage": "share of the predictor's 90 % intervals that hold the score",
    },
    "Can the outcome be predicted without fine-tuning",
    caption="What base models, and the checkpoints that were fine-tuned, say of a checkpoint that "
    "was not. R² over all scores would be high for the mean of a pair alone: here it is within "
    "pairs. Intervals are over draws of pairs of sets.",
    sentences=say_prediction,
    shown=show_prediction,
    note="Everything of one kind that was held out, together; the CSV file has each by itself.",
    across=True,
)
PREDICTED = Analysis(
    "predicted_gains",
    "Expected gains of checkpoints that were not fine-tuned",
    predicted_gains,
    {
        "suite": "series of checkpoints",
        "tuned_on": "fine-tuning set",
        "task": "set that is scored",
        "role": "of the set for the model",
        "format": "prompt format",
        "shots": "number of shots",
        "checkpoint": "pre-training checkpoint",
        "step": "pre-training step",
        "base": "score of the base model",
        "expected": "expected score after fine-tuning",
        "expected_low": "lower end of its 90 % interval",
        "expected_high": "upper end of that interval",
        "gain": "expected − base",
        "gain_low": "lower end of its 90 % interval",
        "gain_high": "upper end of that interval",
    },
    "Can the outcome be predicted without fine-tuning",
    across=True,
)
