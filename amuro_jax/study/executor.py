"""Runs a study's jobs in this process; after a kill it resumes and computes nothing twice."""

import contextlib
import dataclasses
import functools
import traceback
import uuid

import jax
import jax.numpy as jnp

from amuro_jax import (
    checkpoint,
    compiles,
    files,
    logs,
    peers,
    preemption,
    processes,
    sharding,
    variants,
)
from amuro_jax.claims import Claim, ClaimLostError
from amuro_jax.config import StudyConfig, to_dict
from amuro_jax.convert import adapters
from amuro_jax.convert.prefetch import Prefetcher
from amuro_jax.errors import AmuroError, ConfigError
from amuro_jax.evals.run import Evaluator, ScoreJob
from amuro_jax.models.derived import average
from amuro_jax.models.parameters import axes_of
from amuro_jax.opened import Checkpoint, read_checkpoint
from amuro_jax.records import Cell
from amuro_jax.results.plan import Plan, Progress, asked, read_plan, write_task_files
from amuro_jax.results.store import Store
from amuro_jax.scoring.scorer import keep_programs
from amuro_jax.storage import Storage
from amuro_jax.study import derived, grid, groups, plan, preflight, queue
from amuro_jax.study.plan import Job, JobKind
from amuro_jax.study.queue import CheckpointQueue
from amuro_jax.study.together import Checkpoints, NoStore
from amuro_jax.train.run import TrainingData, TrainJob, group_folder, train, train_stacked

READY_SECONDS = 20.0  # to wait for one more checkpoint that could be trained in the same program


def run(
    config: StudyConfig, revisions, report=lambda line: None, only: set[str] | None = None
) -> list[str]:
    """Runs every cell that is not done; returns a line for each that failed.

    Several processes may run the same study in one folder: each takes the checkpoints that nobody
    else works on, and all of them end when all are done. The processes of one program
    (`processes.join`) take each together.

    Args:
        report: gets lines about data that is missing, checkpoints with the same weights, and what
            was compiled or recomputed.
        only: names of the checkpoints (within the series) that this process takes; None: all.

    Raises:
        ConfigError: a study that cannot be run as written, or another one that is at work in the
            folder.
        Preempted: SIGTERM came; the claim is released, a training's state saved.
    """
    grid.validate(config)
    train_mesh = sharding.whole_mesh(config.train_run.mesh, "config.train_run.mesh")
    evaluator = Evaluator(config.score_run, "config.score_run.mesh")
    before = preflight.check(config, revisions)
    for line in before.lines():
        report(line)
    with compiles.watch() as watch:
        executor = LocalExecutor(config, revisions, watch, evaluator, train_mesh, report)
        executor.said = set(before.duplicates)
        executor.start()
        names = {
            one.name: one.revision for one in revisions if only is None or one.revision in only
        }
        if not processes.is_writer():
            executor.take_all(Checkpoints(None, None))
            return executor.failures
        queue = CheckpointQueue(executor.storage, executor.plan.config_key, names, report)
        budget = int((config.disk_budget_gb or 0) * 1e9)
        with preemption.ends_the_block(), peers.released(queue.close):
            with Prefetcher(queue, budget=budget) as folders:
                # Or the prefetcher's thread would wait for other processes.
                with contextlib.closing(queue):
                    executor.take_all(Checkpoints(queue, folders))
        for progress in queue.elsewhere:
            for line in progress.failures:
                report(f"failed in another process: {line}")
        return executor.failures


@dataclasses.dataclass
class _Model:
    """A model whose turn it is: its checkpoint, identity, and how its parameters are got."""

    opened: Checkpoint
    identity: str
    params: object


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
    """

    def __init__(self, config: StudyConfig, revisions, watch, evaluator, train_mesh, report):
        self.config, self.report = config, report
        self.storage = Storage.open(config.workdir)
        self.writes = processes.is_writer()
        self.store = Store(self.storage) if self.writes else NoStore()
        self.reused = [Store.open(url) for url in config.reuse]
        self.plan: Plan = plan.make_plan(config, revisions)
        self.jobs: list[Job] = plan.jobs_of(config, revisions)
        self._averaged_over_seeds = {
            name for job in self.jobs if variants.seeds_of(job.model.variant) for name in job.needs
        }
        self.evaluator, self.train_mesh, self.data = evaluator, train_mesh, TrainingData()
        self.failures: list[str] = []
        self._claim: Claim | None = None  # of the checkpoint that is worked on
        self.said: set[str] = set()  # checkpoints whose equal weights were said before
        self._watch, self._run = watch, uuid.uuid4().hex
        self._noted: Progress | None = None  # of that checkpoint
        self._given_up: dict[str, AmuroError] = {}  # key → what ended a training in a group
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
        before = read_plan(self.storage)
        if before is not None and asked(before.config) != asked(self.config):
            if others := queue.holders(self.storage):
                raise ConfigError(
                    f"a study of another configuration is at work here, on {', '.join(others)}",
                    where=self.storage,
                    hint="wait for it, end it, or choose another config.workdir",
                )
        # A store that jax does not reach: each process compiles for itself.
        with contextlib.suppress(AmuroError):
            keep_programs(self.storage.child("programs").epath())
        total = sum(len(job.cells) or 1 for job in self.jobs)
        self.bar = logs.progress_bar(total, self.config.name, unit="cell", shown=self.writes)
        if not self.writes:
            return
        values = to_dict(self.config)
        self.storage.write_json(f"configs/{files.content_key(values)}.json", values)
        write_task_files(self.storage, grid.task_files(self.config))
        self.plan.write(self.storage)

    def end(self) -> None:
        """Says and logs what was compiled; a run with nothing left leaves the log as it was."""
        self.bar.close()
        if self._watch.total != compiles.Compiles():
            record = self._watch.total.record()
            self.store.log("compiled", "", self.config.name, **record)
        self.report(str(self._watch.total))

    def take_all(self, todo: Checkpoints) -> None:
        """Does all jobs of all checkpoints."""
        try:
            while self.take(todo):
                pass
        finally:
            self.end()

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
            self._train_groups(group)
        for one in group:
            self._work(one)
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
        return _lazily(lambda: opened.load_params(self.evaluator.mesh, jnp.float32))

    def _work(self, one: _Taken) -> None:
        self._claim = one.claim
        try:
            if one.opened is None:
                self._unopened(one.jobs, one.fault)
            else:
                self._checkpoint(one)
        except ClaimLostError as error:
            if not processes.alone():  # the others cannot know of it
                raise
            self.report(f"{one.jobs[0].model.checkpoint}: {error.what}")

    def _train_groups(self, taken: list[_Taken]) -> None:
        """Trains what the checkpoints have in common, a group in one program; `_model` finds the
        models then. What is in no group is trained in its turn.
        """
        jobs, claims, bases = [], {}, {}
        for one in (one for one in taken if one.opened is not None):
            self._claim = one.claim
            for job in one.jobs:
                if job.kind != JobKind.TRAIN or job.averaged_with:
                    continue
                train_job = self._train_job(one.opened, job)
                if not self.store.is_done(train_job.key()):
                    jobs.append(train_job)
                    claims[train_job.key()], bases[train_job.key()] = one.claim, one.base
        shards, most = groups.shards_of(self.train_mesh), self.config.train_run.stack
        for alike in groups.alike(jobs):
            limit = most or groups.most_stacked(alike[0], self.data, self.train_mesh)
            for group in groups.groups(alike, limit, shards):
                label = f"train {', '.join(job.model.label() for job in group)}"
                self._guarded(label, self._train_group, group, claims, bases)

    def _train_group(self, group, claims, bases):
        for job in group:
            claims[job.key()].check()
            self.store.log("started", job.key(), f"train {job.model.label()}")
        before = self._watch.total
        params = [bases[job.key()]() for job in group]
        done = train_stacked(group, params, self.data, f"  {group[0].recipe.task}")
        for job in group:
            result = done[job.key()]
            if isinstance(result, AmuroError):
                self._given_up[job.key()] = result
                continue
            self.store.commit(result.record, claim=claims[job.key()])
            self._finished(result.record, f"train {job.model.label()}", before)
            before = self._watch.total  # what was compiled is told of the first one
        self._remove(f"{group_folder(group)}/state")

    def _unopened(self, jobs, fault):
        """All jobs of a checkpoint fail together."""
        name = jobs[0].model.checkpoint
        self._fail(name, fault)
        self.bar.update(sum(len(job.cells) or 1 for job in jobs))
        failures = (self.failures[-1],)
        self._write(Progress(name, "", {}, self._run, finished=True, failures=failures))

    def _checkpoint(self, one: _Taken) -> None:
        """All jobs of one checkpoint: the base model's scores, then each fine-tuned model."""
        opened, jobs, base, failures = one.opened, one.jobs, one.base, len(self.failures)
        self._noted = self._progress(opened, jobs)
        training = {job.name: job for job in jobs if job.kind == JobKind.TRAIN}
        for job in (job for job in jobs if job.kind == JobKind.SCORE):
            self._guarded(f"{job.model.label()}: model", self._model, opened, base, job, training)
        failed = tuple(self.failures[failures:])
        self._write(dataclasses.replace(self._noted, finished=True, failures=failed))

    def _model(self, opened, base, job: Job, training):
        start = derived.start_of(opened, job)
        if start is not opened:
            opened, base = start, self._lazy_params(start)
        if not job.needs:
            params = _lazily(lambda: derived.params_of(base(), job))
            self._score_all(_Model(opened, derived.identity_of(opened, job), params), job)
            return
        if variants.seeds_of(job.model.variant):
            self._average_of_seeds(opened, base, job, training)
            return
        train_job = self._chosen(opened, base, job, training)
        key, folder = train_job.key(), train_job.out
        model = _Model(opened, key, _lazily(lambda: self._tuned(folder)))
        stored = processes.decide(self.store.is_done(key) and checkpoint.is_model(folder))
        if self._todo(model, job) and not stored:
            params = self._train(train_job, base())
            model.params = _lazily(lambda: params)
        self.bar.update(1)
        self._score_all(model, job)
        awaited = job.needs[0] in self._averaged_over_seeds
        if not self.config.keep_models and not self._todo(model, job) and not awaited:
            self._remove(folder)

    def _average_of_seeds(self, opened, base, job: Job, training):
        """Scores the average of models that were trained before; one that is gone is trained."""
        trainings = [self._train_job(opened, training[name]) for name in job.needs]

        def tuned(one):
            stored = self.store.is_done(one.key()) and checkpoint.is_model(one.out)
            return self._tuned(one.out) if processes.decide(stored) else self._train(one, base())

        params = _lazily(lambda: average(map(tuned, trainings), len(trainings)))
        model = _Model(opened, derived.identity_of(opened, job, trainings), params)
        self._score_all(model, job)
        if not self.config.keep_models and not self._todo(model, job):
            for one in trainings:
                self._remove(one.out)

    def _remove(self, folder):
        """Deletes a folder that no process reads any more."""
        processes.meet("removal of a folder")
        if self.writes:
            checkpoint.remove(folder)

    def _chosen(self, opened, base, job: Job, training) -> TrainJob:
        """The training that a model comes from: the only one, or of those with several rates the
        one with the lowest loss on the held-out rows. One that fails is left out by name.

        Raises:
            AmuroError: every one failed.
        """
        candidates = [self._train_job(opened, training[name]) for name in job.needs]
        if len(candidates) == 1:
            return candidates[0]
        for one in candidates:
            if not processes.decide(self.store.is_done(one.key())):
                label = f"train {one.model.label()}"
                self._guarded(label, self._train, one, base(), key=one.key())
        self.bar.update(len(candidates) - 1)  # `_model` counts the one that is chosen
        losses = self._held_out_losses(candidates)
        best = processes.share(min(losses, key=losses.get) if losses else "")
        if not best:
            raise AmuroError("no rate is left to choose from", where=job.model.label())
        for one in candidates:
            if one.key() != best and not self.config.keep_models:
                self._remove(one.out)
        chosen = next(one for one in candidates if one.key() == best)
        self._note(opened, job, best)
        return chosen

    def _held_out_losses(self, trainings) -> dict[str, float]:
        """Key → loss on the held-out rows, of the trainings that are finished."""
        keys = [one.key() for one in trainings]
        return {
            key: self.store.read(key).metrics["held_out_loss"]
            for key in keys
            if self.store.is_done(key)
        }

    def _train_job(self, opened, job: Job) -> TrainJob:
        train_job = TrainJob(
            opened, job.recipe, job.model, "", "", self.config.data_root, self.config.train_run
        )
        key = train_job.key()
        return dataclasses.replace(
            train_job,
            workdir=str(self.storage.child("runs", key)),
            out=str(self.storage.child("models", key)),
            references=str(self.storage.child("references")),
        )

    def _tuned(self, folder):
        return adapters.load_params(folder, mesh=self.evaluator.mesh)

    def _train(self, job: TrainJob, params):
        key, label = job.key(), f"train {job.model.label()}"
        self._claim.check()
        if key in self._given_up:  # in a group
            raise self._given_up[key]
        self.store.log("started", key, label)
        before = self._watch.total
        done = train(
            job,
            params,
            self.data,
            f"  {job.model.label()}",
            self.evaluator.pair_logprobs,
        )
        self.store.commit(done.record, claim=self._claim)
        self._remove(str(self.storage.child("runs", key, "state")))
        self._finished(done.record, label, before)
        return _moved(done.params, job.checkpoint.config, self.evaluator.mesh)

    def _score_all(self, model: _Model, job: Job) -> None:
        todo = self._todo(model, job)
        self.bar.update(len(job.cells) - len(todo))
        for cell in todo:
            score = self._score_job(model, cell)
            self._guarded(score.label(), self._score, score, model, key=score.key())
            self.bar.update(1)

    def _todo(self, model: _Model, job: Job) -> list[Cell]:
        return [cell for cell in job.cells if not self._is_done(self._score_job(model, cell))]

    def _is_done(self, job: ScoreJob) -> bool:
        """Whether a score is in this store, or in a workdir to reuse (from which it is copied)."""
        return processes.decide(self.writes and self._is_stored(job))

    def _is_stored(self, job):
        key = job.key()
        problem = self.store.problem(key)
        if problem:
            self.report(f"{job.label()} is damaged and computed again: {problem}")
        if problem == "":
            return True
        for other in self.reused:
            if other.is_done(key):
                rows = other.rows(key).to_dict("records")
                self.store.commit(other.read(key), rows, claim=self._claim)
                return True
        return False

    def _score_job(self, model: _Model, cell: Cell) -> ScoreJob:
        return ScoreJob(
            model.opened,
            model.identity,
            cell.model,
            grid.task_of(self.config, cell.task),
            cell.format,
            cell.shots,
            self.config.scoring,
            self.config.data_root,
        )

    def _score(self, job: ScoreJob, model: _Model) -> None:
        self._claim.check()
        key, label = job.key(), job.label()
        self.store.log("started", key, label)
        self.bar.set_postfix_str(label)
        before = self._watch.total
        record, rows = self.evaluator.score(job, model.params())
        self.store.commit(record, rows, claim=self._claim)
        self._finished(record, label, before)

    def _finished(self, record, label, before):
        spent = (self._watch.total - before).record()
        self.store.log("finished", record.key, label, seconds=record.seconds, compiles=spent)
        if self.writes:
            logs.note(f"{label}: {record.seconds:.1f} s")

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
            if job.kind == JobKind.TRAIN:
                trainings[job.name] = self._train_job(start, job)
                continue
            needed = [trainings[need] for need in job.needs if need in trainings]
            if len(needed) < len(job.needs):
                continue  # of a checkpoint that could not be opened
            if variants.seeds_of(job.model.variant) or len(needed) < 2:
                keys |= self._keys(start, job, derived.identity_of(start, job, needed))
            # Else the identity is known when a rate is chosen.
        weights = checkpoint.read_identity(opened.folder).parameters
        first = self._weights.setdefault(weights, name)
        if first != name and name not in self.said:
            self.report(f"{name} has the same weights as {first}: it counts as one checkpoint")
        progress = Progress(name, weights, keys, self._run)
        self._write(progress)
        return progress

    def _keys(self, opened, job: Job, identity: str) -> dict[str, str]:
        """Label → key of a model's cells."""
        model = _Model(opened, identity, None)
        return {cell.label(): self._score_job(model, cell).key() for cell in job.cells}

    def _note(self, opened, job: Job, identity: str) -> None:
        """Notes the keys of a model whose identity was not known before."""
        keys = self._noted.keys | self._keys(opened, job, identity)
        if keys != self._noted.keys:
            self._noted = dataclasses.replace(self._noted, keys=keys)
            self._write(self._noted)

    def _write(self, progress: Progress) -> None:
        self._claim.check()
        if self.writes:
            progress.write(self.storage, self.plan.config_key)

    def _guarded(self, label, function, *arguments, key=""):
        """One fault must not cost the others; a lost claim ends the work on this checkpoint.

        A fault of some processes and not of others ends the run.
        """
        fault = trace = None
        try:
            function(*arguments)
        except AmuroError as error:
            fault = error
        except Exception as error:
            fault, trace = error, traceback.format_exc()
        peers.settle(label, fault and f"{type(fault).__name__}: {fault}")
        if fault is not None:
            self._claim.check()
            self._fail(label, fault, trace, key)

    def _fail(self, label, error, trace=None, key=""):
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        kind = f"{type(error).__name__}: " if trace else ""
        self.failures.append(f"{label}: {kind}{first}")
        self.store.log("failed", key, label, error=str(error), trace=trace)


def _moved(params, config, mesh):
    """Parameters laid out for a mesh; those that lie so already are not copied."""
    if mesh is None:
        return params
    return jax.device_put(params, sharding.shardings(axes_of(params, config), params, mesh))


def _lazily(make):
    """A function that gives the value that `make` makes at the first call."""
    return functools.cache(make)
