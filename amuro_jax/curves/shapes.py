"""The shape of a curve: constant, linear, linear with one turn, or logistic, in the logarithm of
the tokens. No jax.

Each shape is linear but for one or two parameters, which are searched on a grid: with an
orthonormal basis of every candidate, the residual sums of all candidates and of all bootstrap
draws are one matrix product.
"""

import dataclasses
import functools

import numpy as np

from amuro_jax.curves.curve import Curve

CONSTANT, LINEAR, TURN, LOGISTIC = "constant", "linear", "turn", "logistic"
FEWEST = 7  # points: a turn has four parameters, and three are left for the noise
CANDIDATES = 120  # turns on the grid: their distance is far below the width of any interval
MIDDLES, RATES = 60, 14  # candidates of a logistic curve
FINER = 15  # a quarter of the finer middles, and all rates, about the best of them
LEVEL = 0.05
NULL_DRAWS = 2000
MOSTLY = 0.9  # share of a logistic rise after which it is called done
# Parameters by shape, the noise among them.
PARAMETERS = {CONSTANT: 2, LINEAR: 3, TURN: 5, LOGISTIC: 5}


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a curve looks like.

    Attributes:
        kind: constant, linear, turn or logistic; "" where nothing can be said.
        why: why nothing can be said, or in words what was found.
        turn, low, high: tokens (steps, order) at the turn and its 95 % interval; NaN: none found.
        bounded: whether both ends of the interval lie within the curve.
        before, after: slope per e-fold of tokens before and after the turn.
        before_low, before_high, after_low, after_high: their 95 % intervals.
        middle, mostly: of a logistic rise, where half and nine tenths of it are done.
        mostly_low, mostly_high: 95 % interval of `mostly`.
        p: p-value that a curve without a turn (linear) shows as clear a turn.
        noise: standard deviation of the scatter about the chosen shape.
        bic: by shape; the smallest is the best.
    """

    kind: str
    why: str
    turn: float = np.nan
    low: float = np.nan
    high: float = np.nan
    bounded: bool = False
    before: float = np.nan
    after: float = np.nan
    before_low: float = np.nan
    before_high: float = np.nan
    after_low: float = np.nan
    after_high: float = np.nan
    middle: float = np.nan
    mostly: float = np.nan
    mostly_low: float = np.nan
    mostly_high: float = np.nan
    p: float = np.nan
    noise: float = np.nan
    bic: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """All curves of one shape over places u [N].

    Attributes:
        at: the parameters that are searched [G, S].
        designs: regressors [G, N, P].
        bases: orthonormal bases of the designs [G, N, P].
    """

    at: np.ndarray
    designs: np.ndarray
    bases: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Residual sums of squares [G, B] of every candidate for values [N, B]."""
        total = (values * values).sum(axis=0)
        groups, size, width = self.bases.shape
        flat = self.bases.transpose(0, 2, 1).reshape(groups * width, size) @ values
        explained = (flat * flat).reshape(groups, width, -1).sum(axis=1)
        return np.maximum(total - explained, 0.0)

    def coefficients(self, chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Least-squares coefficients [B, P] of one candidate [B] for each of the values [N, B]."""
        used, index = np.unique(chosen, return_inverse=True)
        inverses = np.linalg.pinv(self.designs[used])
        return np.einsum("bpn,nb->bp", inverses[index], values)


def candidates(kind: str, u: np.ndarray) -> Candidates:
    """The candidates of a shape over increasing places u [N]; made once per axis."""
    return _candidates(kind, tuple(np.asarray(u, float).tolist()))


@functools.lru_cache(maxsize=256)
def _candidates(kind, positions):
    u = np.array(positions)
    ones, line = np.ones_like(u), u - u.mean()
    if kind == CONSTANT:
        at, designs = np.zeros((1, 0)), ones[None, :, None]
    elif kind == LINEAR:
        at, designs = np.zeros((1, 0)), np.stack([ones, line], axis=-1)[None]
    elif kind == TURN:
        # Two points on either side, or a slope could follow a single one.
        grid = np.linspace(u[1], u[-2], CANDIDATES)
        hinge = np.maximum(u[None, :] - grid[:, None], 0.0)
        parts = np.broadcast_arrays(ones, line, hinge)
        at, designs = grid[:, None], np.stack(parts, axis=-1)
    else:
        span = u[-1] - u[0]
        middles = np.linspace(u[0], u[-1], MIDDLES)
        return _logistic_candidates(u, middles, np.geomspace(3 / span, 100 / span, RATES))
    return Candidates(at, designs, np.linalg.qr(designs)[0])


def _logistic_candidates(u, middles, rates):
    at = np.stack(np.meshgrid(middles, rates, indexing="ij"), axis=-1).reshape(-1, 2)
    rise = 0.5 * (1 + np.tanh(0.5 * at[:, 1:] * (u - at[:, :1])))
    designs = np.stack(np.broadcast_arrays(np.ones_like(u), rise), axis=-1)
    centred = rise - rise.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.sqrt((centred**2).sum(axis=1, keepdims=True)), 1e-300)
    level = np.full_like(centred, 1 / np.sqrt(len(u)))
    return Candidates(at, designs, np.stack([level, centred], axis=-1))


def _finer(u, coarse):
    """Logistic candidates about one of the coarse grid, three of its cells in each direction."""
    cell = (u[-1] - u[0]) / (MIDDLES - 1)
    middles = np.linspace(coarse[0] - 3 * cell, coarse[0] + 3 * cell, 4 * FINER)
    ratio = (100 / 3) ** (3 / (RATES - 1))
    return _logistic_candidates(
        u, middles, np.geomspace(coarse[1] / ratio, coarse[1] * ratio, FINER)
    )


def fit_shape(
    curve: Curve, draws: int = 400, seed: int = 0, row_values: np.ndarray | None = None
) -> Shape:
    """The shape of a curve by BIC, with the interval of its turn from residual bootstrap draws.

    Args:
        row_values: paired bootstrap values of the curve's points over test rows [N, R], where there
            are rows: the interval then covers the turns of 95 % of them too.

    A turn counts as found where BIC prefers it to all other shapes and where a linear curve with
    normal noise shows as clear a one in fewer than 5 % of Monte Carlo draws. Its interval are the
    turns whose likelihood ratio against the best is not larger than 95 % of the bootstrap draws
    have at the turn that they were made with. The test covers the scatter about the curve, not
    noise that neighbouring checkpoints share.
    """
    if curve.problem:
        return Shape("", f"none found: {curve.problem}")
    positive, u = curve.positions()
    if len(u) < FEWEST:
        return Shape("", f"none found: {len(u)} checkpoints, {FEWEST} are needed")
    y = curve.value[positive]
    if np.ptp(y) == 0:
        return Shape("", "none found: the scores of the trained models are all equal")
    sums = {kind: candidates(kind, u).sums(y[:, None])[:, 0] for kind in PARAMETERS}
    bic = {kind: _bic(squares.min(), len(y), PARAMETERS[kind]) for kind, squares in sums.items()}
    kind, p = min(bic, key=bic.get), _turn_p(u, sums)
    if kind == TURN and p >= LEVEL:
        kind = min((CONSTANT, LINEAR, LOGISTIC), key=bic.get)
    noise = float(np.sqrt(sums[kind].min() / (len(y) - PARAMETERS[kind] + 1)))
    common = {"p": p, "noise": noise, "bic": bic}
    if kind == TURN:
        rows = None if row_values is None else row_values[positive]
        return _turn(curve, u, y, sums[TURN], draws, seed, rows, common)
    if kind == LOGISTIC:
        return _logistic(curve, u, y, sums[LOGISTIC], draws, seed, common)
    why = "no change" if kind == CONSTANT else "a steady change"
    slope = float(candidates(LINEAR, u).coefficients(np.zeros(1, int), y[:, None])[0, 1])
    steady = {} if kind == CONSTANT else {"before": slope, "after": slope}
    return Shape(kind, f"none found: {why}", **steady, **common)


def _bic(residual_sum, number, parameters):
    return number * np.log(max(residual_sum, 1e-18) / number) + parameters * np.log(number)


def _turn_p(u, sums):
    """Monte Carlo p-value of the turn against the line: its distribution hangs on u alone."""
    null = _null_ratios(tuple(u.tolist()))
    ratio = sums[LINEAR].min() / max(sums[TURN].min(), 1e-18)
    return float((1 + (null >= ratio).sum()) / (1 + len(null)))


@functools.lru_cache(maxsize=256)
def _null_ratios(positions):
    u = np.array(positions)
    noise = np.random.default_rng(0).normal(size=(len(u), NULL_DRAWS))
    line, turn = candidates(LINEAR, u).sums(noise), candidates(TURN, u).sums(noise)
    return line.min(axis=0) / np.maximum(turn.min(axis=0), 1e-18)


def _redrawn(fits, best, y, parameters, draws, seed):
    """Bootstrap values [N, B]: the fitted curve with its residuals drawn anew."""
    coefficients = fits.coefficients(np.array([best]), y[:, None])[0]
    fitted = fits.designs[best] @ coefficients
    residuals = y - fitted
    # As large as the noise: a fit with k parameters takes k of N degrees of freedom.
    residuals = (residuals - residuals.mean()) * np.sqrt(len(y) / (len(y) - parameters))
    rng = np.random.default_rng(seed)
    return fitted[:, None] + rng.choice(residuals, (len(y), draws)), coefficients


def _turn(curve, u, y, sums, draws, seed, rows, common):
    tried, best = candidates(TURN, u), int(sums.argmin())
    redrawn, coefficients = _redrawn(tried, best, y, 4, draws, seed)
    new_sums = tried.sums(redrawn)
    distance = np.log(np.maximum(new_sums[best], 1e-18) / np.maximum(new_sums.min(axis=0), 1e-18))
    limit = np.quantile(distance, 1 - LEVEL)
    inside = np.flatnonzero(np.log(np.maximum(sums, 1e-18) / max(sums[best], 1e-18)) <= limit)
    # One candidate further out, since the limit is crossed between two of them.
    low, high = max(int(inside[0]) - 1, 0), min(int(inside[-1]) + 1, len(sums) - 1)
    if rows is not None:
        of_rows = np.quantile(tried.sums(rows).argmin(axis=0), [LEVEL / 2, 1 - LEVEL / 2])
        low, high = min(low, int(of_rows[0])), max(high, int(np.ceil(of_rows[1])))
    positions = tried.at[:, 0]
    slopes = tried.coefficients(new_sums.argmin(axis=0), redrawn)[:, 1:].cumsum(axis=1)
    (before_low, after_low), (before_high, after_high) = np.quantile(
        slopes, [LEVEL / 2, 1 - LEVEL / 2], axis=0
    )
    before, after = coefficients[1:].cumsum()
    first = _direction(before_low, before_high)
    then = _direction(after_low, after_high)
    if first == then != "is flat":
        then += " faster" if abs(after) > abs(before) else " more slowly"
    return Shape(
        TURN,
        f"{first}, then {then}",
        curve.at_position(positions[best]),
        curve.at_position(positions[low]),
        curve.at_position(positions[high]),
        bool(low > 0 and high < len(positions) - 1),
        float(before),
        float(after),
        float(before_low),
        float(before_high),
        float(after_low),
        float(after_high),
        **common,
    )


def _direction(low, high):
    """What a slope with a 95 % interval is called."""
    return "rises" if low > 0 else "falls" if high < 0 else "is flat"


def _logistic(curve, u, y, sums, draws, seed, common):
    refined = _finer(u, candidates(LOGISTIC, u).at[sums.argmin()])
    best = int(refined.sums(y[:, None])[:, 0].argmin())
    redrawn, coefficients = _redrawn(refined, best, y, 4, draws, seed)
    done = refined.at[:, 0] + np.log(MOSTLY / (1 - MOSTLY)) / refined.at[:, 1]
    low, high = np.quantile(done[refined.sums(redrawn).argmin(axis=0)], [LEVEL / 2, 1 - LEVEL / 2])
    way = "rise" if coefficients[1] > 0 else "fall"
    return Shape(
        LOGISTIC,
        f"none found: a smooth {way}",
        middle=curve.at_position(refined.at[best, 0]),
        mostly=curve.at_position(done[best]),
        mostly_low=curve.at_position(low),
        mostly_high=curve.at_position(high),
        **common,
    )
