"""A training run from a configuration to a model folder: opens, encodes, fine-tunes, saves.

Finished work is not done again.
"""

import datetime
from pathlib import Path

import jax
import jax.numpy as jnp

from amuro_jax import __version__, checkpoint, convert, files, sharding
from amuro_jax.config import TrainConfig, to_dict, validate_train
from amuro_jax.data import encoding, protocols, sources
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer, check_eos
from amuro_jax.errors import ConfigError
from amuro_jax.train.fine_tune import fine_tune

# Fields that say where and how fast, not what: a resumed run may change them.
PLACES = ("workdir", "log_every", "save_every", "mesh", "data_root")


def train(config: TrainConfig) -> Path:
    """Runs `config`, or what is left of it, and returns the model folder `<workdir>/model`.

    Raises:
        ConfigError: a field that cannot be meant, or a workdir that holds another run.
    """
    validate_train(config)
    task, protocol = get_task(config.task), protocols.resolve(config.protocol, config.quirks)
    workdir = Path(config.workdir)
    out = workdir / "model"
    claim_workdir(workdir, config)
    if (out / "provenance.json").exists():
        return out
    base = convert.open_checkpoint(config.checkpoint)
    model_config, tokenizer = checkpoint.read_config(base), Tokenizer.load(base / "tokenizer")
    if warning := check_eos(tokenizer, where=base):
        raise ConfigError(
            warning,
            where="tokenizer",
            hint="a model trained on it would never stop: mend eos_token_id in the checkpoint's config.json",
        )
    limit = min(config.max_length, model_config.max_length)
    training = encoding.encode_training_set(
        task,
        config.format,
        protocol,
        tokenizer,
        max_length=limit,
        rows=config.rows,
        seed=config.data_seed,
        data_root=config.data_root,
    )
    mesh = sharding.whole_mesh(config.mesh)
    params = checkpoint.load_params(base, model_config, mesh=mesh, dtype=jnp.float32)
    result = fine_tune(
        params,
        model_config,
        training.examples,
        config,
        config,
        mesh=mesh,
        workdir=workdir,
        weigh_examples=protocol.loss_mean_per_example,
        warmup_rounded_down=protocol.warmup_rounded_down,
        description=config.task,
    )
    split = sources.train_split(task, config.data_root)
    data = {
        "split": split.name,
        "sha256": sources.dataset_checksum(task, split),
        "rows": len(training.examples),
        "dropped": training.dropped,
        "truncated": training.truncated,
    }
    provenance = provenance_of(config, base, tokenizer, protocol, data, result)
    checkpoint.save_model(out, result.params, model_config, base / "tokenizer", provenance)
    checkpoint.remove(workdir / "state")
    return out


def claim_workdir(workdir: Path, config: TrainConfig) -> None:
    """Writes the run's configuration into its folder, or checks that the one there is the same run.

    Raises:
        ConfigError: another run's folder, with the first field that differs.
    """
    path, mine = workdir / "config.json", to_dict(config)
    if not path.exists():
        files.write_json(path, mine)
        return
    theirs = files.read_json(path)
    for name, value in mine.items():
        if name not in PLACES and theirs.get(name) != value:
            raise ConfigError(
                f"{name} is {value!r}, the run in this folder has {theirs.get(name)!r}",
                where=path,
                hint="choose another workdir",
            )


def provenance_of(config: TrainConfig, base, tokenizer, protocol, data: dict, result) -> dict:
    """What determines the fine-tuned parameters, and when they were made."""
    recipe = {
        name: value
        for name, value in to_dict(config).items()
        if name not in (*PLACES, "checkpoint")
    }
    return {
        "form": "fine_tuned",
        "parents": [checkpoint.model_hash(base)],
        "base": checkpoint.read_provenance(base),
        "recipe": recipe,
        "protocol": {"name": protocol.name, "switches": protocol.switches()},
        "data": data,
        "tokenizer": tokenizer.fingerprint,
        "steps": result.steps,
        "code": __version__,
        "jax": jax.__version__,
        "devices": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
        "loss": result.loss,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(result.seconds, 3),
    }
