"""A score whose rows are scored part by part: each row once, whoever asks and however often it is
killed.
"""

import time
from collections.abc import Callable

from amuro_jax import processes
from amuro_jax.curves import adaptive
from amuro_jax.evals.run import Evaluator, ScoreJob
from amuro_jax.records import ScoreRecord
from amuro_jax.results.parts import Parts, Scored, drawn


def score(
    evaluator: Evaluator,
    parts: Parts | None,
    job: ScoreJob,
    params: Callable[[], dict],
    part: int | None = None,
    said: Callable[[str], None] = lambda line: None,
) -> tuple[ScoreRecord, list[dict]] | None:
    """The finished score with its rows; None where rows are left for later.

    Args:
        parts: of the work folder; None in a process that writes nothing.
        params: gives the model's parameters.
        part: how many rows are wanted: those of this one of `adaptive.part_sizes`; None: all.
        said: gets a line for a part that was scored.
    """
    before = (parts and parts.read(job.key())) or Scored({}, 0, 0, 0.0)
    first = int(processes.share(str(before.count)))
    if not first and part is None:
        return evaluator.score(job, params())
    total = evaluator.size(job)
    sizes = adaptive.part_sizes(total)
    end = total if part is None else sizes[min(part, len(sizes) - 1)]
    rows, seconds = dict(before.rows), before.seconds
    if end > first:
        started, places = time.perf_counter(), tuple(sorted(drawn(total)[first:end]))
        new = evaluator.score_rows(job, params(), places)
        seconds += (spent := time.perf_counter() - started)
        rows |= dict(zip(places, new, strict=True))
        if end < total:
            parts.add(job.key(), first, total, new, spent)
            said(f"{job.label()}: {end} of {total} rows, {spent:.1f} s")
    if max(first, end) < total:
        return None
    ordered = [rows[place] for place in sorted(rows)]
    return evaluator.join(job, ordered, seconds), ordered
