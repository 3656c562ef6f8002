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
        kept = np.flatnonzero(self.x > 0)
        return kept, np.log(self.x[kept])

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
    kept = np.flatnonzero(np.isfinite(values))
    if len(kept) < len(values):
        notes.append(f"{len(values) - len(kept)} of {len(values)} scores are missing or NaN")
    unit, x, kept = _axis(steps, tokens, kept, notes)
    if np.any(np.diff(x) < 0):
        notes.append(f"{unit} were not in increasing order: sorted")
    order = np.argsort(x, kind="stable")
    x, kept = x[order], kept[order]
    value, stderr = values[kept], np.where(stderrs[kept] > 0, stderrs[kept], np.nan)
    x, value, stderr, kept = _merged(x, value, stderr, kept, unit, notes)
    unknown = int(np.isnan(stderr).sum())
    if unknown:
        which = "" if unknown == len(value) else f" of {unknown} of {len(value)} scores"
        notes.append(f"standard errors{which} are missing: noise is that of the scatter")
    names = tuple(str(names[place]) for place in kept)
    return Curve(names, unit, x, value, stderr, kept, tuple(notes))


def _numbers(column):
    return np.array([np.nan if one is None else one for one in column], np.float64)


def _axis(steps, tokens, kept, notes):
    """The unit that all scores have, else the one that most have, and its amounts."""
    known = {TOKENS: np.isfinite(tokens[kept]), STEPS: np.isfinite(steps[kept])}
    amounts = {TOKENS: tokens[kept], STEPS: steps[kept]}
    if known[TOKENS].all() and _contradict(amounts[STEPS], amounts[TOKENS]):
        notes.append("tokens do not increase with the steps: steps are used")
        known[TOKENS][:] = False
    if not (known[TOKENS].any() or known[STEPS].any()):
        if len(kept):
            notes.append("steps and tokens are unknown: the order of the checkpoints is used")
        return ORDER, np.arange(1.0, len(kept) + 1), kept
    unit = TOKENS if known[TOKENS].sum() >= known[STEPS].sum() else STEPS
    missing = int((~known[unit]).sum())
    if unit == STEPS and known[TOKENS].any():
        number = int((~known[TOKENS]).sum())
        notes.append(f"tokens are unknown for {number} of {len(kept)} scores: steps are used")
    if missing:
        notes.append(f"{missing} of {len(kept)} scores are of unknown {unit}: left out")
    return unit, amounts[unit][known[unit]], kept[known[unit]]


def _contradict(steps, tokens):
    """Whether tokens fall where steps rise."""
    order = np.argsort(steps, kind="stable")
    risen = np.diff(steps[order]) > 0
    return bool(np.any(np.diff(tokens[order])[risen] < 0))


def _merged(x, value, stderr, kept, unit, notes):
    """Points of one amount as their mean."""
    first = np.concatenate([[True], np.diff(x) > 0]) if len(x) else np.zeros(0, bool)
    if first.all():
        return x, value, stderr, kept
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
    return x[first], means, errors, kept[first]
