"""A statistic with its uncertainty, from bootstrap draws. No jax."""

import dataclasses

import numpy as np

from amuro_jax.evals.statistics import p_equivalent

EQUIVALENCE_MARGIN = 0.01  # one point of accuracy or ROUGE-L: less is called no change


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A statistic with its bootstrap standard error and 95 % percentile interval.

    NaN throughout where it is not defined.
    """

    value: float
    stderr: float
    low: float
    high: float
    p: float = np.nan  # two-sided, that the statistic is zero: twice the share of draws beyond it
    p_equivalent: float = np.nan  # that it is `EQUIVALENCE_MARGIN` or more in size (TOST)

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


NOTHING = Estimate(np.nan, np.nan, np.nan, np.nan)


def estimate_from_draws(value: float, draws: np.ndarray) -> Estimate:
    """An estimate from its value and draws [R].

    Undefined where a draw is (a base score of zero under a ratio).
    """
    if not np.isfinite(value) or not np.isfinite(draws).all():
        return dataclasses.replace(NOTHING, value=value if np.isfinite(value) else np.nan)
    low, high = np.quantile(draws, [0.025, 0.975])
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (len(draws) + 1))
    same = p_equivalent(draws, EQUIVALENCE_MARGIN)
    return Estimate(value, float(draws.std(ddof=1)), float(low), float(high), float(p), same)
