"""The scores of a study's models: which are to be computed, and computing them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from amuro_jax import logs, processes
from amuro_jax.evals.run import Evaluator, ScoreJob
from amuro_jax.opened import Checkpoint
from amuro_jax.records import Cell
from amuro_jax.results.parts import Parts
from amuro_jax.results.store import Store
from amuro_jax.study import grid, partial
from amuro_jax.study.plan import Job, JobKind
from amuro_jax.study.work import Work


@dataclasses.dataclass
class Model:
    """A model whose turn it is.

    Attributes:
        opened: its checkpoint.
        identity: of the model.
        params: gives its parameters; None where only keys are asked for.
    """

    opened: Checkpoint
    identity: str
    params: Callable[[], dict] | None


class Scores:
    """Scores the cells of models that are not done: neither in the study's store nor in one of
    `config.reuse`, from which they are copied.

    Args:
        wanted: the cells of which rows are wanted, by identity, each with the part of its rows up
            to which it is scored (`adaptive.part_sizes`); None: all rows of all cells.
    """

    def __init__(
        self,
        work: Work,
        evaluator: Evaluator | None,
        wanted: Mapping[tuple, int] | None = None,
    ):
        self._work, self._config, self._evaluator = work, work.config, evaluator
        self._wanted, self._parts = wanted, Parts(work.storage) if work.writes else None
        self._reused = [Store.open(url) for url in work.config.reuse]

    def score_all(self, model: Model, job: Job) -> None:
        """Scores the cells of a job that are to do."""
        todo = self.todo(model, job)
        self._work.bar.update(len(job.cells) - len(todo))
        for cell in todo:
            score = self.job_of(model, cell)
            part = None if self._wanted is None else self._wanted[cell.identity]
            self._work.guarded(score.label(), self._score, score, model, part, key=score.key())
            self._work.bar.update(1)

    def todo(self, model: Model, job: Job) -> list[Cell]:
        """The unfinished cells of a job of which rows are wanted."""
        return [cell for cell in self.unfinished(model, job) if self._wants(cell)]

    def has_work(self, job: Job) -> bool:
        """Whether rows of a job's cells are wanted."""
        return job.kind == JobKind.SCORE and any(map(self._wants, job.cells))

    def _wants(self, cell):
        return self._wanted is None or cell.identity in self._wanted

    def unfinished(self, model: Model, job: Job) -> list[Cell]:
        """The cells of a job that are not done."""
        return [cell for cell in job.cells if not self._is_done(self.job_of(model, cell))]

    def keys(self, opened: Checkpoint, job: Job, identity: str) -> dict[str, str]:
        """Label → key of a model's cells."""
        model = Model(opened, identity, None)
        return {cell.label(): self.job_of(model, cell).key() for cell in job.cells}

    def job_of(self, model: Model, cell: Cell) -> ScoreJob:
        """What computes a cell."""
        return ScoreJob(
            model.opened,
            model.identity,
            cell.model,
            grid.task_of(self._config, cell.task),
            cell.format,
            cell.shots,
            self._config.scoring,
            self._config.data_root,
        )

    def _is_done(self, job):
        return processes.decide(self._work.writes and self._is_stored(job))

    def _is_stored(self, job):
        key, store = job.key(), self._work.store
        problem = store.problem(key)
        if problem:
            self._work.report(f"{job.label()} is damaged and computed again: {problem}")
        if problem == "":
            return True
        for other in self._reused:
            if other.is_done(key):
                rows = other.rows(key).to_dict("records")
                store.commit(other.read(key), rows, claim=self._work.claim)
                return True
        return False

    def _score(self, job, model, part):
        if part is None:
            self._work.start(job.key(), job.label())
        else:  # a part is no score that was started and has to be finished
            self._work.claim.check()
        done = partial.score(self._evaluator, self._parts, job, model.params, part, logs.note)
        if done is None:
            return
        record, rows = done
        self._work.finish(record, job.label(), rows)
        if self._work.writes:
            self._parts.remove(job.key())


def lazily(make: Callable) -> Callable:
    """A function that gives the value that `make` makes at the first call."""
    return functools.cache(make)
