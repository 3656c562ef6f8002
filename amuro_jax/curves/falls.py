"""Does a score get worse late in pre-training, and where does it stop improving? No jax."""

import dataclasses

import numpy as np
from scipy import optimize, stats

from amuro_jax.curves.curve import Curve

FEWEST = 5  # points: two windows at the least, and something between them
WIDEST = 3  # points whose mean stands for the peak and for the end
DRAWS = 2000
FEW = 10  # draws beyond: with fewer, a share of draws says little and the union bound is used
LEVEL = 0.05
FREEDOM_SHARE = 0.3  # degrees of freedom per second difference: a median's, and they overlap
SUFFIX = 4  # points with which a trend to the end can be tested


@dataclasses.dataclass(frozen=True)
class Fall:
    """From the peak of a curve to its end.

    Attributes:
        fall: smoothed peak less smoothed end, positive where it gets worse.
        stderr: of `fall`, had the peak not been picked.
        p: p-value that a curve that never falls shows as large a fall somewhere.
        peak, end: the smoothed scores.
        peak_at: place of the peak's middle point in the curve.
        rose: whether the peak is clearly above the start (not merely an untrained model's score).
        noise: standard deviation of one point that the test reckons with.
        window: points whose mean is taken.
        why: why nothing is said; "" where something is.
    """

    fall: float = np.nan
    stderr: float = np.nan
    p: float = np.nan
    peak: float = np.nan
    end: float = np.nan
    peak_at: int = -1
    rose: bool = False
    noise: float = np.nan
    window: int = 0
    why: str = ""


def scatter(values: np.ndarray) -> float:
    """Standard deviation of the noise about a smooth curve, from second differences; robust
    against a few steep places. NaN with fewer than five points.
    """
    if len(values) < FEWEST:
        return np.nan
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    # The variance of a second difference is 6 times that of a point; 1.4826: from the median of
    # absolute values to a standard deviation.
    return float(1.4826 * np.median(np.abs(second)) / np.sqrt(6))


def find_fall(
    curve: Curve, sign: int = 1, row_values: np.ndarray | None = None, seed: int = 0
) -> Fall:
    """The fall from a curve's peak to its end, tested with the picking of the peak.

    The null is the closest curve that never falls, with noise: the larger of the scatter about a
    smooth curve and the standard errors; of paired rows, their bootstrap deviations and what
    scatter they leave. Its draws pick their own peaks; a noise that only the scatter tells has the
    tails of Student's t.

    Args:
        sign: −1 for scores of which a lower one is better.
        row_values: paired bootstrap values of the curve's points over test rows [N, R].
    """
    if curve.problem:
        return Fall(why=curve.problem)
    if len(curve) < FEWEST:
        return Fall(why=f"{len(curve)} checkpoints, {FEWEST} are needed")
    values = sign * curve.value
    size = min(WIDEST, max(1, len(values) // 6))
    noise, deviations, freedom = _noise(curve, values, row_values)
    if not noise > 0:
        return Fall(why="the noise is not known: no standard errors, no scatter")
    smooth = _windows(values, size)
    peak = int(smooth.argmax())
    end, fall = float(smooth[-1]), float(smooth[peak] - smooth[-1])
    level = optimize.isotonic_regression(values).x
    noises = _drawn(noise, deviations, len(values), seed)
    # A scatter of few points may be too small by chance: each draw has a noise that fits it.
    chi = np.random.default_rng(seed + 1).chisquare(min(freedom, 1e6), DRAWS)
    drawn = _windows(level[:, None] + noises * np.sqrt(min(freedom, 1e6) / chi), size)
    beyond = int((drawn.max(axis=0) - drawn[-1] >= fall).sum())
    p = (1 + beyond) / (1 + DRAWS)
    error = float((drawn[peak] - drawn[-1]).std())
    if beyond < FEW and fall > 0:
        # Each window's difference from the end is normal (Student's t of an estimated noise);
        # the sum over windows bounds the chance that any of them reaches the fall.
        under, plain = _windows(level, size), _windows(noises, size)
        spread = np.maximum((plain[:-1] - plain[-1]).std(axis=1), 1e-15)
        bound = float(stats.t.sf((fall - (under[:-1] - under[-1])) / spread, freedom).sum())
        p = min(p, bound)
    rose = smooth[peak] - smooth[0] > 2 * noise * np.sqrt(2 / size)
    middle = peak + size // 2
    return Fall(
        fall,
        error,
        float(p),
        sign * float(smooth[peak]),
        sign * end,
        middle,
        bool(rose),
        noise,
        size,
    )


def _windows(values, size):
    """Means of `size` neighbouring points along the first axis."""
    sums = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values]), axis=0)
    return (sums[size:] - sums[:-size]) / size


def _noise(curve, values, row_values):
    """The noise of one point, the deviations of row draws [N, R] where there are rows, and the
    degrees of freedom of the noise: infinite where standard errors or rows tell it.
    """
    seen = scatter(values)
    if row_values is None:
        known = curve.stderr[np.isfinite(curve.stderr)]
        errors = np.sqrt((known**2).mean()) if len(known) else np.nan
        freedom = np.inf if len(known) else max(1.0, FREEDOM_SHARE * (len(values) - 2))
        return float(np.nanmax([seen, errors, 0.0])), None, freedom
    deviations = row_values - row_values.mean(axis=1, keepdims=True)
    second = deviations[2:] - 2 * deviations[1:-1] + deviations[:-2]
    of_rows = float((second**2).mean() / 6)  # what rows alone would scatter between neighbours
    rest = max(0.0, seen**2 - of_rows)
    total = np.sqrt(rest + (deviations**2).mean())
    return float(total), deviations, np.inf


def _drawn(noise, deviations, count, seed):
    rng = np.random.default_rng(seed)
    if deviations is None:
        return rng.normal(0, noise, (count, DRAWS))
    picked = deviations[:, rng.integers(0, deviations.shape[1], DRAWS)]
    rest = np.sqrt(max(0.0, noise**2 - (deviations**2).mean()))
    return picked + rng.normal(0, rest, picked.shape)


@dataclasses.dataclass(frozen=True)
class Saturation:
    """From where on a curve has no trend to its end.

    Attributes:
        at: place of that point; −1: none, it changes to the end.
        left: change from there to the end along the fitted line, and its 95 % interval.
        half: share of the change from first to last that is done at half of pre-training.
    """

    at: int = -1
    left: float = np.nan
    low: float = np.nan
    high: float = np.nan
    half: float = np.nan
    why: str = ""


def find_saturation(curve: Curve) -> Saturation:
    """The earliest checkpoint from which on, and from all later ones on, a line through the rest of
    the curve has no slope that can be told from zero.
    """
    positive, u = curve.positions()
    values = curve.value[positive]
    if curve.problem or len(values) < SUFFIX:
        return Saturation(why=curve.problem or f"{len(values)} checkpoints, {SUFFIX} are needed")
    at, best = -1, (np.nan, np.nan, np.nan)
    for start in range(len(values) - SUFFIX, -1, -1):
        line = _line(u[start:], values[start:])
        if line[1] > 0 or line[2] < 0:
            break
        at, best = int(positive[start]), line
    change = values[-1] - values[0]
    half = int(np.abs(curve.x[positive] - curve.x[-1] / 2).argmin())
    share = float((values[half] - values[0]) / change) if change else np.nan
    return Saturation(at, *best, half=share)


def _line(u, values):
    """Change along the least-squares line, and its 95 % interval."""
    centred = u - u.mean()
    slope = centred @ values / (centred @ centred)
    rest = values - values.mean() - slope * centred
    freedom = len(values) - 2
    error = np.sqrt(rest @ rest / freedom / (centred @ centred))
    half = stats.t.ppf(1 - LEVEL / 2, freedom) * error
    return tuple(float(one * (u[-1] - u[0])) for one in (slope, slope - half, slope + half))
