"""A study that scores few checkpoints, and few rows of most: it looks for where each curve reaches
its end, and leaves out what would hardly change a verdict.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from amuro_jax.config import StudyConfig
from amuro_jax.convert.revisions import Revision
from amuro_jax.curves import adaptive
from amuro_jax.curves.adaptive import Belief, Known
from amuro_jax.errors import ConfigError
from amuro_jax.evals.run import Evaluator
from amuro_jax.records import Cell
from amuro_jax.results.parts import Parts, drawn
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study import executor, plan

FEWEST = 4  # checkpoints: first, last and half-way are always scored


@dataclasses.dataclass(frozen=True)
class Curve:
    """One curve of a study, with what is scored of it.

    Attributes:
        label: model, set, format and shots.
        cells: of the checkpoints that have it [N].
        x: tokens or steps of these.
        known: the scores that are there; None while no row is.
        belief: None while first, last or half-way checkpoint have no row, and where there are too
            few checkpoints to search.
    """

    label: str
    cells: tuple[Cell, ...]
    x: np.ndarray
    known: Known | None
    belief: Belief | None


def run(
    config: StudyConfig,
    revisions: list[Revision],
    report: Callable[[str], None] = print,
    score: Callable = executor.run,
) -> list[str]:
    """Scores rows of checkpoints until each curve's verdict is as good as certain; a line for each
    failure.

    Each round takes what every curve asks for. What is stored counts, so that the same command
    goes on after a kill, and no row is scored twice.

    Args:
        score: carries out parts of the cells of some checkpoints, as `executor.run`.

    Raises:
        ConfigError: too few checkpoints, or some of unknown tokens and steps.
    """
    x = positions(revisions)
    evaluator = Evaluator(config.score_run, "config.score_run.mesh")
    failures, tried, say = [], set(), report
    while True:
        curves = curves_of(config, revisions, x)
        asked = [(cell, part) for curve in curves for cell, part in asks(curve)]
        asked = [(cell, part) for cell, part in asked if (cell.identity, part) not in tried]
        if not asked:
            break
        parts = {cell.identity: part for cell, part in asked}
        tried.update(parts.items())
        only = {cell.model.checkpoint for cell, _ in asked}
        failures += score(config, revisions, say, only, parts, evaluator)
        say = _nothing  # what is to be said of the study is said once
    report("\n".join([_price(curves), *map(describe, curves)]))
    return failures


def _nothing(line):
    pass


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


def curves_of(config: StudyConfig, revisions: list[Revision], x: np.ndarray) -> list[Curve]:
    """Every curve of the study with the rows that are scored, of finished cells and of others."""
    storage = Storage.open(config.workdir)
    store, parts = Store(storage), Parts(storage)
    place_of = {one.revision: place for place, one in enumerate(revisions)}
    done, begun, cells = store.keys(), parts.counts(), {}
    for cell in plan.make_plan(config, revisions).cells:
        model = dataclasses.replace(cell.model, checkpoint="").label().strip()
        cells.setdefault(f"{model}: {cell.what()}", []).append(cell)
    curves = []
    for label, members in cells.items():
        scores, rows = {}, 0
        for place, cell in enumerate(members):
            if cell.key in done:
                scores[place] = _in_drawn_order(store, cell.key)
                rows = len(scores[place])
            elif cell.key in begun and (there := parts.read(cell.key)):
                scores[place], rows = there.scores(), there.total
        own = x[[place_of[cell.model.checkpoint] for cell in members]]
        known = Known.of(own, rows, scores) if rows else None
        searched = len(own) >= FEWEST and scores.keys() >= set(_ends(own))
        belief = adaptive.believe(known) if searched else None
        curves.append(Curve(label, tuple(members), own, known, belief))
    return curves


def _in_drawn_order(store, key):
    scores = store.rows(key, ["score"])["score"].to_numpy(float)
    return scores[list(drawn(len(scores)))]


def _ends(x):
    return 0, adaptive.half_way(x), len(x) - 1


def asks(curve: Curve) -> list[tuple[Cell, int]]:
    """The cells of which a curve asks for rows, each with the part (`adaptive.part_sizes`)."""
    known = curve.known
    counts = np.zeros(len(curve.x), int) if known is None else known.counts
    if len(curve.x) < FEWEST:  # as the averages of checkpoints at the end of a short series
        last = len(adaptive.PARTS) - 1
        full = 1 if known is None else known.rows
        return [(curve.cells[place], last) for place in np.flatnonzero(counts < full)]
    if curve.belief is None:
        return [(curve.cells[place], 0) for place in _ends(curve.x) if not counts[place]]
    wanted = adaptive.next_part(known, curve.belief)
    if wanted is None:
        return []
    place, rows = wanted
    return [(curve.cells[place], adaptive.part_sizes(known.rows).index(rows))]


def _price(curves: list[Curve]) -> str:
    """What was scored of the full grid."""
    known = [curve.known for curve in curves if curve.known is not None]
    scored = sum(int(one.counts.sum()) for one in known)
    total = sum(one.rows * len(one.x) for one in known)
    return f"{scored:,} of {total:,} rows scored ({scored / max(total, 1):.1%} of the full grid)"


def describe(curve: Curve) -> str:
    """The verdict on a curve in words, and how many rows it took."""
    counts = np.zeros(1, int) if curve.known is None else curve.known.counts
    spent = f"{counts.sum():,} rows of {(counts > 0).sum()} checkpoints"
    if len(curve.x) < FEWEST:
        return f"  {curve.label}: too few checkpoints to search, all are scored; {spent}"
    if curve.belief is None:
        return f"  {curve.label}: open, some could not be scored; {spent}"
    verdict, probability = curve.belief.verdict, curve.belief.probability
    sure = f"probability {probability:.2f}"
    if asks(curve):
        sure += ", some could not be scored"
    falls = ", worse at the end than half-way" if verdict.falls else ""
    if not verdict.learned:
        return f"  {curve.label}: not learned{falls}; {sure}; {spent}"
    low, high = (curve.cells[place].model.checkpoint for place in (verdict.low, verdict.high))
    return (
        f"  {curve.label}: learned, its end is reached between {low} and {high}{falls}; {sure}; "
        f"{spent}"
    )
