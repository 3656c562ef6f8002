"""A score over pre-training as clean arrays, with a statement of what was left out. No jax."""

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

TOKENS, STEPS, ORDER = "tokens", "steps", "order"


@dataclasses.dataclass(frozen=True)
class Curve:
    """A score over pre-training, in the order of training.

    Attributes:
        names: of the checkpoints.
        unit: what `x` counts: tokens, steps, or (where neither is known) the order.
        x: amount of pre-training [N], increasing.
        value: scores [N], finite.
        stderr: standard errors of the scores [N]; NaN where unknown.
        places: of the points in what the curve was made of [N]; the first of merged ones.
        notes: what was left out, merged or replaced, in words.
    """

    names: tuple[str, ...]
    unit: str
    x: np.ndarray
    value: np.ndarray
    stderr: np.ndarray
    places: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self):
        return len(self.value)

    @property
    def problem(self) -> str:
        """Why nothing can be said of its shape; "" where something can."""
        if len(self) < 2:
            return "no score" if not len(self) else "one checkpoint only"
        return "the scores are all equal" if np.ptp(self.value) == 0 else ""

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the points that have a place on the axis of fits [M], and those places [M]:
        the natural logarithm of tokens or steps, the order itself where nothing else is known.
        """
        if self.unit == ORDER:
            return np.arange(len(self)), self.x.astype(float)
        positive = np.flatnonzero(self.x > 0)
        return positive, np.log(self.x[positive])

    def at_position(self, position: float) -> float:
        """Tokens, steps or order at a place on the axis of fits."""
        return position if self.unit == ORDER else math.exp(position)


def make_curve(
    names: Sequence[str],
    steps: Sequence,
    tokens: Sequence,
    values: Sequence,
    stderrs: Sequence = (),
) -> Curve:
    """A curve of scores in any order; faults of the input are put right where that is safe, and
    named.

    Args:
        steps, tokens: None or NaN where unknown.
        values: scores; those that are not finite are left out.
        stderrs: None or NaN where unknown; empty: all unknown.
    """
    steps, tokens, values = (_numbers(column) for column in (steps, tokens, values))
    stderrs = _numbers(stderrs) if len(stderrs) else np.full(len(values), np.nan)
    notes = []
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) < len(values):
        notes.append(f"{len(values) - len(finite)} of {len(values)} scores are missing or NaN")
    unit, x, finite = _axis(steps, tokens, finite, notes)
    if np.any(np.diff(x) < 0):
        notes.append(f"{unit} were not in increasing order: sorted")
    order = np.argsort(x, kind="stable")
    x, finite = x[order], finite[order]
    value, stderr = values[finite], np.where(stderrs[finite] > 0, stderrs[finite], np.nan)
    x, value, stderr, finite = _merged(x, value, stderr, finite, unit, notes)
    unknown = int(np.isnan(stderr).sum())
    if unknown:
        which = "" if unknown == len(value) else f" of {unknown} of {len(value)} scores"
        notes.append(f"standard errors{which} are missing: noise is that of the scatter")
    names = tuple(str(names[index]) for index in finite)
    return Curve(names, unit, x, value, stderr, finite, tuple(notes))


def _numbers(column):
    return np.array([np.nan if one is None else one for one in column], np.float64)


def _axis(steps, tokens, finite, notes):
    """The unit that all scores have, else the one that most have, and its amounts."""
    known = {TOKENS: np.isfinite(tokens[finite]), STEPS: np.isfinite(steps[finite])}
    amounts = {TOKENS: tokens[finite], STEPS: steps[finite]}
    if known[TOKENS].all() and _contradict(amounts[STEPS], amounts[TOKENS]):
        notes.append("tokens do not increase with the steps: steps are used")
        known[TOKENS][:] = False
    if not (known[TOKENS].any() or known[STEPS].any()):
        if len(finite):
            notes.append("steps and tokens are unknown: the order of the checkpoints is used")
        return ORDER, np.arange(1.0, len(finite) + 1), finite
    unit = TOKENS if known[TOKENS].sum() >= known[STEPS].sum() else STEPS
    missing = int((~known[unit]).sum())
    if unit == STEPS and known[TOKENS].any():
        number = int((~known[TOKENS]).sum())
        notes.append(f"tokens are unknown for {number} of {len(finite)} scores: steps are used")
    if missing:
        notes.append(f"{missing} of {len(finite)} scores are of unknown {unit}: left out")
    return unit, amounts[unit][known[unit]], finite[known[unit]]


def _contradict(steps, tokens):
    """Whether tokens fall where steps rise, or stay: names of revisions round them."""
    order = np.argsort(steps, kind="stable")
    risen = np.diff(steps[order]) > 0
    return bool(np.any(np.diff(tokens[order])[risen] <= 0))


def _merged(x, value, stderr, indices, unit, notes):
    """Points of one amount as their mean."""
    first = np.concatenate([[True], np.diff(x) > 0]) if len(x) else np.zeros(0, bool)
    if first.all():
        return x, value, stderr, indices
    group = np.cumsum(first) - 1
    counts = np.bincount(group)
    repeated = collections.Counter(counts[counts > 1].tolist())
    for times, number in sorted(repeated.items()):
        noun = unit.removesuffix("s")
        notes.append(
            f"{number} {noun} value{'s' * (number > 1)} occur {times} times: means are used"
        )
    means = np.bincount(group, value) / counts
    # Scores of one checkpoint share their rows: their mean is no more certain than one of them.
    errors = np.bincount(group, stderr) / counts
    return x[first], means, errors, indices[first]
