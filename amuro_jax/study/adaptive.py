"""A study that scores few checkpoints: it looks for where each curve reaches its end, and leaves
out what can no longer change a verdict.
"""

import collections
import dataclasses
from collections.abc import Callable

import numpy as np

from amuro_jax.config import StudyConfig
from amuro_jax.convert.revisions import Revision
from amuro_jax.curves import adaptive
from amuro_jax.errors import ConfigError
from amuro_jax.results import loading
from amuro_jax.study import executor

FEWEST = 4  # checkpoints: first, last and half-way are always scored


@dataclasses.dataclass(frozen=True)
class Curve:
    """One curve of a study, with what is scored of it.

    Attributes:
        label: model, set, format and shots.
        values, stderrs: by checkpoint [N]; NaN where not scored yet.
    """

    label: str
    values: np.ndarray
    stderrs: np.ndarray


def run(
    config: StudyConfig,
    revisions: list[Revision],
    report: Callable[[str], None] = print,
    score: Callable = executor.run,
) -> list[str]:
    """Scores checkpoints until no further one can change a verdict; a line for each failure.

    Each round takes the checkpoint that most curves ask for. What is stored counts, so that the
    same command goes on after a kill.

    Args:
        score: carries out the cells of some checkpoints, as `executor.run`.

    Raises:
        ConfigError: too few checkpoints, or some of unknown tokens and steps.
    """
    x = positions(revisions)
    failures, tried = [], set()
    chosen = [0, adaptive.half_way(x), len(x) - 1]
    while chosen := [index for index in chosen if index not in tried]:
        tried.update(chosen)
        first = len(tried) == len(chosen)  # what is to be said of the study is said once
        only = {revisions[index].revision for index in chosen}
        failures += score(config, revisions, report if first else lambda line: None, only)
        counts = collections.Counter(
            index
            for curve in curves_of(config, revisions)
            if (index := next_place(x, curve)) is not None and index not in tried
        )
        chosen = [counts.most_common(1)[0][0]] if counts else []
    lines = [describe(revisions, x, curve) for curve in curves_of(config, revisions)]
    report("\n".join([f"{len(tried)} of {len(x)} checkpoints scored", *lines]))
    return failures


def positions(revisions: list[Revision]) -> np.ndarray:
    """Tokens of the checkpoints, or steps where some tokens are unknown [N], increasing.

    Raises:
        ConfigError: fewer than four, unknown or not increasing.
    """
    for name in ("tokens", "step"):
        values = [getattr(one, name) for one in revisions]
        if len(values) >= FEWEST and None not in values and np.all(np.diff(values) > 0):
            return np.array(values, float)
    raise ConfigError(
        f"{len(revisions)} checkpoints; {FEWEST} of known, increasing tokens or steps are needed",
        where="--adaptive",
        hint="leave out those whose step is unknown with config.select",
    )


def curves_of(config: StudyConfig, revisions: list[Revision]) -> list[Curve]:
    """Every curve of the study that has a finished score."""
    cells = loading.load(config.workdir, 2).cells
    place_of = {one.revision: position for position, one in enumerate(revisions)}
    curves = {}
    for cell in cells.to_dict("records"):
        model = f"after {cell['tuned_on']}" if cell["tuned_on"] else "base"
        label = f"{model}: {cell['task']} {cell['format']} {cell['shots']}-shot"
        empty = (np.full(len(revisions), np.nan), np.full(len(revisions), np.nan))
        values, stderrs = curves.setdefault(label, empty)
        if cell["checkpoint"] in place_of:
            position = place_of[cell["checkpoint"]]
            values[position], stderrs[position] = cell["value"], cell["stderr"]
    return [Curve(label, *columns) for label, columns in curves.items()]


def next_place(x: np.ndarray, curve: Curve) -> int | None:
    """The checkpoint that a curve asks for; None where it asks for none, or where its ends could
    not be scored.
    """
    ends = (0, adaptive.half_way(x), len(x) - 1)
    if not np.isfinite(curve.values[list(ends)]).all():
        return None
    return adaptive.next_place(x, curve.values, curve.stderrs)


def describe(revisions: list[Revision], x: np.ndarray, curve: Curve) -> str:
    """The verdict on a curve in words."""
    scored = int(np.isfinite(curve.values).sum())
    if next_place(x, curve) is not None or not np.isfinite(curve.values[[0, -1]]).all():
        return f"  {curve.label}: open, {scored} scores (some could not be computed)"
    verdict = adaptive.judge(x, curve.values, curve.stderrs)
    falls = ", worse at the end than half-way" if verdict.falls else ""
    if not verdict.learned:
        return f"  {curve.label}: not learned{falls}; {scored} scores"
    ends = f"{revisions[verdict.low].revision} and {revisions[verdict.high].revision}"
    return f"  {curve.label}: learned, its end is reached between {ends}{falls}; {scored} scores"
