"""What noise on the weights does to a score, with an interval over test rows and draws. No jax."""

import dataclasses

import numpy as np
from scipy import stats

NORMAL = 1.959964  # of a two-sided 95 % interval


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """The mean change of a score by noise.

    Attributes:
        change: score with noise − score, mean over draws.
        low, high: its 95 % interval over test rows and draws.
        draws_sd: standard deviation over draws.
    """

    change: float
    low: float
    high: float
    draws_sd: float


def sensitivities(changes: list[np.ndarray], row_stderrs: np.ndarray) -> list[Sensitivity]:
    """Of one set and size of noise, checkpoint by checkpoint.

    The spread of draws is one for all checkpoints, since each has few; its own uncertainty is
    Student's t. Intervals add the two parts' half widths in squares.

    Args:
        changes: per checkpoint the changes of its draws [D].
        row_stderrs: standard errors over test rows of their means [C].
    """
    freedom = sum(len(one) - 1 for one in changes)
    squares = sum(((one - one.mean()) ** 2).sum() for one in changes)
    spread = np.sqrt(squares / freedom) if freedom else np.nan
    factor = stats.t.ppf(0.975, freedom) if freedom else np.nan
    made = []
    for one, rows in zip(changes, row_stderrs, strict=True):
        half = np.hypot(NORMAL * rows, factor * spread / np.sqrt(len(one)))
        mean = float(one.mean())
        made.append(Sensitivity(mean, mean - half, mean + half, float(spread)))
    return made
