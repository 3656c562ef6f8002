"""Which checkpoint to score next, and on how many of its rows: what tells most, per row, about
where a curve reaches its end. No jax.

A curve is believed to be a random walk on the logarithmic axis, or smoother than that, with
independent noise on top. Draws from that belief, given the rows that are scored, say how probable
each verdict of the full grid is, and which further rows would tell most about it.
"""

import dataclasses
import functools

import numpy as np

Z = 1.96  # standard errors of a difference that is called clear
SURE = 0.92  # probability of a verdict at which a curve is settled
# Shares of a set's rows that are scored: each part holds the ones before.
PARTS = (1 / 32, 1 / 16, 3 / 32, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
FEWEST = 16  # rows of a part
DRAWS = 400
LEAST_SHARED = 100  # rows without agreement that count beside those of both checkpoints
# The belief before any row is scored: standard deviations of what changes over the series, and
# of the noise in standard errors of a full score; a walk, or a smooth curve (Matérn, 5/2) that
# bends within these shares of the axis. Each is as probable as the others.
WIDTHS, NOISES, BENDS = (0.03, 0.1, 0.3, 1.0), (0.3, 1.0), (0.2, 0.5)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is said of a curve.

    Attributes:
        learned: whether the last checkpoint is clearly better than the first.
        falls: whether it is clearly worse than the one half-way.
        low, high: neighbouring places: at `low` the score is clearly below its end, at `high` it is
            not; −1 and 0: no place is clearly below, or nothing is learned.
    """

    learned: bool
    falls: bool
    low: int
    high: int


@dataclasses.dataclass(frozen=True)
class Known:
    """What is scored of a curve.

    Attributes:
        x: tokens or steps of all checkpoints [N], increasing.
        values: mean score of the rows that are scored, as far as they are as hard as the others
            [N], more is better; NaN where none is.
        counts: how many are scored [N]: at each checkpoint the first ones of one random order.
        deviations: standard deviation of their scores [N].
        rows: of the whole set.
        agreement: correlation of two checkpoints' scores of the same rows.
        stderrs: of the full scores [N], where they are no sample's; None: deviation / √rows.
    """

    x: np.ndarray
    values: np.ndarray
    counts: np.ndarray
    deviations: np.ndarray
    rows: int
    agreement: float = 0.0
    stderrs: np.ndarray | None = None

    @classmethod
    def of(cls, x: np.ndarray, rows: int, scores: dict[int, np.ndarray], stderrs=None) -> "Known":
        """From the scores of the first rows, by place.

        What the most scored checkpoint's rows tell of how hard a part is counts for the others too
        (a control variate): a part of hard rows does not make all checkpoints look worse than the
        one that is known better.
        """
        values, deviations = np.full(len(x), np.nan), np.zeros(len(x))
        counts = np.zeros(len(x), int)
        for place, each in scores.items():
            values[place], counts[place] = np.mean(each), len(each)
            deviations[place] = np.std(each)
        best = max(scores, key=lambda place: (len(scores[place]), place), default=None)
        agreement = _agreement(best, scores)
        for place, each in scores.items():
            harder = values[best] - np.mean(scores[best][: len(each)])
            share = agreement * deviations[place] / max(deviations[best], 1e-6)
            values[place] += min(share, 1.0) * harder
        return cls(x, values, counts, deviations, rows, agreement, stderrs)


@dataclasses.dataclass(frozen=True)
class Belief:
    """Draws of a curve's full scores, and what follows from them.

    Attributes:
        verdict, probability: the one that is most probably the full grid's.
        scores: draws of the full scores [D, N].
        events: what a verdict depends on, in each draw [D, E].
        deviations: of the scores of rows, by checkpoint [N].
    """

    verdict: Verdict
    probability: float
    scores: np.ndarray
    events: np.ndarray
    deviations: np.ndarray


def half_way(x: np.ndarray) -> int:
    """Place of the checkpoint nearest half of the pre-training, neither first nor last."""
    inner = np.arange(1, len(x) - 1)
    return int(inner[np.abs(x[inner] - x[-1] / 2).argmin()])


def part_sizes(rows: int) -> tuple[int, ...]:
    """Rows of each part of a set, the last one all; a set of few rows has fewer parts."""
    sizes = {min(rows, max(FEWEST, -int(-rows * part // 1))) for part in PARTS}
    return tuple(sorted(sizes))


def _agreement(best, scores):
    """Mean correlation with the most scored checkpoint, each weighted by the rows of both; few
    rows are drawn towards none.
    """
    total, weight = 0.0, LEAST_SHARED
    for place in scores.keys() - {best}:
        shared = len(scores[place])
        pair = np.array([scores[place], scores[best][:shared]])
        if (pair.std(axis=1) > 0).all():
            total += shared * np.corrcoef(pair)[0, 1]
            weight += shared
    return float(np.clip(total / weight, 0.0, 0.95))


def next_part(known: Known, belief: Belief | None = None) -> tuple[int, int] | None:
    """(place, rows that are to be scored of it) of what tells most per row; None where the curve is
    settled.

    Args:
        belief: `believe(known)`, where the caller has it.
    """
    sizes = np.array(part_sizes(known.rows))
    for place in (0, len(known.x) - 1, half_way(known.x)):
        if not known.counts[place]:
            return place, int(sizes[0])
    belief = belief or believe(known)
    if belief.probability >= SURE or (known.counts >= known.rows).all():
        return None
    gain = _gain(known, belief, sizes)
    place, part = np.unravel_index(gain.argmax(), gain.shape)
    return int(place), int(sizes[part])


def _gain(known, belief, sizes):
    """Variance of the events that a checkpoint's further rows explain, per row [N, parts]."""
    scores = belief.scores - belief.scores.mean(0)
    events = belief.events - belief.events.mean(0)
    variance = np.maximum((scores**2).mean(0), 1e-12)
    explained = ((scores.T @ events / len(scores)) ** 2).sum(1) / variance
    # What the further rows are worth is the noise of the mean that they and the old ones make.
    with np.errstate(divide="ignore", invalid="ignore"):
        before = 1 / _error(known.counts, known.rows)[:, None]
        noise = belief.deviations[:, None] ** 2 / (1 / _error(sizes, known.rows) - before)
    share = variance[:, None] / (variance[:, None] + noise)
    more = sizes - known.counts[:, None]
    return np.where(more > 0, explained[:, None] * share / np.maximum(more, 1), -1.0)


def _error(counts, rows):
    """Variance of the mean of some rows about the mean of all, where the rows' own is 1."""
    with np.errstate(divide="ignore"):
        return 1 / np.asarray(counts, float) - 1 / rows


def believe(known: Known) -> Belief:
    """What is believed of a curve of which some checkpoints are scored. The same for the same
    scores: its draws are seeded.
    """
    rng, seen = np.random.default_rng(0), np.flatnonzero(known.counts)
    # Two rows of the widest spread are added, so that a few equal scores are not taken for all.
    counts = known.counts[seen]
    spread = (counts * known.deviations[seen] ** 2 + 2 / 4) / (counts + 2)
    deviations = np.sqrt(np.interp(np.arange(len(known.x)), seen, spread))
    stderrs = known.stderrs
    if stderrs is None:
        stderrs = deviations / np.sqrt(known.rows)
    # Of two parts the smaller lies in the larger: they share its rows. Up to the rows of the most
    # scored checkpoint, what these tell is taken off already (`Known.of`).
    same, most = np.eye(len(seen)), counts.max()
    agreement = np.where(same, 1.0, known.agreement)
    errors = agreement * _error(most, known.rows)
    left = agreement - known.agreement**2
    errors = errors + left * _error(np.maximum.outer(counts, counts), most)
    errors *= np.outer(deviations[seen], deviations[seen])
    scores = _draws(known, seen, errors, stderrs, rng)
    return _verdict(known.x, scores, stderrs, deviations)


def _draws(known, seen, errors, stderrs, rng):
    """Full scores [D, N] given those of some rows: draws of curves, each moved by what it misses of
    the scores (Matheron's rule).
    """
    alike, alike_roots = _shapes(tuple(known.x))
    shapes, widths, noises = map(
        np.ravel, np.meshgrid(np.arange(len(alike)), WIDTHS, NOISES, indexing="ij")
    )
    covariances = 1.0 + widths[:, None, None] ** 2 * alike[shapes][:, :, seen]  # [models, N, seen]
    own = np.arange(len(seen))
    covariances[:, seen, own] += noises[:, None] ** 2 * stderrs[seen] ** 2
    roots = np.linalg.cholesky(covariances[:, seen] + errors + 1e-12 * np.eye(len(seen)))
    missed = np.linalg.solve(roots, known.values[seen, None] - 0.5)[..., 0]
    fits = -(missed**2).sum(1) / 2 - np.log(roots[:, own, own]).sum(1)
    shares = np.exp(fits - fits.max())
    numbers, draws = rng.multinomial(DRAWS, shares / shares.sum()), []
    errors_root = _root(errors)
    for model in np.flatnonzero(numbers):
        number, root = numbers[model], roots[model]
        normal = rng.normal(size=(3, number, len(known.x)))
        paths = 0.5 + rng.normal(size=(number, 1))
        paths = paths + widths[model] * normal[0] @ alike_roots[shapes[model]].T
        paths += noises[model] * stderrs * normal[1]
        measured = paths[:, seen] + normal[2][:, : len(seen)] @ errors_root.T
        missed = np.linalg.solve(root, (known.values[seen] - measured).T)
        draws.append(paths + (covariances[model] @ np.linalg.solve(root.T, missed)).T)
    return np.concatenate(draws)


@functools.lru_cache(maxsize=32)
def _shapes(x):
    """Covariances of a curve's places, and their roots, for each way in which it may go
    [ways, N, N].
    """
    axis = _scale(np.array(x))
    axis = (axis - axis[0]) / (axis[-1] - axis[0])
    alike = [np.minimum.outer(axis, axis)]
    for bend in BENDS:
        far = np.sqrt(5) * np.abs(np.subtract.outer(axis, axis)) / bend
        alike.append((1 + far + far**2 / 3) * np.exp(-far))
    return np.stack(alike), np.stack([_root(one) for one in alike])


def _root(covariance):
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def _verdict(x, scores, stderrs, deviations):
    """The verdict that is right in most draws. Of what is learned, the end is reached at `high`
    where the score is clearly below it at the place before and not there.

    The full grid may say the same of a curve that goes back and forth about that border at other
    places. This is not counted: a curve that is rough where it rises would be believed to be so at
    its end, and any place there be taken for right.
    """
    below = _below(scores, stderrs)
    learned, falls = below[:, 0], _falls(x, scores, stderrs)
    turns = below[:, :-1] & ~below[:, 1:]
    options = []
    for fallen in (False, True):
        right = ~learned & (falls == fallen)
        options.append((right.mean(), Verdict(False, fallen, -1, 0), right))
        right = turns & (learned & (falls == fallen))[:, None]
        low = int(right.sum(0).argmax())
        options.append((right[:, low].mean(), Verdict(True, fallen, low, low + 1), right[:, low]))
    probability, verdict, right = max(options, key=lambda option: option[0])
    events = [right, learned, falls, below[:, verdict.low], below[:, verdict.high]]
    return Belief(verdict, float(probability), scores, np.stack(events, 1) * 1.0, deviations)


def _gap(scores, stderrs):
    return (scores[:, -1:] - scores) / np.sqrt(stderrs**2 + stderrs[-1] ** 2)


def _below(scores, stderrs):
    return _gap(scores, stderrs) > Z


def _falls(x, scores, stderrs):
    return _gap(scores, stderrs)[:, half_way(x)] < -Z


def outcome(x: np.ndarray, scores: np.ndarray, stderrs: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the full grid says, of curves [D, N]: learned [D], falls [D], and the first and the last
    place where the end may be said to be reached [D].
    """
    below = _below(scores, stderrs)
    last = len(x) - np.argmax(below[:, ::-1], axis=1)
    last = np.where(below.any(1), last, 0)
    return below[:, 0], _falls(x, scores, stderrs), np.argmin(below, axis=1), last


def _scale(x):
    """The logarithm, in which early checkpoints are as far apart as late ones; the untrained model
    lies a step before the first trained one.
    """
    positive = x[x > 0]
    first = np.log(positive[0]) - 1 if len(positive) else 0.0
    return np.where(x > 0, np.log(np.maximum(x, 1e-300)), first)
