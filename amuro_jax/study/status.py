"""How far a study is: from its plan, its cells and its log; nothing is computed."""

import dataclasses
import statistics
import time

from amuro_jax.errors import AmuroError
from amuro_jax.records import ModelRef
from amuro_jax.results.parts import Parts
from amuro_jax.results.plan import Plan, read_plan
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study import queue
from amuro_jax.study.grid import BEST_RATE
from amuro_jax.variants import seeds_of

NAMED = 10  # failures that are shown; cells.log has all


@dataclasses.dataclass(frozen=True)
class Running:
    """A job that was started and has not ended.

    Attributes:
        label: what it is.
        host, pid: of its process.
        since: seconds since the epoch.
        alive: whether its process still holds a checkpoint of the study.
    """

    label: str
    host: str
    pid: int
    since: float
    alive: bool


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        name: of the study.
        scores, scores_done: those it wants, and those that are finished.
        begun: of the others, those of which some rows are scored (an adaptive study).
        rows, rows_done: of the begun ones.
        models, models_done: fine-tunings.
        running: jobs in work.
        failed: label → reason, of what failed and is not finished.
        damaged: key → reason.
        seconds_left: to finish all scores, from the mean times of what is finished, compilation
            not counted; None while nothing is, 0 where nothing is left.
    """

    name: str
    scores: int
    scores_done: int
    begun: int
    rows: int
    rows_done: int
    models: int
    models_done: int
    running: tuple[Running, ...]
    failed: dict[str, str]
    damaged: dict[str, str]
    seconds_left: float | None

    def lines(self, now: float | None = None) -> list[str]:
        """The status in words."""
        now = time.time() if now is None else now
        text = [
            f"{self.name}: {self.scores_done:,} of {self.scores:,} scores and "
            f"{self.models_done:,} of {self.models:,} fine-tunings are done"
        ]
        if self.begun:
            rows = f"{self.rows_done:,} of {self.rows:,} rows"
            text.append(f"  begun: {self.begun:,} more scores, with {rows} (--adaptive)")
        for job in self.running:
            state = "running" if job.alive else "interrupted (no sign of its process)"
            text.append(
                f"  {state}: {job.label}, for {_duration(now - job.since)}, "
                f"process {job.pid} on {job.host}"
            )
        text += [f"  failed: {name}: {why}" for name, why in list(self.failed.items())[:NAMED]]
        if len(self.failed) > NAMED:
            text.append(f"  and {len(self.failed) - NAMED:,} more failed: cells.log names them")
        text += [f"  damaged: cell {key}: {why}" for key, why in self.damaged.items()]
        if self.scores_done < self.scores:
            left, what = self.seconds_left, " for all rows of all scores" if self.begun else ""
            text.append(
                "time left: not known before something of each kind is finished"
                if left is None
                else f"time left{what}: about {_duration(left)} of work for one process, from the "
                "mean times of what is finished"
            )
        return text


def read_status(workdir) -> Status:
    """The status of a study's folder.

    Raises:
        AmuroError: no study there.
    """
    storage = Storage.open(workdir)
    plan, store = read_plan(storage), Store(storage)
    if plan is None:
        raise AmuroError(
            "no study here", where=storage.url, hint="the folder that `amuro study` works in"
        )
    log, done = store.read_log(), store.keys()
    scores_done = [cell for cell in plan.cells if cell.key in done]
    wanted = {cell.key for cell in plan.cells} - set(done)
    begun = [of for key, of in Parts(storage).counts().items() if key in wanted]
    tuned = {cell.model for cell in plan.cells if cell.model.tuned_on}
    models = {one for one in tuned if seeds_of(one.variant) is None}  # trained, each by itself
    trainings = {place_of(record.model) for record in store.records("train")}
    # The training with the best rate goes by another name; its scores have keys once it is chosen.
    chosen = {cell.model for cell in plan.cells if cell.key and is_best_rate(cell.model.variant)}
    models_done = [one for one in models if place_of(one) in trainings or one in chosen]
    last = _last_events(log)
    return Status(
        name=plan.name,
        scores=len(plan.cells),
        scores_done=len(scores_done),
        begun=len(begun),
        rows=sum(total for _, total in begun),
        rows_done=sum(count for count, _ in begun),
        models=len(models),
        models_done=len(models_done),
        running=_running(last, queue.holders(storage).values()),
        failed=_failed(last, done, plan, storage),
        damaged=dict(store.damaged),
        seconds_left=_seconds_left(
            log,
            len(plan.cells) - len(scores_done) - sum(count / total for count, total in begun),
            len(models) - len(models_done),
        ),
    )


def is_best_rate(variant: str) -> bool:
    """Whether a model is the best of several trainings."""
    return variant.endswith(BEST_RATE)


def comes_from_several(variant: str) -> bool:
    """Whether several trainings stand behind a model: it is their average, or the best of them."""
    return seeds_of(variant) is not None or is_best_rate(variant)


def place_of(model: ModelRef) -> tuple:
    """What distinguishes the models of one study."""
    return model.checkpoint, model.tuned_on, model.variant, model.seed


def _last_events(log):
    """The last line of each job."""
    return {
        line["key"] or line["cell"]: line
        for line in log
        if line["event"] in ("started", "finished", "failed")
    }


def _running(last, holders):
    alive = {(holder["pid"], holder["host"]) for holder in holders}
    return tuple(
        Running(
            line["cell"],
            line["host"],
            line["pid"],
            line["time"],
            (line["pid"], line["host"]) in alive,
        )
        for line in last.values()
        if line["event"] == "started"
    )


def _failed(last, done, plan: Plan, storage):
    """What failed last, of the cells and models that the plan still wants."""
    failed = {}
    for line in last.values():
        if line["event"] == "failed" and line["key"] not in done:
            reason = (line.get("error") or "no reason was recorded").splitlines()[0]
            failed[line["cell"]] = reason
    return failed


def _seconds_left(log, scores, models):
    """Mean seconds of the finished jobs of each kind, times what is left of it: a begun score is
    the share of its rows that is missing.
    """
    seconds = {"score": [], "train": []}
    for line in log:
        if line["event"] == "finished":
            kind = "train" if line["cell"].startswith("train ") else "score"
            compiled = line.get("compiles", {}).get("seconds", 0.0)
            seconds[kind].append(max(0.0, line["seconds"] - compiled))
    left = {"score": scores, "train": models}
    if any(left[kind] and not seconds[kind] for kind in left):
        return None
    return sum(left[kind] * statistics.fmean(seconds[kind]) for kind in left if left[kind])


def _duration(seconds):
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
