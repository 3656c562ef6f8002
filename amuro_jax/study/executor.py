"""Runs a study's jobs in this process; after a kill it resumes and computes nothing twice."""

import contextlib
import dataclasses
import uuid
from collections.abc import Mapping

import jax.numpy as jnp

from amuro_jax import checkpoint, compiles, files, peers, preemption, processes, sharding, variants
from amuro_jax.claims import Claim, ClaimLostError
from amuro_jax.config import StudyConfig, to_dict
from amuro_jax.convert.prefetch import Prefetcher
from amuro_jax.errors import AmuroError, ConfigError
from amuro_jax.evals.run import Evaluator
from amuro_jax.models.derived import average
from amuro_jax.opened import Checkpoint, read_checkpoint
from amuro_jax.results.plan import Plan, Progress, asked, read_plan, write_task_files
from amuro_jax.scoring.scorer import keep_programs_in
from amuro_jax.study import derived, grid, plan, preflight, queue
from amuro_jax.study.plan import Job, JobKind
from amuro_jax.study.queue import CheckpointQueue
from amuro_jax.study.scores import Model, Scores, lazily
from amuro_jax.study.together import Checkpoints
from amuro_jax.study.trainings import Trainings
from amuro_jax.study.work import Work
from amuro_jax.train.run import TrainJob

READY_SECONDS = 20.0  # to wait for one more checkpoint that could be trained in the same program


def run(
    config: StudyConfig,
    revisions,
    report=lambda line: None,
    only: set[str] | None = None,
    parts: Mapping[tuple, int] | None = None,
    evaluator: Evaluator | None = None,
) -> list[str]:
    """Runs every cell that is not done; returns a line for each that failed.

    Several processes may run the same study in one folder: each takes the checkpoints that nobody
    else works on, and all of them end when all are done. The processes of one program
    (`processes.join`) take each together.

    Args:
        report: gets lines about data that is missing, checkpoints with the same weights, and what
            was compiled or recomputed.
        only: names of the checkpoints (within the series) that this process takes; None: all.
        parts: the cells of which rows are wanted (see `Scores`); None: all rows of all cells.
        evaluator: one that other runs of this study use too; None: its own.

    Raises:
        ConfigError: a study that cannot be run as written, or another one that is at work in the
            folder.
        Preempted: SIGTERM came; the claim is released, a training's state saved.
    """
    grid.validate(config)
    train_mesh = sharding.whole_mesh(config.train_run.mesh, "config.train_run.mesh")
    evaluator = evaluator or Evaluator(config.score_run, "config.score_run.mesh")
    before = preflight.check(config, revisions)
    for line in before.lines():
        report(line)
    with compiles.watch() as watch:
        executor = LocalExecutor(config, revisions, watch, evaluator, train_mesh, report, parts)
        executor.said = set(before.duplicates)
        executor.start()
        names = {
            one.name: one.revision for one in revisions if only is None or one.revision in only
        }
        if not processes.is_writer():
            executor.take_all(Checkpoints(None, None))
            return executor.work.failures
        queue = CheckpointQueue(executor.work.storage, executor.plan.config_key, names, report)
        budget = int((config.disk_budget_gb or 0) * 1e9)
        with preemption.ends_the_block(), peers.released(queue.close):
            with Prefetcher(queue, budget=budget) as folders:
                # Or the prefetcher's thread would wait for other processes.
                with contextlib.closing(queue):
                    executor.take_all(Checkpoints(queue, folders))
        for progress in queue.elsewhere:
            for line in progress.failures:
                report(f"failed in another process: {line}")
        return executor.work.failures


@dataclasses.dataclass
class _Taken:
    """A checkpoint that this process works on: opened, or the fault for which it cannot be; `base`
    gives its parameters.
    """

    name: str
    opened: Checkpoint | None
    fault: AmuroError | None
    jobs: list[Job]
    claim: Claim
    base: object


class LocalExecutor:
    """One process that does a study's jobs, checkpoint by checkpoint.

    What checkpoints share (compiled scorers, prepared prompts, encoded training sets) is made once.
    A job that fails does not cost the others.

    Attributes:
        plan, jobs: what is asked for.
        work: what is in hand, and what failed.
        scores, trainings: what computes.
        said: checkpoints whose equal weights were said before.
    """

    def __init__(
        self, config: StudyConfig, revisions, watch, evaluator, train_mesh, report, parts=None
    ):
        self.config, self.report, self.evaluator = config, report, evaluator
        self.plan: Plan = plan.make_plan(config, revisions)
        self.jobs: list[Job] = plan.jobs_of(config, revisions)
        self.work = Work(config, watch, report)
        self.scores = Scores(self.work, evaluator, parts)
        self.trainings = Trainings(self.work, evaluator, train_mesh)
        self.said: set[str] = set()
        self._averaged_over_seeds = {
            name for job in self.jobs if variants.seeds_of(job.model.variant) for name in job.needs
        }
        self._run = uuid.uuid4().hex
        self._noted: Progress | None = None  # of the checkpoint that is worked on
        self._stack = self._checkpoints_at_once(len(revisions))
        self._weights: dict[str, str] = {}  # identity → the first checkpoint's name

    def _checkpoints_at_once(self, every: int) -> int:
        """How many are taken to be trained in one program. One under a disk budget, which may
        remove all folders but the newest, and where several processes take each together.
        """
        stack = self.config.train_run.stack
        if self.config.disk_budget_gb or not processes.alone():
            return 1
        return every if stack is None else stack

    def start(self) -> None:
        """Records what is asked for; compiled programs are kept in the folder, so that a killed
        study does not compile again.

        Raises:
            ConfigError: a study of another configuration is at work in the folder.
        """
        before = read_plan(self.work.storage)
        if before is not None and asked(before.config) != asked(self.config):
            if others := queue.holders(self.work.storage):
                raise ConfigError(
                    f"a study of another configuration is at work here, on {', '.join(others)}",
                    where=self.work.storage,
                    hint="wait for it, end it, or choose another config.workdir",
                )
        keep_programs_in(self.work.storage)
        self.work.begin(sum(map(_count, self.jobs)))
        if not self.work.writes:
            return
        values = to_dict(self.config)
        self.work.storage.write_json(f"configs/{files.content_key(values)}.json", values)
        write_task_files(self.work.storage, grid.task_files(self.config))
        self.plan.write(self.work.storage)

    def take_all(self, todo: Checkpoints) -> None:
        """Does all jobs of all checkpoints."""
        try:
            while self.take(todo):
                pass
        finally:
            self.work.end()

    def take(self, todo: Checkpoints) -> bool:
        """Does all jobs of the next checkpoint, or of several that are trained in one program;
        False where none is left.

        A checkpoint that is lost to another process is left to it.
        """
        group, ended = [], False
        while len(group) < self._stack and not ended:
            # No long wait with checkpoints in hand: who is waited for may wait for them.
            if group and not todo.is_ready(READY_SECONDS):
                break
            try:
                group += self._next(todo)
            except StopIteration:
                ended = True
        if self._stack > 1:
            self.trainings.train_groups(self._together(group))
        for one in group:
            self._take_turn(one)
            todo.release(one.name)
        return not ended

    def _next(self, todo) -> list[_Taken]:
        """The next checkpoint, claimed; none where another process was faster."""
        opened = fault = None
        try:
            opened = read_checkpoint(next(todo))
        except AmuroError as error:
            fault = error
        jobs, claim = [job for job in self.jobs if job.checkpoint == todo.name], todo.claim()
        base = self._lazy_params(opened)
        return [] if claim is None else [_Taken(todo.name, opened, fault, jobs, claim, base)]

    def _lazy_params(self, opened):
        return lazily(lambda: opened.load_params(self.evaluator.mesh, jnp.float32))

    def _take_turn(self, one: _Taken) -> None:
        self.work.claim = one.claim
        try:
            if one.opened is None:
                self._unopened(one.jobs, one.fault)
            else:
                self._checkpoint(one)
        except ClaimLostError as error:
            if not processes.alone():  # the others cannot know of it
                raise
            self.report(f"{one.jobs[0].model.checkpoint}: {error.what}")

    def _together(self, taken: list[_Taken]):
        """The trainings of some checkpoints that may be done in one program, for `train_groups`."""
        jobs = [job for one in taken for job in one.jobs]
        needed = {name for job in filter(self.scores.has_work, jobs) for name in job.needs}
        return [
            (self.trainings.job_of(one.opened, job), one.claim, one.base)
            for one in taken
            if one.opened is not None
            for job in one.jobs
            if job.name in needed and not job.averaged_with
        ]

    def _unopened(self, jobs, fault):
        """All jobs of a checkpoint fail together."""
        name = jobs[0].model.checkpoint
        self.work.fail(name, fault)
        self.work.bar.update(sum(map(_count, jobs)))
        failures = (self.work.failures[-1],)
        self._write(Progress(name, "", {}, self._run, finished=True, failures=failures))

    def _checkpoint(self, one: _Taken) -> None:
        """All jobs of one checkpoint: the base model's scores, then each fine-tuned model."""
        opened, jobs, base, failures = one.opened, one.jobs, one.base, len(self.work.failures)
        self._noted = self._progress(opened, jobs)
        training = {job.name: job for job in jobs if job.kind == JobKind.TRAIN}
        for job in jobs:
            if job.kind == JobKind.PROBE:
                self.work.guarded(
                    f"probe {job.model.label()}", self.trainings.probe, opened, job, base
                )
        for job in filter(self.scores.has_work, jobs):
            self.work.guarded(
                f"{job.model.label()}: model", self._model, opened, base, job, training
            )
        failed = tuple(self.work.failures[failures:])
        self._write(dataclasses.replace(self._noted, finished=True, failures=failed))

    def _model(self, opened, base, job: Job, training):
        start = derived.start_of(opened, job)
        if start is not opened:
            opened, base = start, self._lazy_params(start)
        if not job.needs:
            params = lazily(lambda: derived.params_of(base(), job))
            self.scores.score_all(Model(opened, derived.identity_of(opened, job), params), job)
            return
        if variants.seeds_of(job.model.variant):
            self._average_of_seeds(opened, base, job, training)
            return
        train_job = self._chosen(opened, base, job, training)
        model = Model(opened, train_job.key(), lazily(lambda: self.trainings.load(train_job)))
        stored = self.trainings.is_stored(train_job)
        if self.scores.todo(model, job) and not stored:
            params = self.trainings.train(train_job, base())
            model.params = lazily(lambda: params)
        self.work.bar.update(1)
        self.scores.score_all(model, job)
        awaited = job.needs[0] in self._averaged_over_seeds
        if not self.config.keep_models and not self.scores.unfinished(model, job) and not awaited:
            self.work.remove(train_job.out)

    def _average_of_seeds(self, opened, base, job: Job, training):
        """Scores the average of models that were trained before; one that is gone is trained."""
        trainings = [self.trainings.job_of(opened, training[name]) for name in job.needs]

        def tuned(one):
            stored = self.trainings.is_stored(one)
            return self.trainings.load(one) if stored else self.trainings.train(one, base())

        params = lazily(lambda: average(map(tuned, trainings), len(trainings)))
        model = Model(opened, derived.identity_of(opened, job, trainings), params)
        self.scores.score_all(model, job)
        if not self.config.keep_models and not self.scores.unfinished(model, job):
            for one in trainings:
                self.work.remove(one.out)

    def _chosen(self, opened, base, job: Job, training) -> TrainJob:
        """The training that a model comes from: the only one, or of those with several rates the
        best one.
        """
        candidates = [self.trainings.job_of(opened, training[name]) for name in job.needs]
        if len(candidates) == 1:
            return candidates[0]
        chosen = self.trainings.choose(candidates, base)
        self._note(opened, job, chosen.key())
        return chosen

    def _progress(self, opened: Checkpoint, jobs: list[Job]) -> Progress:
        """Notes the keys of one checkpoint's cells, so that the report knows which cells are this
        study's, and says where its weights were met before.
        """
        name, keys, trainings = jobs[0].model.checkpoint, {}, {}
        for job in jobs:
            try:
                start = derived.start_of(opened, job)
            except AmuroError:
                continue  # `_model` says so
            if job.kind == JobKind.PROBE:
                continue  # no cell of a plan
            if job.kind == JobKind.TRAIN:
                trainings[job.name] = self.trainings.job_of(start, job)
                continue
            needed = [trainings[need] for need in job.needs if need in trainings]
            if len(needed) < len(job.needs):
                continue  # of a checkpoint that could not be opened
            if variants.seeds_of(job.model.variant) or len(needed) < 2:
                keys |= self.scores.keys(start, job, derived.identity_of(start, job, needed))
            # Else the identity is known when a rate is chosen.
        weights = checkpoint.read_identity(opened.folder).parameters
        first = self._weights.setdefault(weights, name)
        if first != name and name not in self.said:
            self.report(f"{name} has the same weights as {first}: it counts as one checkpoint")
        progress = Progress(name, weights, keys, self._run)
        self._write(progress)
        return progress

    def _note(self, opened, job: Job, identity: str) -> None:
        """Notes the keys of a model whose identity was not known before."""
        keys = self._noted.keys | self.scores.keys(opened, job, identity)
        if keys != self._noted.keys:
            self._noted = dataclasses.replace(self._noted, keys=keys)
            self._write(self._noted)

    def _write(self, progress: Progress) -> None:
        self.work.claim.check()
        if self.work.writes:
            progress.write(self.work.storage, self.plan.config_key)


def _count(job: Job) -> int:
    """How far a job moves the bar: its cells, or one training."""
    return len(job.cells) or 1
