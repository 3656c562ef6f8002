"""How well fine-tuned scores are predicted of what is held out: checkpoints, fine-tuning sets,
series. numpy alone.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import numpy as np

from amuro_jax.curves import prediction
from amuro_jax.curves.prediction import Grid

CHECKPOINT, SETS, SERIES = "checkpoint", "set", "series"
PREDICTOR = "predictor"
BASELINES: Mapping[str, Callable] = {
    "mean of the others": prediction.mean_of_others,
    "line on log step": prediction.line_on_place,
    "nearest checkpoint": prediction.nearest,
    "line on the base score": prediction.line_on_base,
    "constant gain": prediction.constant_gain,
    "other series": prediction.other_series,
    "base score": prediction.base_alone,
    "more pre-training": prediction.more_is_better,
}
NO_SCORE = ("more pre-training",)  # gives an order alone
CLEAR = 1.96  # standard errors between two fine-tuned scores whose order is to be decided
MOST_PAIRS = 120  # pairs of checkpoints that are held out together; more are drawn
DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Held:
    """What each method says of lines that were held out.

    Attributes:
        values: method → predicted fine-tuned score [N]; NaN where it says nothing.
        low, high: ends of the predictor's 90 % interval [N].
        reference: what R² is relative to [N]: the mean of the curve's other checkpoints, or of the
            curve where all of it is held out.
        decided: (line, later line) of the same curve whose fine-tuned scores differ clearly [D, 2].
        right: method → whether the order is as predicted [D]; a tie is half right.
    """

    values: dict[str, np.ndarray]
    low: np.ndarray
    high: np.ndarray
    reference: np.ndarray
    decided: np.ndarray
    right: dict[str, np.ndarray]


def labels_of(grid: Grid, what: str) -> np.ndarray:
    """What is held out together [N]. A checkpoint is held out in all series at once."""
    return {CHECKPOINT: grid.checkpoint, SETS: grid.source, SERIES: grid.series}[what]


def evaluate(grid: Grid, what: str, seed: int = 0) -> Held:
    """Holds out each checkpoint, fine-tuning set or series in turn. Orders of two checkpoints are
    predicted with both of them held out.
    """
    labels, count = labels_of(grid, what), len(grid)
    values = {name: np.full(count, np.nan) for name in (PREDICTOR, *BASELINES)}
    low, high, reference = (np.full(count, np.nan) for _ in range(3))
    for label in np.unique(labels):
        held = labels == label
        made, bounds = _methods(grid, ~held, labels)
        for name, one in made.items():
            values[name][held] = one[held]
        low[held], high[held] = (one[held] for one in bounds)
        known = ~held if what == CHECKPOINT else np.ones(count, bool)
        known &= np.isfinite(grid.tuned)
        reference[held] = prediction.mean_of_others(grid, known)[held]
    decided, right = _decisions(grid, what, labels, values, seed)
    return Held(values, low, high, reference, decided, right)


def _methods(grid, known, blocks):
    """What each method says, and the ends of the predictor's intervals."""
    known = known & np.isfinite(grid.tuned)
    if known.sum() < prediction.FEWEST_KNOWN:
        return _expected(grid, known), np.full((2, len(grid)), np.nan)
    ours = prediction.predict(grid, known, blocks)
    return _baselines(grid, known) | {PREDICTOR: ours.value}, (ours.low, ours.high)


def _expected(grid, known):
    known = known & np.isfinite(grid.tuned)
    enough = known.sum() >= prediction.FEWEST_KNOWN
    ours = prediction.expected(grid, known) if enough else np.full(len(grid), np.nan)
    return _baselines(grid, known) | {PREDICTOR: ours}


def _baselines(grid, known):
    return {name: function(grid, known) for name, function in BASELINES.items()}


def clear_orders(grid: Grid) -> np.ndarray:
    """Pairs of lines (earlier, later checkpoint) of a curve whose fine-tuned scores differ by more
    than chance [D, 2].
    """
    pairs = []
    for curve in np.unique(grid.curve):
        lines = np.flatnonzero((grid.curve == curve) & np.isfinite(grid.tuned))
        lines = lines[np.argsort(grid.place[lines], kind="stable")]
        errors = np.nan_to_num(grid.stderr[lines])
        for a, b in itertools.combinations(range(len(lines)), 2):
            difference = abs(grid.tuned[lines[b]] - grid.tuned[lines[a]])
            if difference > CLEAR * np.hypot(errors[a], errors[b]):
                pairs.append((lines[a], lines[b]))
    return np.array(pairs, int).reshape(-1, 2)


def _decisions(grid, what, labels, values, seed):
    decided = clear_orders(grid)
    right = {name: np.full(len(decided), np.nan) for name in values}
    truth = np.sign(grid.tuned[decided[:, 1]] - grid.tuned[decided[:, 0]])
    if what != CHECKPOINT:
        for name, value in values.items():
            right[name] = _agreement(value, decided, truth)
        return decided, right
    chosen = {tuple(sorted(pair)) for pair in labels[decided]}
    chosen = sorted(chosen)
    if len(chosen) > MOST_PAIRS:
        at = np.random.default_rng(seed).choice(len(chosen), MOST_PAIRS, replace=False)
        chosen = [chosen[index] for index in sorted(at)]
    for pair in chosen:
        held = np.isin(labels, pair)
        made = _expected(grid, ~held)
        of_pair = (np.sort(labels[decided], axis=1) == pair).all(axis=1)
        for name, value in made.items():
            right[name][of_pair] = _agreement(value, decided[of_pair], truth[of_pair])
    done = np.isfinite(right[PREDICTOR])
    return decided[done], {name: one[done] for name, one in right.items()}


def _agreement(value, decided, truth):
    difference = value[decided[:, 1]] - value[decided[:, 0]]
    difference = np.where(np.isfinite(difference), difference, 0.0)
    return np.where(difference == 0, 0.5, np.sign(difference) == truth)


def r_squared(grid: Grid, held: Held, method: str, lines: np.ndarray) -> tuple[float, float, float]:
    """R² within curves of the lines [M], relative to `Held.reference`, and its 95 % interval over
    draws of curves; NaN where the method says nothing.
    """
    lines = lines[np.isfinite(held.values[method][lines]) & np.isfinite(held.reference[lines])]
    errors = np.square(grid.tuned[lines] - held.values[method][lines])
    spread = np.square(grid.tuned[lines] - held.reference[lines])
    return _over_curves(errors, spread, grid.curve[lines], lambda part, whole: 1 - part / whole)


def share_right(grid: Grid, held: Held, method: str, of: np.ndarray) -> tuple[float, float, float]:
    """Share of the orders `of` [M] that are right, and its 95 % interval over draws of curves."""
    right = held.right[method][of]
    curves = grid.curve[held.decided[of, 0]]
    return _over_curves(right, np.ones(len(right)), curves, lambda part, whole: part / whole)


def _over_curves(parts, wholes, curves, ratio):
    if not len(parts) or not wholes.sum() > 0:
        return np.nan, np.nan, np.nan
    _, at = np.unique(curves, return_inverse=True)
    sums = np.stack([np.bincount(at, one) for one in (parts, wholes)])
    value = float(ratio(*sums.sum(axis=1)))
    number = sums.shape[1]
    if number < 2:
        return value, np.nan, np.nan
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), DRAWS)
    part, whole = drawn @ sums[0], drawn @ sums[1]
    ratios = ratio(part[whole > 0], whole[whole > 0])
    return value, *(float(one) for one in np.quantile(ratios, [0.025, 0.975]))
