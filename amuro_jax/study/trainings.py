"""The trainings of a study: one by one, several in one program, and of several rates the best."""

import contextlib
import dataclasses

import jax

from amuro_jax import checkpoint, processes, sharding
from amuro_jax.claims import ClaimLostError
from amuro_jax.convert import adapters
from amuro_jax.errors import AmuroError
from amuro_jax.evals.run import Evaluator
from amuro_jax.models.parameters import axes_of
from amuro_jax.opened import Checkpoint
from amuro_jax.study import groups
from amuro_jax.study.plan import Job
from amuro_jax.study.work import Work
from amuro_jax.train.probe import probe, probe_key
from amuro_jax.train.run import TrainingData, TrainJob, group_folder, train, train_stacked


class Trainings:
    """Trains the models of a study that are not done. Encoded training sets are made once."""

    def __init__(self, work: Work, evaluator: Evaluator, mesh):
        """`mesh` is what trains; the evaluator's is where parameters are wanted."""
        self._work, self._config, self._evaluator = work, work.config, evaluator
        self._mesh, self._data = mesh, TrainingData()
        self._given_up: dict[str, AmuroError] = {}  # key → what ended a training in a group

    def job_of(self, opened: Checkpoint, job: Job) -> TrainJob:
        """What trains a job's model, in the study's folder."""
        config, storage = self._config, self._work.storage
        train_job = TrainJob(
            opened, job.recipe, job.model, "", "", config.data_root, config.train_run
        )
        key = train_job.key()
        return dataclasses.replace(
            train_job,
            workdir=str(storage.child("runs", key)),
            out=str(storage.child("models", key)),
            references=str(storage.child("references")),
        )

    def is_stored(self, job: TrainJob) -> bool:
        """Whether a training is finished and its model is there."""
        done = self._work.store.is_done(job.key()) and checkpoint.is_model(job.out)
        return processes.decide(done)

    def load(self, job: TrainJob) -> dict:
        """Parameters of a model that is there."""
        return adapters.load_params(job.out, mesh=self._evaluator.mesh)

    def train(self, job: TrainJob, params: dict) -> dict:
        """Trains a model, on the evaluator's mesh in the end.

        Raises:
            AmuroError: it cannot be trained, or was given up in a group.
        """
        key, label = job.key(), f"train {job.model.label()}"
        self._work.claim.check()
        if key in self._given_up:
            raise self._given_up[key]
        self._work.start(key, label)
        bar = f"  {job.model.label()}"
        done = train(job, params, self._data, bar, self._evaluator.pair_logprobs)
        self._work.finish(done.record, label)
        self._work.remove(str(self._work.storage.child("runs", key, "state")))
        return _moved(done.params, job.checkpoint.config, self._evaluator.mesh)

    def probe(self, opened: Checkpoint, job: Job, base) -> None:
        """Measures how a base model begins to fine-tune, unless that is known.

        Args:
            base: gives its parameters.

        Raises:
            AmuroError: it cannot be trained.
        """
        probed, label = self.job_of(opened, job), f"probe {job.model.label()}"
        key = probe_key(probed)
        if not processes.decide(self._work.store.is_done(key)):
            self._work.start(key, label)
            self._work.finish(probe(probed, base(), self._data, f"  {label}"), label)
        self._work.bar.update(1)

    def train_groups(self, jobs: list[tuple[TrainJob, object, object]]) -> None:
        """Trains those that are not done and have something in common, a group in one program;
        those that are in no group are left for `train`.

        Args:
            jobs: each with the claim of its checkpoint and what gives the parameters.
        """
        todo = {job.key(): (claim, base) for job, claim, base in jobs}
        stored = {key for key in todo if self._work.store.is_done(key)}
        jobs = [job for job, _, _ in jobs if job.key() not in stored]
        shards, most = groups.shards_of(self._mesh), self._config.train_run.stack
        for alike in groups.alike(jobs):
            limit = most or groups.most_stacked(alike[0], self._data, self._mesh)
            for group in groups.groups(alike, limit, shards):
                label = f"train {', '.join(job.model.label() for job in group)}"
                # Where a claim is lost, each is trained in its turn, which says so.
                with contextlib.suppress(ClaimLostError):
                    self._work.guarded(label, self._train_group, group, todo)

    def _train_group(self, group, todo):
        for job in group:
            self._work.claim, _ = todo[job.key()]
            self._work.start(job.key(), f"train {job.model.label()}")
        params = [base() for _, base in (todo[job.key()] for job in group)]
        done = train_stacked(group, params, self._data, f"  {group[0].recipe.task}")
        for job in group:
            result = done[job.key()]
            if isinstance(result, AmuroError):
                self._given_up[job.key()] = result
                continue
            self._work.claim, _ = todo[job.key()]
            # What was compiled is told of the first one.
            self._work.finish(result.record, f"train {job.model.label()}")
        self._work.remove(f"{group_folder(group)}/state")

    def choose(self, candidates: list[TrainJob], base) -> TrainJob:
        """Of trainings with several rates the one with the lowest loss on the held-out rows. One
        that fails is left out by name.

        Args:
            base: gives the parameters that all start from.

        Raises:
            AmuroError: every one failed.
        """
        for one in candidates:
            if not processes.decide(self._work.store.is_done(one.key())):
                label = f"train {one.model.label()}"
                self._work.guarded(label, self.train, one, base(), key=one.key())
        self._work.bar.update(len(candidates) - 1)  # who scores the one chosen counts it
        losses = self._held_out_losses(candidates)
        best = processes.share(min(losses, key=losses.get) if losses else "")
        if not best:
            where = candidates[0].model.label()
            raise AmuroError("no rate is left to choose from", where=where)
        for one in candidates:
            if one.key() != best and not self._config.keep_models:
                self._work.remove(one.out)
        return next(one for one in candidates if one.key() == best)

    def _held_out_losses(self, trainings):
        """Key → loss on the held-out rows, of the trainings that are finished."""
        store, keys = self._work.store, [one.key() for one in trainings]
        return {key: store.read(key).metrics["held_out_loss"] for key in keys if store.is_done(key)}


def _moved(params, config, mesh):
    """Parameters laid out for a mesh; those that lie so already are not copied."""
    if mesh is None:
        return params
    return jax.device_put(params, sharding.shardings(axes_of(params, config), params, mesh))
