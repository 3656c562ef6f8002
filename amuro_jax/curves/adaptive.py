"""Which checkpoint to score next: first and last, one half-way, and then a search for where the
score reaches its end. No jax.
"""

import dataclasses

import numpy as np

Z = 1.96  # standard errors of a difference that is called clear


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is known of a curve from some of its checkpoints.

    Attributes:
        learned: whether the last checkpoint is clearly better than the first.
        falls: whether it is clearly worse than the one half-way.
        low, high: neighbouring known places: at `low` the score is clearly below its end, at `high`
            and all known later ones it is not; −1: no place is clearly below.
    """

    learned: bool
    falls: bool
    low: int
    high: int


def half_way(x: np.ndarray) -> int:
    """Place of the checkpoint nearest half of the pre-training, neither first nor last."""
    inner = np.arange(1, len(x) - 1)
    return int(inner[np.abs(x[inner] - x[-1] / 2).argmin()])


def judge(x: np.ndarray, values: np.ndarray, stderrs: np.ndarray) -> Verdict:
    """The verdict from what is known; the first, the last and the half-way score must be.

    Args:
        x: tokens or steps of all checkpoints [N], increasing.
        values: scores [N], more is better; NaN where not scored yet.
        stderrs: of them [N].
    """
    gap = (values[-1] - values) / np.sqrt(stderrs**2 + stderrs[-1] ** 2)
    known = np.flatnonzero(np.isfinite(values))
    below = [index for index in known if gap[index] > Z]
    low = int(max(below, default=-1))
    high = int(min(index for index in known if index > low))
    return Verdict(bool(gap[0] > Z), bool(gap[half_way(x)] < -Z), low, high)


def next_place(x: np.ndarray, values: np.ndarray, stderrs: np.ndarray) -> int | None:
    """The place to score next; None where no further score can change the verdict: nothing is
    learned, or neighbouring checkpoints enclose where the end is reached.
    """
    for index in (0, len(x) - 1, half_way(x)):
        if not np.isfinite(values[index]):
            return index
    verdict = judge(x, values, stderrs)
    if not verdict.learned or verdict.high - verdict.low <= 1:
        return None
    inner = np.arange(verdict.low + 1, verdict.high)
    return int(inner[np.abs(_scale(x)[inner] - _middle(x, verdict)).argmin()])


def _middle(x, verdict):
    return (_scale(x)[verdict.low] + _scale(x)[verdict.high]) / 2


def _scale(x):
    """The logarithm, in which early checkpoints are as far apart as late ones; the untrained model
    lies a step before the first trained one.
    """
    positive = x[x > 0]
    first = np.log(positive[0]) - 1 if len(positive) else 0.0
    return np.where(x > 0, np.log(np.maximum(x, 1e-300)), first)


def replay(
    x: np.ndarray, values: np.ndarray, stderrs: np.ndarray, most: int | None = None
) -> tuple[Verdict, np.ndarray]:
    """The search on a curve that is known: its verdict, and the places that were looked at."""
    seen = np.full(len(x), np.nan)
    order = []
    while (index := next_place(x, seen, stderrs)) is not None:
        if most is not None and len(order) >= max(most, 3):
            break
        seen[index] = values[index]
        order.append(index)
    return judge(x, seen, stderrs), np.array(order)


def same(verdict: Verdict, x: np.ndarray, values: np.ndarray, stderrs: np.ndarray) -> bool:
    """Whether a verdict is that of the full grid: the same of learned and falls; and, of what is
    learned, the end reached where the full grid puts it: between its first checkpoint that is not
    clearly below the end and the one after its last that is.
    """
    gap = (values[-1] - values) / np.sqrt(stderrs**2 + stderrs[-1] ** 2)
    full = judge(x, values, stderrs)
    if (verdict.learned, verdict.falls) != (full.learned, full.falls):
        return False
    if not full.learned:
        return True
    earliest = int(np.flatnonzero(gap <= Z)[0])
    return earliest <= verdict.high <= full.high
