"""Uncertainty of means over test rows: bootstrap, paired tests of two models, correction for many
of them. No jax.
"""

import dataclasses

import numpy as np

SMALLEST_DEVIATION = 1e-12  # of draws that vary: below it they differ by rounding alone
DRAWS_AT_ONCE = 1 << 21  # row indices held at a time: 16 MB, and as much again for their counts
NORMAL_95 = 1.96  # standard errors to either end of a normal 95 % interval


@dataclasses.dataclass(frozen=True)
class MeanEstimate:
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
    """Means of samples of the rows with replacement: [R] for `scores` [N], [R, M] for [N, M].

    Draw `r` takes the rows `default_rng(seed).integers(0, N, (R, N))[r]`, the same ones for every
    column. A mean is the product of how often each row was drawn and the scores, which needs no
    copy of the scores per draw.

    Scores are rounded to a multiple of a power of two, about 2^-52 of the column's largest possible
    sum (for 10,000 accuracies 4e-12). Every partial sum is then exact, so that the result depends
    on the column, its number of rows and the seed alone: not on the columns beside it, on the size
    of a chunk, or on the order in which a linear-algebra library adds.
    """
    scores = np.asarray(scores, np.float64)
    count, rng = len(scores), np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // count)
    largest_sum = np.maximum(np.abs(scores).max(axis=0) * count, np.finfo(np.float64).tiny)
    step = np.exp2(np.ceil(np.log2(largest_sum)) - np.finfo(np.float64).nmant)
    rounded = np.rint(scores / step)
    parts = []
    for start in range(0, resamples, at_once):
        draws = min(at_once, resamples - start)
        rows = rng.integers(0, count, (draws, count))
        rows += np.arange(draws)[:, None] * count
        times_drawn = np.bincount(rows.ravel(), minlength=draws * count)
        parts.append(times_drawn.reshape(draws, count).astype(np.float64) @ rounded)
    return np.concatenate(parts) * step / count


def bootstrap(scores, resamples: int = 3000, seed: int = 0, level: float = 0.95) -> MeanEstimate:
    """Mean of `scores` [N], the standard deviation of its bootstrap means, and their percentile
    interval.

    No rows give NaN throughout; with no resamples the interval is that of the normal approximation.
    """
    scores = np.asarray(scores, np.float64)
    if not len(scores):
        return MeanEstimate(np.nan, np.nan, np.nan, np.nan, 0)
    mean = float(scores.mean())
    if resamples < 2:
        stderr = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0
        half = NORMAL_95 * stderr
        return MeanEstimate(mean, stderr, mean - half, mean + half, len(scores))
    means = bootstrap_means(scores, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return MeanEstimate(mean, float(means.std(ddof=1)), float(low), float(high), len(scores))


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
    """Holm's step-down adjusted p-values, in the order of `p_values`; NaN stays NaN and is not
    counted. They bound the chance of any false discovery in the family (Holm 1979).
    """

    def step_down(p):
        order = np.argsort(p)
        adjusted = np.empty_like(p)
        raised = p[order] * np.arange(len(p), 0, -1)
        adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1)
        return adjusted

    # statsmodels' `multipletests` collects garbage at each such call: seconds in a large process,
    # and a report corrects a hundred families.
    return _adjusted(p_values, step_down)


def benjamini_hochberg(p_values) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p-values, as `holm`. They bound the expected share of false
    discoveries among those that are made.
    """
    from scipy import stats

    return _adjusted(p_values, stats.false_discovery_control)


def _adjusted(p_values, correct):
    adjusted = np.asarray(p_values, np.float64).copy()
    tested = np.flatnonzero(~np.isnan(adjusted))
    if len(tested):
        adjusted[tested] = correct(adjusted[tested])
    return adjusted


def p_equivalent(draws, margin: float) -> float:
    """p-value that a change is at least `margin` in size, from its bootstrap draws [R]: two
    one-sided tests, the larger p (TOST; Schuirmann 1987). Small: no change beyond the margin.
    """
    draws = np.asarray(draws, np.float64)
    outside = max((draws <= -margin).sum(), (draws >= margin).sum())
    return float((outside + 1) / (len(draws) + 1))


def effective_number(draws) -> float:
    """How many independent quantities the columns of `draws` [R, n] are worth: the participation
    ratio n² / Σ r² of their correlations, from 1 (all move together) to n (independent). Columns
    that do not vary are left out; NaN where none does.
    """
    draws = np.asarray(draws, np.float64)
    draws = draws[:, draws.std(axis=0) > SMALLEST_DEVIATION]
    if not draws.shape[1] or not np.isfinite(draws).all():
        return float("nan")
    correlations = np.atleast_2d(np.corrcoef(draws, rowvar=False))
    # Correlations of R draws of independent columns are 1 / (R − 1) in square by chance.
    count, resamples = draws.shape[1], len(draws)
    chance = count * (count - 1) / (resamples - 1)
    return float(count**2 / max(count, (correlations**2).sum() - chance))
