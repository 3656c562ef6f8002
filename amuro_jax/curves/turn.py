"""Where a score is at its highest over pre-training, and whether it has fallen since: with an
interval for the turn, and no claim where the scores cannot tell one. No jax.

The set of checkpoints that may be the best one: each is compared with all others at once (the
maximum of the studentised differences), so that the true best is in the set in 95 % of cases,
whatever the shape of the curve. A fall is said where the last checkpoint is not in the set.
"""

import dataclasses

import numpy as np

LEVEL = 0.05
FEWEST = 3  # checkpoints: a first, a best and a last one


@dataclasses.dataclass(frozen=True)
class Turn:
    """Where a curve turns.

    Attributes:
        best: place of the highest score.
        first, last: places of the first and last checkpoint that may be the best one (95 %).
        fall: highest score less the last one.
        fall_low, fall_high: 95 % interval of the true fall, the choice of the best included; the
            lower end is never below zero.
        p: p-value that the last checkpoint is as good as every other one.
        why: why nothing is said; "" where something is.
    """

    best: int = -1
    first: int = -1
    last: int = -1
    fall: float = np.nan
    fall_low: float = np.nan
    fall_high: float = np.nan
    p: float = np.nan
    why: str = ""

    @property
    def falls(self) -> bool:
        """Whether the last checkpoint is clearly worse than some other."""
        return self.p < LEVEL


def find_turn(values: np.ndarray, deviations: np.ndarray) -> Turn:
    """The turn of a curve.

    Args:
        values: scores [N], a higher one is better.
        deviations: draws of their errors [N, R], paired where the errors are.
    """
    if len(values) < FEWEST:
        return Turn(why=f"{len(values)} checkpoints, {FEWEST} are needed")
    if not np.isfinite(deviations).all():
        return Turn(why="the noise is not known: no standard errors")
    if np.ptp(values) == 0 and not deviations.any():
        return Turn(why="the scores are all equal")
    centred = deviations - deviations.mean(axis=1, keepdims=True)
    above = [_above(values, centred, place) for place in range(len(values))]
    p = np.array([p for p, *_ in above])
    possible = np.flatnonzero(p >= LEVEL)
    best = int(values.argmax())
    _, fall_low, fall_high = above[-1]
    return Turn(
        best,
        int(possible.min(initial=best)),
        int(possible.max(initial=best)),
        float(values[best] - values[-1]),
        fall_low,
        fall_high,
        float(p[-1]),
    )


def _above(values, centred, place):
    """Of the largest difference by which another checkpoint is above the one at `place`: the
    p-value that there is none, and a 95 % interval.
    """
    others = np.delete(np.arange(len(values)), place)
    differences = values[others] - values[place]
    errors = centred[others] - centred[place]
    scale = np.sqrt(np.mean(errors**2, axis=1))
    known = scale > 0
    # Scores without an error are what they are.
    exact = differences[~known].max(initial=-np.inf)
    if not known.any():
        return float(exact <= 0), max(0.0, exact), max(0.0, exact)
    studentised = errors[known] / scale[known, None]
    statistic = (differences[known] / scale[known]).max()
    highest, both = studentised.max(axis=0), np.abs(studentised).max(axis=0)
    p = (1 + (highest >= statistic).sum()) / (1 + len(highest))
    width = np.quantile(both, 1 - LEVEL) * scale[known]
    low = max(0.0, exact, (differences[known] - width).max())
    high = max(0.0, exact, (differences[known] + width).max())
    return (0.0 if exact > 0 else float(p)), float(low), float(high)


def seed_deviations(values: list[np.ndarray], draws: int, seed: int = 0) -> np.ndarray | None:
    """Draws of the error that training seeds leave in means over them [N, draws]: normal, with one
    variance for all checkpoints, as uncertain as its degrees of freedom make it. None where no
    checkpoint has two seeds.

    Args:
        values: per checkpoint the scores of its seeds.
    """
    freedom = sum(len(one) - 1 for one in values)
    if freedom < 1:
        return None
    squares = sum(((one - one.mean()) ** 2).sum() for one in values)
    generator = np.random.default_rng(seed)
    variance = squares / generator.chisquare(freedom, draws)
    normal = generator.standard_normal((len(values), draws))
    return normal * np.sqrt(variance / np.array([len(one) for one in values])[:, None])
