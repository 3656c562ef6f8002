"""Uncertainty of means over test rows: bootstrap, paired tests of two models, correction for many
of them. No jax.
"""

import dataclasses

import numpy as np

DRAWS_AT_ONCE = 1 << 22  # row indices held in memory at a time


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean over rows with its bootstrap standard error and percentile interval."""

    value: float
    stderr: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Second minus first model on the same rows.

    Attributes:
        difference, stderr, low, high: mean difference, its bootstrap standard error and 95 %
            interval.
        p_bootstrap: two-sided, share of resamples on the other side of zero.
        p_mcnemar: exact McNemar test of right/wrong; None where scores are not 0 or 1.
        gained, lost: rows that only the second, only the first model has right (higher, lower
            score).
    """

    difference: float
    stderr: float
    low: float
    high: float
    n: int
    p_bootstrap: float
    p_mcnemar: float | None
    gained: int
    lost: int


def bootstrap_means(scores, resamples: int = 3000, seed: int = 0) -> np.ndarray:
    """Means [R] of `resamples` samples of the rows with replacement; a function of its arguments
    alone.

    `scores` is [N], or [N, M] for M columns resampled together (then the result is [R, M]).
    """
    scores = np.asarray(scores, np.float64)
    count, rng = len(scores), np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // count)
    parts = []
    for start in range(0, resamples, at_once):
        rows = rng.integers(0, count, (min(at_once, resamples - start), count))
        parts.append(scores[rows].mean(axis=1))
    return np.concatenate(parts)


def bootstrap(scores, resamples: int = 3000, seed: int = 0, level: float = 0.95) -> Interval:
    """Mean of `scores` [N], the standard deviation of its bootstrap means, and their percentile
    interval.

    No rows give NaN throughout; with no resamples the interval is that of the normal approximation.
    """
    scores = np.asarray(scores, np.float64)
    if not len(scores):
        return Interval(np.nan, np.nan, np.nan, np.nan, 0)
    mean = float(scores.mean())
    if resamples < 2:
        stderr = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0
        return Interval(mean, stderr, mean - 1.96 * stderr, mean + 1.96 * stderr, len(scores))
    means = bootstrap_means(scores, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(means.std(ddof=1)), float(low), float(high), len(scores))


def paired(first, second, resamples: int = 3000, seed: int = 0, level: float = 0.95) -> Comparison:
    """Compares the scores [N] of two models on the same rows."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or not len(first):
        raise ValueError(
            f"paired tests need the same rows of both models: {first.shape} and {second.shape}"
        )
    change = second - first
    means = bootstrap_means(change, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all())
    p_bootstrap = min(1.0, 2 * (tail + 1) / (resamples + 1))
    p_mcnemar = mcnemar(gained, lost) if binary else None
    return Comparison(
        float(change.mean()),
        float(means.std(ddof=1)),
        float(low),
        float(high),
        len(change),
        p_bootstrap,
        p_mcnemar,
        gained,
        lost,
    )


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value that gains and losses are equally likely; 1 where there are none."""
    from scipy import stats

    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def holm(p_values) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the given order; NaN stays NaN and is not counted."""
    p_values = np.asarray(p_values, np.float64)
    adjusted, tested = p_values.copy(), np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = (
        np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors)) if len(order) else []
    )
    return adjusted
