"""Fine-tuned scores of checkpoints that were not fine-tuned, from their base models and from the
checkpoints that were. numpy alone.

A Gaussian process with fixed parts (ridge regression in another form): no hyperparameter is fitted,
so that a prediction is two linear solves. Every part has a coefficient of each curve and one that
all curves of a kind share, which is what carries over to a set or series without any fine-tuning.
"""

import dataclasses

import numpy as np

PARTS_VARIANCE = 1 / 6  # of each part, so that a curve's deviations have a variance of about 1
SMOOTH = 0.5  # length scale of the smooth part, in standard deviations of the place
LEVEL_VARIANCE = 0.2**2  # of a curve's height above its base score, in units of the score
# What the same sets in other series say, where there are several: the variance of its height and of
# its shape, relative to what is a curve's own or its kind's.
SETS_HEIGHT, SETS_SHAPE = 16, 3
# What of a difference between two base scores is expected to be there after fine-tuning, before any
# fine-tuned score is known: between nothing and all of it.
KEPT = 0.5
NOISE = 1 / 3  # variance of what no part explains, beside that of the test rows
SMALLEST_SCALE = 0.002  # scores are stored with three or four digits
FEWEST_KNOWN = 3  # fine-tuned scores of a curve that tell its scale
LEVEL = 0.9  # of intervals
LARGEST_FEATURE = 3.0  # standard deviations, at which features are cut off


@dataclasses.dataclass(frozen=True)
class Grid:
    """Base and fine-tuned scores, a line per series, fine-tuning set, scored set and checkpoint.

    Attributes:
        curve: number of the curve: lines of one series, fine-tuning set and scored set [N].
        sets: number of the two sets, in whatever series [N].
        source: number of the fine-tuning set, in whatever series [N].
        kind: number of the kind of curve (role of the scored set) [N].
        series: number of the series [N].
        checkpoint: number of the checkpoint in its series, in the order of training [N].
        place: logarithm of tokens or steps [N].
        base: score of the base model [N].
        features: what else its rows say [N, F]; NaN where unknown.
        tuned: score of the fine-tuned model [N]; NaN where it was not fine-tuned.
        stderr: of the fine-tuned score [N]; NaN where unknown.
    """

    curve: np.ndarray
    sets: np.ndarray
    source: np.ndarray
    kind: np.ndarray
    series: np.ndarray
    checkpoint: np.ndarray
    place: np.ndarray
    base: np.ndarray
    features: np.ndarray
    tuned: np.ndarray
    stderr: np.ndarray

    def __len__(self):
        return len(self.curve)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Expected fine-tuned scores [N] and the ends of their 90 % intervals."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def expected(grid: Grid, known: np.ndarray) -> np.ndarray:
    """Expected fine-tuned scores of all lines [N] from those of the `known` ones [N].

    Raises:
        ValueError: fewer than `FEWEST_KNOWN` known scores.
    """
    return _posterior(grid, known).value


def predict(grid: Grid, known: np.ndarray, blocks: np.ndarray) -> Prediction:
    """As `expected`, with intervals.

    Args:
        blocks: what is unknown together [N]: the checkpoint, sets or series of each line. Intervals
            are as wide as the errors of the known blocks, each left out in turn, ask for (split
            conformal over leave-block-out residuals).

    Raises:
        ValueError: fewer than `FEWEST_KNOWN` known scores.
    """
    made = _posterior(grid, known)
    across, scale = made.kernel[:, made.at], made.scale
    variance = np.diag(made.kernel) - np.einsum("nk,nk->n", across @ made.inverse, across)
    half = _conformal(grid, made, blocks) * scale * np.sqrt(np.maximum(variance, 0) + made.noise)
    return Prediction(made.value, made.value - half, made.value + half)


@dataclasses.dataclass(frozen=True)
class _Posterior:
    """Expected scores [N]; known lines [K], the inverse of their covariance [K, K], and in units of
    each curve's scale [N] the covariance of all lines [N, N], noise [N] and targets [N].
    """

    value: np.ndarray
    at: np.ndarray
    inverse: np.ndarray
    kernel: np.ndarray
    noise: np.ndarray
    target: np.ndarray
    scale: np.ndarray


def _posterior(grid, known):
    known = known & np.isfinite(grid.tuned)
    if known.sum() < FEWEST_KNOWN:
        raise ValueError(f"{int(known.sum())} known scores, {FEWEST_KNOWN} are needed")
    centre = _group_means(grid.base, grid.sets)
    scale = _scales(grid, known)
    kernel = _kernel(grid, scale, centre)
    noise = NOISE + np.square(np.nan_to_num(grid.stderr) / scale)
    prior = _prior(grid)
    target, at = (grid.tuned - prior) / scale, np.flatnonzero(known)
    inverse = np.linalg.inv(kernel[np.ix_(at, at)] + np.diag(noise[at]))
    value = kernel[:, at] @ (inverse @ target[at]) * scale + prior
    return _Posterior(value, at, inverse, kernel, noise, target, scale)


def _scales(grid, known):
    """Standard deviation of each curve's known scores about their prior; of a curve that has few,
    the median of the same sets in other series, else of its kind, else of all.
    """
    left = grid.tuned - _prior(grid)
    _, curve = np.unique(grid.curve, return_inverse=True)
    values = np.where(known, left, 0.0)
    errors = np.where(known, np.nan_to_num(grid.stderr), 0.0)
    count, total, rows = (np.bincount(curve, one) for one in (known, values, errors**2))
    enough = count >= FEWEST_KNOWN
    centre = (total / np.maximum(count, 1))[curve]
    squares = np.bincount(curve, np.where(known, (left - centre) ** 2, 0.0))
    floor = np.maximum(SMALLEST_SCALE, np.sqrt(rows / np.maximum(count, 1)))
    own = np.maximum(floor, np.sqrt(squares / np.maximum(count - 1, 1)))
    scale = np.where(enough, own, np.nan)[curve]
    if not enough.any():
        return np.full(len(grid), max(SMALLEST_SCALE, float(np.std(left[known]))))
    known_scale = scale.copy()
    for labels in (grid.sets, grid.kind, np.zeros_like(grid.kind)):
        for label in np.unique(labels[np.isnan(scale)]):
            of_label = known_scale[labels == label]
            if np.isfinite(of_label).any():
                scale[(labels == label) & np.isnan(scale)] = np.nanmedian(of_label)
    return scale


def _prior(grid):
    """What is expected before any fine-tuned score is known, but for a height."""
    centre = _group_means(grid.base, grid.sets)
    return centre + KEPT * (grid.base - centre)


def _group_means(values, labels):
    _, at = np.unique(labels, return_inverse=True)
    return (np.bincount(at, values) / np.bincount(at))[at]


def _standardised(columns, labels):
    """Each column over the lines of one label with mean 0 and deviation 1, cut off; 0 where it is
    unknown or does not vary.
    """
    made = np.zeros_like(columns)
    for label in np.unique(labels):
        part = columns[labels == label]
        for column in range(part.shape[1]):
            values = part[:, column]
            finite = np.isfinite(values)
            deviation = values[finite].std() if finite.any() else 0.0
            if deviation > 0:
                z = np.where(finite, (values - values[finite].mean()) / deviation, 0.0)
                made[labels == label, column] = z
    return np.clip(made, -LARGEST_FEATURE, LARGEST_FEATURE)


def _kernel(grid, scale, centre):
    place = (grid.place - grid.place.mean()) / (grid.place.std() or 1.0)
    base = np.clip((grid.base - centre) / scale, -LARGEST_FEATURE, LARGEST_FEATURE)
    parts = [
        np.outer(place, place),
        np.exp(-np.square(place[:, None] - place[None]) / (2 * SMOOTH**2)),
        np.outer(base, base),
    ]
    features = _standardised(grid.features, grid.sets)
    varying = features[:, features.any(axis=0)]
    if varying.shape[1]:
        parts.append(varying @ varying.T / varying.shape[1])
    same = _same(grid.curve) + _same(grid.kind)
    shapes, heights = same, same + 1
    if len(np.unique(grid.sets)) < len(np.unique(grid.curve)):  # several series
        elsewhere = _same(grid.sets)
        shapes, heights = shapes + SETS_SHAPE * elsewhere, heights + SETS_HEIGHT * elsewhere
    heights = heights * LEVEL_VARIANCE / np.outer(scale, scale)
    return shapes * PARTS_VARIANCE * sum(parts) + heights


def _same(labels):
    """Which lines have the same label [N, N], 1 or 0."""
    return (labels[:, None] == labels[None]).astype(float)


def _conformal(grid, made, blocks):
    """Factor of standard deviations that covers `LEVEL` of the known lines, each block left out.

    Residuals follow from the inverse in closed form (Rasmussen and Williams, section 5.4.2); their
    scale is that of the curve without the block, as it is for what is truly unknown.
    """
    at, scores = made.at, []
    weights, known = made.inverse @ made.target[at], np.zeros(len(grid), bool)
    known[at] = True
    for block in np.unique(blocks[at]):
        inside, rest = np.flatnonzero(blocks[at] == block), known & (blocks != block)
        if rest.sum() < FEWEST_KNOWN:
            continue
        covariance = np.linalg.inv(made.inverse[np.ix_(inside, inside)])
        without = _scales(grid, rest)[at[inside]] / made.scale[at[inside]]
        residual = np.abs(covariance @ weights[inside])
        scores += list(residual / np.sqrt(np.diag(covariance)) / without)
    if not scores:
        return 1.0
    rank = min(1.0, LEVEL * (1 + 1 / len(scores)))
    return float(np.quantile(scores, rank, method="higher"))


def mean_of_others(grid: Grid, known: np.ndarray) -> np.ndarray:
    """The mean of the curve's known scores; NaN where there are none."""
    return _per_curve(grid, known, lambda lines, at, values: np.full(len(lines), values.mean()))


def line_on_place(grid: Grid, known: np.ndarray) -> np.ndarray:
    """A straight line over log tokens through the curve's known scores."""
    return _per_curve(grid, known, lambda lines, at, values: _line(grid.place, lines, at, values))


def line_on_base(grid: Grid, known: np.ndarray) -> np.ndarray:
    """A straight line over the base score."""
    return _per_curve(grid, known, lambda lines, at, values: _line(grid.base, lines, at, values))


def nearest(grid: Grid, known: np.ndarray) -> np.ndarray:
    """The score of the nearest known checkpoint of the curve, on the axis of log tokens."""

    def near(lines, at, values):
        distance = np.abs(grid.place[lines][:, None] - grid.place[at][None])
        return values[distance.argmin(axis=1)]

    return _per_curve(grid, known, near)


def other_series(grid: Grid, known: np.ndarray) -> np.ndarray:
    """The mean of the known scores of the same sets in other series, each on the straight line
    between its checkpoints nearest in log tokens; NaN where no other series has any.
    """
    made = np.full(len(grid), np.nan)
    for label in np.unique(grid.sets):
        of_sets = grid.sets == label
        curves = {}
        for series in np.unique(grid.series[of_sets & known]):
            at = np.flatnonzero(of_sets & known & (grid.series == series))
            at = at[np.argsort(grid.place[at], kind="stable")]
            curves[series] = grid.place[at], grid.tuned[at]
        for series in np.unique(grid.series[of_sets]):
            lines = of_sets & (grid.series == series)
            others = [one for name, one in curves.items() if name != series]
            if others:
                made[lines] = np.mean([np.interp(grid.place[lines], *one) for one in others], 0)
    return made


def constant_gain(grid: Grid, known: np.ndarray) -> np.ndarray:
    """The base score and the mean gain of the curve's known lines; of its kind, where it has none,
    else of all.
    """
    gain = np.where(known, grid.tuned - grid.base, np.nan)
    expected = np.full(len(grid), np.nan)
    for labels in (grid.curve, grid.sets, grid.kind, np.zeros_like(grid.kind)):
        for label in np.unique(labels[np.isnan(expected)]):
            of_label = gain[labels == label]
            if np.isfinite(of_label).any():
                expected[(labels == label) & np.isnan(expected)] = np.nanmean(of_label)
    return grid.base + expected


def base_alone(grid: Grid, known: np.ndarray) -> np.ndarray:
    """The base score: no gain."""
    return grid.base.copy()


def more_is_better(grid: Grid, known: np.ndarray) -> np.ndarray:
    """The place itself: for decisions alone, it is no score."""
    return grid.place.copy()


def _line(x, lines, at, values):
    if np.ptp(x[at]) == 0 or len(at) < 2:
        return np.full(len(lines), values.mean())
    return np.polyval(np.polyfit(x[at], values, 1), x[lines])


def _per_curve(grid, known, function):
    made = np.full(len(grid), np.nan)
    for curve in np.unique(grid.curve):
        lines = np.flatnonzero(grid.curve == curve)
        at = lines[known[lines]]
        if len(at):
            made[lines] = function(lines, at, grid.tuned[at])
    return made
