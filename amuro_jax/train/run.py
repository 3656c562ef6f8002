"""One fine-tuning, from a checkpoint and a recipe to a model folder and its record.

`amuro train`, studies and other programs all call `train`; finished work is not done again.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
from etils import epath

from amuro_jax import checkpoint, files, keys, processes, records, sharding
from amuro_jax.config import Recipe, TrainConfig, TrainRun, to_dict, validate_train
from amuro_jax.data import encoding, protocols, sources
from amuro_jax.data.registry import get_task
from amuro_jax.errors import ConfigError
from amuro_jax.models.parameters import logical_axes
from amuro_jax.opened import Checkpoint, open_checkpoint
from amuro_jax.records import ModelRef, TrainRecord
from amuro_jax.storage import Storage
from amuro_jax.train.fine_tune import fine_tune, trainable_of
from amuro_jax.train.lora import save_adapter

RECORD = "record.json"  # beside the model of `amuro train`


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
    """

    checkpoint: Checkpoint
    recipe: Recipe
    model: ModelRef
    workdir: str
    out: str
    data_root: str = ""
    run: TrainRun = TrainRun()

    def key(self) -> str:
        """Identity of the fine-tuned model."""
        tokenizer = self.checkpoint.tokenizer.fingerprint
        return keys.train_key(self.checkpoint.identity, self.recipe, tokenizer, self.data_root)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A fine-tuned model: its parameters (fp32, on the training mesh) and its record."""

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
) -> Trained:
    """Does one fine-tuning, or what an interrupted process left of it, and writes the model folder.

    Args:
        params: the checkpoint's parameters where they are in memory already; they are left as they
            are.
        data: encoded sets to share with other jobs.
        description: of the progress bar.

    Raises:
        ConfigError: a recipe that cannot be carried out.
        DataError: rows that cannot be read or encoded.
    """
    started, opened, recipe = time.perf_counter(), job.checkpoint, job.recipe
    task, protocol = get_task(recipe.task), protocols.resolve(recipe.protocol, recipe.quirks)
    encoded = (data or TrainingData()).of(job)
    mesh = sharding.whole_mesh(job.run.mesh, "config.run.mesh")
    result = fine_tune(
        place(params, opened, mesh),
        opened.config,
        encoded.examples,
        recipe,
        job.run,
        mesh=mesh,
        workdir=job.workdir,
        weigh_examples=protocol.loss_mean_per_example,
        warmup_rounded_down=protocol.warmup_rounded_down,
        description=description or recipe.task,
    )
    split = sources.train_split(task, job.data_root)
    checksums = {split.name: sources.dataset_checksum(task, split)}
    record = TrainRecord(
        key=job.key(),
        model=job.model,
        recipe=recipe,
        protocol=protocol.name,
        switches=protocol.switches(),
        metrics={
            "loss": result.loss,
            "steps": result.steps,
            "tokens": result.tokens,
            "rows": len(encoded.examples),
            "truncated": encoded.truncated,
            "dropped": encoded.dropped,
        },
        provenance=opened.provenance(checksums, to_dict(job.run)),
        seconds=round(time.perf_counter() - started, 3),
    )
    save(job, result.params, record)
    if recipe.lora_rank is not None:
        lora, folder = trainable_of(recipe), epath.Path(job.workdir) / "adapter"
        provenance = {"training": records.to_json(record)}
        save_adapter(folder, lora, result.trained, opened.identity, provenance)
    return Trained(result.params, record)


def place(params: dict | None, opened: Checkpoint, mesh) -> dict:
    """Parameters in fp32, laid out for training: read from the checkpoint, or moved where they do
    not lie so already.
    """
    if params is None:
        return opened.load_params(mesh, jnp.float32)
    if mesh is None:
        return params
    return jax.device_put(params, sharding.shardings(logical_axes(opened.config), params, mesh))


def save(job: TrainJob, params: dict, record: TrainRecord) -> None:
    """Writes the model folder; it holds the record of its training as provenance."""
    opened = job.checkpoint
    provenance = {
        "form": "fine_tuned",
        "parents": [opened.identity],
        "base": opened.source,
        "training": records.to_json(record),
    }
    tokenizer = opened.folder / "tokenizer"
    checkpoint.save_model(
        job.out, params, opened.config, tokenizer, provenance, identity=record.key
    )


def run(config: TrainConfig) -> epath.Path:
    """`amuro train`: carries out `config`, or what is left of it; returns `<workdir>/model`.

    Raises:
        ConfigError: an invalid field, or a workdir that holds another run.
    """
    validate_train(config)
    workdir = Storage.open(config.workdir).epath()
    claim_workdir(workdir, config)
    out = workdir / "model"
    if processes.decide(checkpoint.is_model(out)):
        return out
    opened = open_checkpoint(config.checkpoint)
    source = opened.source
    model = ModelRef(
        str(source.get("source", config.checkpoint)),
        str(source.get("revision") or config.checkpoint),
        tuned_on=get_task(config.recipe.task).name,
    )
    job = TrainJob(
        opened, config.recipe, model, str(workdir), str(out), config.data_root, config.run
    )
    trained = train(job)
    if processes.is_writer():
        files.write_json(workdir / RECORD, records.to_json(trained.record))
        checkpoint.remove(workdir / "state")
    processes.meet("end of training")
    return out


def claim_workdir(workdir, config: TrainConfig) -> None:
    """Writes the run's checkpoint and recipe into its folder, or checks that those there are the
    same. Of several processes the first one writes.

    Raises:
        ConfigError: another run's folder, with the first field that differs.
    """
    path = epath.Path(workdir) / "config.json"
    if processes.decide(not path.exists()):
        if processes.is_writer():
            files.write_json(path, to_dict(config))
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
