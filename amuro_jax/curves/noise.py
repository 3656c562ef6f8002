"""Signal and noise of a score over pre-training, and what can be told apart with it. No jax."""

import dataclasses

import numpy as np
from scipy import stats

LAST = 10  # checkpoints whose scatter is the noise, as in arXiv 2412.04403 and 2508.13144
FEWEST_LAST = 3  # two points have no scatter to speak of
LEVEL = 0.05
POWER_95_80 = (1.959964 + 0.841621) ** 2  # two-sided 5 %, power 80 %


@dataclasses.dataclass(frozen=True)
class SignalNoise:
    """Signal against noise; NaN where undefined, and then `why` says so.

    Attributes:
        mean: of the compared scores.
        signal: their largest difference over the mean.
        noise: standard deviation of the last `last` neighbouring checkpoints over their mean.
        ratio, low, high: signal over noise and its 95 % interval, from that of the deviation.
        last: checkpoints that the noise is of.
    """

    mean: float
    signal: float
    noise: float
    ratio: float
    low: float
    high: float
    last: int
    why: str = ""


def last_of(count: int, most: int = LAST) -> int:
    """How many of `count` checkpoints are neighbours at the end: a third, from 3 to `most`."""
    return min(most, max(FEWEST_LAST, count // 3)) if count >= FEWEST_LAST else count


def relative_deviation(values: np.ndarray) -> float:
    """Standard deviation (N − 1) over the mean's size."""
    values = np.asarray(values, float)
    mean = abs(values.mean()) if len(values) else 0.0
    return float(values.std(ddof=1) / mean) if len(values) > 1 and mean > 0 else np.nan


def signal_and_noise(
    compared: np.ndarray, tails: list[np.ndarray], *, within: bool = False
) -> SignalNoise:
    """Signal of compared scores [M] against the noise of the last checkpoints of one or more
    series, whose relative variances are averaged.

    Args:
        within: the last checkpoints are among the compared ones, of which there must be twice as
            many: else signal and noise would be of the same points.
    """
    compared = np.asarray(compared, float)
    last = min((len(tail) for tail in tails), default=0)
    mean = float(compared.mean()) if len(compared) else np.nan
    nothing = SignalNoise(mean, np.nan, np.nan, np.nan, np.nan, np.nan, last)
    if len(compared) < 2:
        return dataclasses.replace(nothing, why="one score only: no signal")
    if mean == 0:
        return dataclasses.replace(nothing, why="the mean is zero")
    signal = float(np.ptp(compared) / abs(mean))
    if within and len(compared) < 2 * FEWEST_LAST:
        why = f"{len(compared)} checkpoints, {2 * FEWEST_LAST} are needed for signal and noise"
        return dataclasses.replace(nothing, signal=signal, why=why)
    if last < FEWEST_LAST:
        last_ones = f"{last} checkpoint{'s' * (last != 1)} at the end"
        why = f"{last_ones}, {FEWEST_LAST} are needed for the noise"
        return dataclasses.replace(nothing, signal=signal, why=why)
    noise = float(np.sqrt(np.mean([relative_deviation(tail) ** 2 for tail in tails])))
    if not noise > 0:
        return dataclasses.replace(
            nothing, signal=signal, noise=noise, why="the last scores are all equal: noise unknown"
        )
    freedom = sum(len(tail) - 1 for tail in tails)
    scale = np.sqrt(stats.chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], freedom) / freedom)
    ratio = signal / noise
    return SignalNoise(mean, signal, noise, ratio, *(float(ratio * one) for one in scale), last)


def kendall(x: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Kendall's τ (b) of scores with the amount of pre-training, and its p-value; NaN where one of
    them is constant or there are fewer than six points, whose τ is coarse.
    """
    if len(values) < 2 * FEWEST_LAST or np.ptp(values) == 0 or np.ptp(x) == 0:
        return np.nan, np.nan
    correlation = stats.kendalltau(x, values)
    return float(correlation.statistic), float(correlation.pvalue)


def pairs_in_order(values: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """Of the pairs that differ at the target, how many are ordered as there, and their number. A
    tie is no decision and counts as not in order.
    """
    first, second = np.triu_indices(len(values), 1)
    order = np.sign(target[second] - target[first])
    known = np.isfinite(order) & (order != 0) & np.isfinite(values[second] - values[first])
    right = np.sign(values[second] - values[first])[known] == order[known]
    return int(right.sum()), int(known.sum())


def decision_interval(values: np.ndarray, target: np.ndarray, draws=1000, seed=0):
    """Decision accuracy and its 95 % interval, from draws of the models that are compared (pairs
    share models and are not independent); NaN where no pair differs at the target.
    """
    right, number = pairs_in_order(values, target)
    if not number:
        return np.nan, np.nan, np.nan
    first, second = np.triu_indices(len(values), 1)
    agree = np.sign(values[second] - values[first]) == np.sign(target[second] - target[first])
    known = np.isfinite(values[second] - values[first]) & (target[second] != target[first])
    counts = np.random.default_rng(seed).multinomial(
        len(values), np.full(len(values), 1 / len(values)), draws
    )
    weights = counts[:, first] * counts[:, second] * known
    total = weights.sum(axis=1)
    shares = (weights * agree).sum(axis=1)[total > 0] / total[total > 0]
    low, high = np.quantile(shares, [LEVEL / 2, 1 - LEVEL / 2])
    return right / number, float(low), float(high)


def rows_needed(difference: float, variance: float) -> float:
    """Test rows with which a difference of means is seen at 95 % with a power of 80 %.

    Args:
        variance: of one row's difference.
    """
    if not np.isfinite(variance) or not difference:
        return np.nan
    return float(np.ceil(POWER_95_80 * variance / difference**2))
