"""The horizontal axis of figures over checkpoints: steps, tokens, or evenly spaced. No jax."""

import dataclasses
import math

from amuro_jax.analyses.figures import (
    Axis,
    FigureSpec,
    LinePanel,
    Track,
    checkpoint_values,
    short_number,
    thinned,
    track,
)
from amuro_jax.errors import AmuroError
from amuro_jax.results.results import Results

AXES = ("steps", "tokens", "even")


def track_on(results: Results, axis: str) -> Track:
    """Where each checkpoint lies: `steps` as the report has it, `tokens` on a log scale, `even` in
    the order of training.

    Raises:
        AmuroError: an unknown axis, or tokens of a series that does not tell them.
    """
    if axis not in AXES:
        raise AmuroError(f"no axis {axis!r}", where="axis", hint="one of " + ", ".join(AXES))
    if axis == "steps":
        return track(results)
    if axis == "even":
        at = {name: float(index) for index, name in enumerate(results.checkpoints)}
        steps = checkpoint_values(results, "step")
        labels = {name: short_number(steps[name]) if steps[name] else name for name in at}
        return _track(at, labels, "pre-training step (evenly spaced)")
    tokens = checkpoint_values(results, "tokens")
    missing = next((name for name, value in tokens.items() if value is None), None)
    if missing is not None:
        what = f"the number of tokens is not known of {missing}"
        raise AmuroError(what, where="axis", hint="--axis=steps")
    first = min((value for value in tokens.values() if value > 0), default=10.0)
    # The untrained model has no place on a log scale: a decade before the first other one.
    at = {name: math.log10(value or first / 10) for name, value in tokens.items()}
    labels = {name: short_number(value) for name, value in tokens.items()}
    return _track(at, labels, "pre-training tokens (log scale)")


def _track(at, labels, title):
    low, high = min(at.values()), max(at.values())
    margin = 0.05 * (high - low or 1)
    ticks = tuple((at[name], labels[name]) for name in thinned(list(at)))
    return Track(at, Axis(title, low - margin, high + margin, ticks))


def on_track(spec: FigureSpec, line: Track) -> FigureSpec:
    """The figure with its checkpoints where the track has them; panels over anything else stay."""
    return dataclasses.replace(spec, panels=tuple(_moved(panel, line) for panel in spec.panels))


def _moved(panel, line):
    if not isinstance(panel, LinePanel):
        return panel
    names = {name for one in panel.series for name in one.names}
    if not names or not names <= line.at.keys():
        return panel
    drawn = tuple(
        dataclasses.replace(one, x=tuple(line.at[name] for name in one.names))
        for one in panel.series
    )
    return dataclasses.replace(panel, x=line.axis, series=drawn)
