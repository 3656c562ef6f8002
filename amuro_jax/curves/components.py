"""Components of variance in crossed designs, balanced or not, in closed form. numpy and scipy
alone.

Henderson's third method: the sum of squares of a factor, all others fitted before it, depends on
the factor's own variance and on the residual one alone, so that each component follows from two
mean squares. In a balanced design that is the analysis of variance, and REML's estimate where it is
positive. Intervals are the modified large-sample ones of Ting, Burdick, Graybill, Jeyaratnam and Lu
(1990), exact where a component is zero or dominates.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy import stats

LEVEL = 0.95
SMALLEST_SINGULAR = 1e-9  # relative: what is smaller is another factor's


@dataclasses.dataclass(frozen=True)
class Component:
    """A variance with its 95 % interval.

    Attributes:
        variance: estimate, zero where the unbiased one is negative.
        freedom: degrees of freedom of the factor's mean square.
    """

    variance: float
    low: float
    high: float
    freedom: int


REST = "rest"


class Design:
    """Which levels of which factors each score has; components of any scores of it.

    Args:
        factors: name → level of each score [N].

    Raises:
        ValueError: nothing is left to estimate the rest with.
    """

    def __init__(self, factors: Mapping[str, np.ndarray]):
        dummies = {name: _dummies(levels) for name, levels in factors.items()}
        one = np.ones((len(next(iter(dummies.values()))), 1))
        self._full = _basis(np.hstack([one, *dummies.values()]))
        self.freedom = len(one) - self._full.shape[1]
        if self.freedom < 1:
            raise ValueError("no degrees of freedom are left for the rest")
        self._own = {}
        for name, columns in dummies.items():
            others = [other for key, other in dummies.items() if key != name]
            basis = _basis(np.hstack([one, *others]))
            alone = columns - basis @ (basis.T @ columns)
            own = _basis(alone)
            if own.shape[1]:  # else it is not told from the others
                self._own[name] = own, float(np.square(alone).sum() / own.shape[1])

    def split(self, values: np.ndarray) -> dict[str, Component]:
        """The variance of each factor's effects, and of the rest (`REST`), of scores [N]. A factor
        that is not told from the others is left out.
        """
        values = np.asarray(values, float) - np.mean(values)
        left = values - self._full @ (self._full.T @ values)
        rest = float(np.square(left).sum() / self.freedom)
        made = {}
        for name, (own, each) in self._own.items():
            square = float(np.square(own.T @ values).sum() / own.shape[1])
            made[name] = _component(square, own.shape[1], rest, self.freedom, each)
        tails = [(1 + LEVEL) / 2, (1 - LEVEL) / 2]
        low, high = self.freedom / stats.chi2.ppf(tails, self.freedom)
        made[REST] = Component(rest, rest * float(low), rest * float(high), self.freedom)
        return made


def _dummies(levels):
    _, at = np.unique(np.asarray(levels).astype(str), return_inverse=True)
    return np.eye(at.max() + 1)[at]


def _basis(matrix):
    """An orthonormal basis [N, rank] of the columns' span."""
    left, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    scale = max(1.0, singular[0] if len(singular) else 0.0)
    return left[:, singular > SMALLEST_SINGULAR * scale]


def _component(square, freedom, rest, rest_freedom, each):
    """A factor's variance from its mean square and the residual one.

    Args:
        each: scores per level, in effect.
    """
    tail = (1 - LEVEL) / 2
    upper, lower = (_ratio(q, freedom, rest_freedom) for q in (1 - tail, tail))
    g1, g2 = (1 - 1 / _ratio(1 - tail, df) for df in (freedom, rest_freedom))
    h1, h2 = (1 / _ratio(tail, df) - 1 for df in (freedom, rest_freedom))
    g12 = ((upper - 1) ** 2 - (g1 * upper) ** 2 - h2**2) / upper
    h12 = ((1 - lower) ** 2 - (h1 * lower) ** 2 - g2**2) / lower
    below = (g1 * square) ** 2 + (h2 * rest) ** 2 + g12 * square * rest
    above = (h1 * square) ** 2 + (g2 * rest) ** 2 + h12 * square * rest
    between = square - rest
    low, high = between - np.sqrt(max(below, 0)), between + np.sqrt(max(above, 0))
    return Component(*(max(0.0, float(one) / each) for one in (between, low, high)), freedom)


def _ratio(quantile, freedom, other=None):
    """Quantile of F; with infinite degrees of freedom below where there is no other."""
    if other is None:
        return float(stats.chi2.ppf(quantile, freedom) / freedom)
    return float(stats.f.ppf(quantile, freedom, other))
