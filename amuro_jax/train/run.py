"""One fine-tuning, from a checkpoint and a recipe to a model folder and its record.

`amuro train`, studies and other programs all call `train`; finished work is not done again.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from etils import epath

from amuro_jax import checkpoint, files, keys, processes, records, sharding
from amuro_jax.config import Dtype, Loss, Recipe, TrainConfig, TrainRun, to_dict, validate_train
from amuro_jax.convert import adapters
from amuro_jax.data import encoding, protocols, sources
from amuro_jax.data.registry import get_task
from amuro_jax.data.types import Pair
from amuro_jax.errors import ConfigError, TrainingError
from amuro_jax.models.lora import Lora, merged
from amuro_jax.models.parameters import logical_axes
from amuro_jax.opened import Checkpoint, open_checkpoint
from amuro_jax.records import ModelRef, TrainRecord
from amuro_jax.storage import Storage
from amuro_jax.train import held_out
from amuro_jax.train.fine_tune import fine_tune, fine_tune_stacked, trainable_of

BEST = "best"  # folder of the best saved state's model, in the workdir
RECORD = "record.json"  # beside the model of `amuro train`
# (checkpoint, its parameters, pairs, dtype) → (chosen, rejected) log-probabilities of each pair
PairLogprobs = Callable[[Checkpoint, dict, Sequence[Pair], Dtype], list[tuple[float, float]]]


@dataclasses.dataclass(frozen=True)
class TrainJob:
    """One fine-tuning to be done.

    Attributes:
        checkpoint: what it starts from.
        recipe: what determines the parameters.
        model: what the result is called.
        workdir: folder of metrics and resumable states.
        out: folder of the fine-tuned model.
        data_root: folder of local data sets; "": the Hub.
        run: where and how fast.
        references: folder of the log-probabilities that preference pairs have under the models that
            trainings start from; "": `references` in `workdir`.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    model: ModelRef
    workdir: str
    out: str
    data_root: str = ""
    run: TrainRun = TrainRun()
    references: str = ""

    def key(self) -> str:
        """Identity of the fine-tuned model."""
        tokenizer = self.checkpoint.tokenizer.fingerprint
        return keys.train_key(self.checkpoint.identity, self.recipe, tokenizer, self.data_root)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A fine-tuned model: its parameters (fp32, on the training mesh; an adapter beside its
    kernels) and its record.
    """

    params: dict
    record: TrainRecord


class TrainingData:
    """Cache of encoded training sets, for checkpoints of the same tokenizer and length limit."""

    def __init__(self):
        self._encoded = {}

    def of(self, job: TrainJob) -> encoding.TrainingSet:
        """The encoded rows of a job, in the order of its subsample."""
        recipe, opened = job.recipe, job.checkpoint
        # What is encoded depends on these alone: they are the call's arguments and the cache's key.
        arguments = {
            "format": recipe.format,
            "protocol": protocols.resolve(recipe.protocol, recipe.quirks),
            "max_length": min(recipe.max_length, opened.config.max_length),
            "rows": recipe.rows,
            "seed": recipe.data_seed,
            "data_root": job.data_root,
            "chat_template": bool(recipe.chat_template),
            "pairs": recipe.loss == Loss.DPO,
        }
        key = (recipe.task, opened.tokenizer.fingerprint, *arguments.values())
        if key not in self._encoded:
            self._encoded[key] = encoding.encode_training_set(
                get_task(recipe.task), tokenizer=opened.tokenizer, **arguments
            )
        return self._encoded[key]


def train(
    job: TrainJob,
    params: dict | None = None,
    data: TrainingData | None = None,
    description: str | None = None,
    pair_logprobs: PairLogprobs | None = None,
) -> Trained:
    """Does one fine-tuning, or what an interrupted process left of it, and writes the model folder.

    Args:
        params: the checkpoint's parameters where they are in memory already; they are left as they
            are.
        data: encoded sets to share with other jobs.
        description: of the progress bar.
        pair_logprobs: what scores preference pairs under the checkpoint, needed for loss=dpo; of an
            `evals.run.Evaluator`.

    Raises:
        ConfigError: a recipe that cannot be carried out.
        DataError: rows that cannot be read or encoded.
    """
    started, opened, recipe = time.perf_counter(), job.checkpoint, job.recipe
    rows = _rows_of(job, data)
    mesh = sharding.whole_mesh(job.run.mesh, "config.run.mesh")
    params = place(params, opened, mesh)
    if recipe.loss == Loss.DPO:
        pairs = _with_reference(job, params, rows.examples, pair_logprobs)
        rows = dataclasses.replace(rows, examples=pairs)
    training, kept_out = held_out.split(rows.examples, recipe.held_out_rows)
    result = fine_tune(
        params,
        opened.config,
        training,
        recipe,
        job.run,
        mesh=mesh,
        workdir=job.workdir,
        description=description or recipe.task,
        held_out_loss=_held_out_loss(job, kept_out, mesh) if kept_out else None,
        **as_published(recipe),
    )
    return _finish(job, result, rows, kept_out, mesh, started)


def train_stacked(
    jobs: Sequence[TrainJob],
    params: Sequence[dict | None],
    data: TrainingData | None = None,
    description: str = "train",
) -> dict[str, Trained | TrainingError]:
    """Does several fine-tunings in one program: of checkpoints of one shape, or of one checkpoint
    with several learning rates. Each ends as it does alone, to round-off, with a model folder, a
    record and metrics of its own.

    Args:
        jobs: of one recipe, but for the learning rate; see `stack_key`.
        params: of each job, as of `train`.

    Returns:
        Key → result, or the error that ended the member.

    Raises:
        ConfigError: jobs that have not the same recipe and shape, or a number of them that the
            mesh's data axis does not divide.
        TrainingError: every member failed.
    """
    started, first = time.perf_counter(), jobs[0]
    if len({stack_key(job) for job in jobs}) > 1:
        raise ConfigError(
            "trainings of several recipes or shapes cannot be done in one program",
            where=", ".join(job.model.label() for job in jobs),
        )
    rows, mesh = _rows_of(first, data), sharding.whole_mesh(first.run.mesh, "config.run.mesh")
    training, kept_out = held_out.split(rows.examples, first.recipe.held_out_rows)
    done = fine_tune_stacked(
        {
            job.key(): place(own, job.checkpoint, mesh)
            for job, own in zip(jobs, params, strict=True)
        },
        first.checkpoint.config,
        training,
        first.recipe,
        first.run,
        learning_rates={job.key(): job.recipe.learning_rate for job in jobs},
        mesh=mesh,
        workdir=group_folder(jobs),
        description=description,
        **as_published(first.recipe),
    )
    return {
        job.key(): done[job.key()]
        if isinstance(done[job.key()], TrainingError)
        else _finish(job, done[job.key()], rows, kept_out, mesh, started, len(jobs))
        for job in jobs
    }


def stack_key(job: TrainJob) -> tuple:
    """What jobs must have in common to be trained in one program."""
    recipe = dataclasses.replace(job.recipe, learning_rate=1.0)
    opened = job.checkpoint
    return recipe, opened.config, opened.tokenizer.fingerprint, job.data_root, job.run


def group_folder(jobs: Sequence[TrainJob]) -> str:
    """Folder of the states and metrics of jobs that are trained in one program."""
    name = files.content_key(sorted(job.key() for job in jobs))
    return str(epath.Path(jobs[0].workdir).parent / f"stack-{name}")


def _rows_of(job, data) -> encoding.TrainingSet:
    return (data or TrainingData()).of(job)


def as_published(recipe: Recipe) -> dict:
    """What the protocol changes in a training: arguments of `fine_tune`."""
    protocol = protocols.resolve(recipe.protocol, recipe.quirks)
    return {
        "weigh_examples": protocol.loss_mean_per_example,
        "warmup_rounded_down": protocol.warmup_rounded_down,
    }


def _finish(job, result, rows, kept_out, mesh, started, members=1) -> Trained:
    """Writes the model folder of a finished training, and makes its record."""
    metrics = {
        "loss": result.loss,
        "steps": result.steps,
        "tokens": result.tokens,
        "rows": len(rows.examples) - len(kept_out),
        "truncated": rows.truncated,
        "dropped": rows.dropped,
    }
    if kept_out:
        metrics["held_out_loss"] = _held_out_loss(job, kept_out, mesh)(result.params)
    seconds = (time.perf_counter() - started) / members
    record = record_of(job, metrics, seconds)
    save(job, result, record)
    if result.best is not None:
        _save_best(job, result.best, record)
    return Trained(result.params, record)


def _held_out_loss(job, kept_out, mesh):
    """A tuned model's parameters → its loss on the held-out rows."""
    config, recipe = job.checkpoint.config, job.recipe
    weigh = as_published(recipe)["weigh_examples"]
    return lambda params: held_out.loss_of(
        params, config, kept_out, recipe, job.run, mesh=mesh, weigh_examples=weigh
    )


def _save_best(job, best, record):
    """Writes the model of the best saved state to `<workdir>/best`, an identity of its own."""
    key = files.content_key({"training": record.key, "step": best.steps})
    metrics = {"steps": best.steps, job.run.keep_best: best.loss}
    about = dataclasses.replace(record, key=key, metrics=metrics)
    save(dataclasses.replace(job, out=f"{job.workdir}/{BEST}"), best, about)


def record_of(job: TrainJob, metrics: dict, seconds: float) -> TrainRecord:
    """The record of a finished training, with where it comes from."""
    task, recipe = get_task(job.recipe.task), job.recipe
    protocol = protocols.resolve(recipe.protocol, recipe.quirks)
    split = sources.train_split(task, job.data_root)
    checksums = {split.name: sources.dataset_checksum(task, split)}
    return TrainRecord(
        key=job.key(),
        model=job.model,
        recipe=recipe,
        protocol=protocol.name,
        switches=protocol.switches(),
        metrics=metrics,
        provenance=job.checkpoint.provenance(checksums, to_dict(job.run)),
        seconds=round(seconds, 3),
    )


def _with_reference(job, params, pairs, pair_logprobs) -> list[Pair]:
    """The pairs with their log-probabilities under the checkpoint: read where they were computed
    for an earlier run, else computed once and stored.
    """
    opened, dtype = job.checkpoint, job.recipe.dtype
    tokens = [[one.tokens.tolist() for one in (pair.chosen, pair.rejected)] for pair in pairs]
    key = files.content_key({"model": opened.identity, "dtype": dtype, "tokens": tokens})
    path = epath.Path(job.references or f"{job.workdir}/references") / f"{key}.json"
    logprobs = _stored_reference(path)
    if not processes.decide(logprobs is not None):
        logprobs = [list(both) for both in pair_logprobs(opened, params, pairs, dtype)]
        if processes.is_writer():
            content = {"model": opened.identity, "dtype": dtype, "rows": [p.row for p in pairs]}
            checksum = files.content_key(logprobs)
            files.write_json(path, content | {"logprobs": logprobs, "checksum": checksum})
    return [
        dataclasses.replace(pair, reference=tuple(both))
        for pair, both in zip(pairs, logprobs, strict=True)
    ]


def _stored_reference(path):
    """Log-probabilities of an earlier run; None where there are none, or not what was written."""
    if not path.exists():
        return None
    stored = files.read_json(path)
    return (
        stored["logprobs"] if stored["checksum"] == files.content_key(stored["logprobs"]) else None
    )


def place(params: dict | None, opened: Checkpoint, mesh) -> dict:
    """Parameters in fp32, laid out for training: read from the checkpoint, or moved where they do
    not lie so already. An adapter of the checkpoint is multiplied out.
    """
    if params is None:
        return opened.load_params(mesh, jnp.float32, merge=True)
    params = merged(params)
    if mesh is None:
        return params
    return jax.device_put(params, sharding.shardings(logical_axes(opened.config), params, mesh))


def save(job: TrainJob, result, record: TrainRecord) -> None:
    """Writes the model folder, of a recipe with `lora_rank` an adapter folder; it holds the record
    of its training as provenance.

    Args:
        result: of `fine_tune`.
    """
    opened, trainable = job.checkpoint, trainable_of(job.recipe)
    provenance = {
        "form": "fine_tuned",
        "parents": [opened.identity],
        "base": opened.source,
        "training": records.to_json(record),
    }
    if isinstance(trainable, Lora):
        adapters.save(
            job.out, trainable, result.trained, opened.folder, provenance, identity=record.key
        )
        return
    tokenizer = opened.folder / "tokenizer"
    checkpoint.save_model(
        job.out, result.params, opened.config, tokenizer, provenance, identity=record.key
    )


def run(config: TrainConfig, pair_logprobs: PairLogprobs | None = None) -> epath.Path:
    """`amuro train`: carries out `config`, or what is left of it; returns `<workdir>/model`.

    Nothing is written before the checkpoint, the recipe and the rows were found to go together.

    Args:
        pair_logprobs: as of `train`.

    Raises:
        ConfigError: an invalid field, or a workdir that holds another run.
        CheckpointError: no such checkpoint, or a damaged one.
        DataError: rows that cannot be read or encoded.
    """
    validate_train(config)
    workdir = Storage.open(config.workdir).epath()
    check_workdir(workdir, config)
    out = workdir / "model"
    if processes.decide(checkpoint.is_model(out)):
        return out
    opened, data = open_checkpoint(config.checkpoint), TrainingData()
    source = opened.source
    model = ModelRef(
        str(source.get("source", config.checkpoint)),
        str(source.get("revision") or config.checkpoint),
        tuned_on=get_task(config.recipe.task).name,
    )
    job = TrainJob(
        opened, config.recipe, model, str(workdir), str(out), config.data_root, config.run
    )
    check(job, data)
    claim_workdir(workdir, config)
    trained = train(job, data=data, pair_logprobs=pair_logprobs)
    if processes.is_writer():
        files.write_json(workdir / RECORD, records.to_json(trained.record))
        checkpoint.remove(workdir / "state")
    processes.meet("end of training")
    return out


def check(job: TrainJob, data: TrainingData) -> None:
    """Raises the error that a job would end with before its first step: a mesh that does not fit, a
    projection that the model does not have, rows that cannot be trained on.
    """
    sharding.whole_mesh(job.run.mesh, "config.run.mesh")
    trainable_of(job.recipe).abstract(job.checkpoint.config)
    data.of(job)


def claim_workdir(workdir, config: TrainConfig) -> None:
    """Writes the run's configuration into its folder, or checks that the run there is the same. Of
    several processes the first one writes.

    Raises:
        ConfigError: as `check_workdir`.
    """
    path = epath.Path(workdir) / "config.json"
    if not processes.decide(not path.exists()):
        check_workdir(workdir, config)
    elif processes.is_writer():
        files.write_json(path, to_dict(config))


def check_workdir(workdir, config: TrainConfig) -> None:
    """Checks that a folder holds no other run: one of another checkpoint or recipe.

    Raises:
        ConfigError: another run's folder, with the first field that differs.
    """
    path = epath.Path(workdir) / "config.json"
    if processes.decide(not path.exists()):
        return
    mine, theirs = _identifying(to_dict(config)), _identifying(files.read_json(path))
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise ConfigError(
                f"{name} is {value!r}, the run in this folder has {theirs.get(name)!r}",
                where=path,
                hint="choose another workdir",
            )


def _identifying(config: dict) -> dict:
    """What a resumed run may not change: folders, mesh and intervals it may."""
    recipe = {f"recipe.{name}": value for name, value in config.get("recipe", {}).items()}
    return {"checkpoint": config.get("checkpoint")} | recipe
