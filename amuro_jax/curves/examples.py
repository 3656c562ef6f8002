"""When single examples are learned and forgotten, from right and wrong answers. No jax."""

import dataclasses

import numpy as np
from scipy import stats

SLIP = 0.05  # how often a known example is answered wrongly all the same
FROM_START = np.log(4)  # cost of being known from the start: a prior share of one in four
KNOWN, LEARNED, FORGOTTEN, NEVER = "known from the start", "learned", "forgotten", "never learned"
STATES = (KNOWN, LEARNED, FORGOTTEN, NEVER)


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """One line per example.

    Attributes:
        state: place in STATES [R].
        first, end: the example is known at the checkpoints first ≤ c < end; −1: never.
        learned_events, forgotten_events: steps from wrong to right and from right to wrong [R], as
            Toneva et al. (2019) count them.
    """

    state: np.ndarray
    first: np.ndarray
    end: np.ndarray
    learned_events: np.ndarray
    forgotten_events: np.ndarray


def dynamics(right: np.ndarray, chance: float) -> Dynamics:
    """When each example is known: the most likely stretch of checkpoints, if any.

    An unknown example is right with the probability of a guess, a known one but for slips. A
    beginning after the first checkpoint, and an end before the last, cost the logarithm of the
    number of checkpoints each, so that a few lucky guesses are no learning.

    Args:
        right: [R, N], true where an example is answered rightly.
        chance: probability that a guess is right.
    """
    right = np.asarray(right, bool)
    count, number = right.shape
    guess = min(max(chance, 0.01), 0.9)
    gain = np.where(right, np.log((1 - SLIP) / guess), np.log(SLIP / (1 - guess)))
    sums = np.concatenate([np.zeros((count, 1)), gain.cumsum(axis=1)], axis=1)
    cost = np.log(number)
    before = -sums[:, :-1] - np.where(np.arange(number) > 0, cost, FROM_START)
    best_before = np.maximum.accumulate(before, axis=1)
    total = sums[:, 1:] + best_before - cost * (np.arange(1, number + 1) < number)
    last = total.shape[1] - 1 - total[:, ::-1].argmax(axis=1)  # of equals the longest
    rows = np.arange(count)
    first = (before == best_before[rows, last][:, None]).argmax(axis=1)
    known = total[rows, last] > 0
    first, end = np.where(known, first, -1), np.where(known, last + 1, -1)
    state = np.where(end == number, np.where(first == 0, 0, 1), 2)
    change = np.diff(right.astype(int), axis=1)
    return Dynamics(
        np.where(known, state, 3), first, end, (change > 0).sum(axis=1), (change < 0).sum(axis=1)
    )


def rank_agreement(margin: np.ndarray, right: np.ndarray) -> tuple[float, float, float]:
    """Probability that an example that comes out right had a larger margin than one that does not
    (area under the curve), and its 95 % interval (Hanley and McNeil, 1982); NaN where all come out
    alike.
    """
    right = np.asarray(right, bool)
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        return np.nan, np.nan, np.nan
    ranks = stats.rankdata(margin)
    area = (ranks[right].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (one - area**2)
    variance += (negatives - 1) * (two - area**2)
    half = 1.96 * np.sqrt(max(variance, 0.0) / (positives * negatives))
    return float(area), float(max(0.0, area - half)), float(min(1.0, area + half))
