"""Typed run configurations, one dataclass per verb, and how a file and flags become one. Imports no
jax.

A configuration file is a Python module under `configs/` with `get_config()`; its docstring is the
command that runs
it. Any field can be overridden on the command line (`--config.train.learning_rate=1e-5`); an
unknown field is an error.
The dataclasses are mutable because `ml_collections.config_flags` sets fields in place.
"""

import dataclasses
import types
import typing

from amuro_jax.errors import ConfigError

PROTOCOLS = ("strict", "paper")
DTYPES = ("bfloat16", "float32")
ATTENTIONS = ("xla", "blocked", "trees", "splash", "cudnn")  # see models/attention.py
METHODS = ("token_prob", "free", "constrained")


@dataclasses.dataclass
class TrainConfig:
    """Full-parameter supervised fine-tuning of one checkpoint on one set (paper.md, "Models")."""

    checkpoint: str = ""  # hub name[@revision], HF folder, native folder, or converted folder
    task: str = ""  # name in the task registry
    workdir: str = ""  # where metrics, state and the final model go
    data_root: str = ""  # folder of local data sets; empty: the Hub
    protocol: str = "strict"
    quirks: str = ""  # names of single quirks to switch, e.g. "+loss_mean_per_example,-clip"
    format: str = "default"
    rows: int = 6000  # subsample, shuffled with `data_seed`
    data_seed: int = 42
    epochs: int = 3
    batch_size: int = 8
    micro_batch_size: int = 0  # 0: the whole batch at once; else gradients are accumulated
    learning_rate: float = 2e-6
    warmup_fraction: float = 0.03
    weight_decay: float = 0.0
    adam_b1: float = 0.9
    adam_b2: float = 0.999
    adam_eps: float = 1e-8
    clip_norm: float = 1.0  # 0: no clipping
    max_length: int = 2048
    seed: int = 42
    dtype: str = "bfloat16"  # compute; parameters and optimiser state stay fp32
    remat: str = "none"  # none | full: recompute each layer in the backward pass
    mesh: str = "data:-1"  # axis:size pairs; -1 takes the devices that are left
    save_every: int = 0  # optimiser steps between resumable states; 0: at the end of each epoch
    log_every: int = 10


@dataclasses.dataclass
class ScoreConfig:
    """Scores one model, base or fine-tuned, on some sets under some formats."""

    checkpoint: str = ""
    tasks: str = ""  # comma-separated names
    workdir: str = ""
    data_root: str = ""
    formats: str = "default"  # comma-separated
    shots: str = "4"  # comma-separated
    protocol: str = "strict"
    quirks: str = ""
    method: str = "token_prob"
    rows: int = 0  # 0: all
    shot_seed: int = 0
    max_new_tokens: int = 60
    bootstrap: int = 3000
    bootstrap_seed: int = 0
    dtype: str = "float32"
    mesh: str = "data:-1"
    batch_tokens: int = 0  # 0: from the memory estimate
    attention: str = ""  # one of ATTENTIONS; empty: the best of the platform


@dataclasses.dataclass
class FineTune:
    """One fine-tuning recipe of a study: a set and what differs from the study's `train` block."""

    task: str = ""
    learning_rate: float = 0.0  # 0: as in the study's `train`
    epochs: int = 0
    rows: int = 0


@dataclasses.dataclass
class EvalSet:
    """One row of a study's evaluation plan."""

    task: str = ""
    role: str = "in_domain"  # in_domain | out_of_domain | multiple_choice
    of: str = ""  # fine-tuning sets whose models are scored on it, comma-separated; empty: all
    formats: str = ""  # empty: as in the study
    shots: str = ""
    group: str = ""  # pre_training | fine_tuning: where it is learned; empty: found out by a test


@dataclasses.dataclass
class StudyConfig:
    """Checkpoints × fine-tuning sets × evaluation sets × formats × shots."""

    name: str = "study"
    workdir: str = ""
    data_root: str = ""
    suite: str = ""  # hub name or folder of checkpoints; with `select`, gives the series
    select: str = "all"  # revisions by list, all, every:k, log:n, tokens:n
    fine_tunes: list[FineTune] = dataclasses.field(default_factory=list)
    evals: list[EvalSet] = dataclasses.field(default_factory=list)
    formats: str = "default"
    shots: str = "4"
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    score: ScoreConfig = dataclasses.field(default_factory=ScoreConfig)
    keep_models: bool = False  # keep fine-tuned parameters after they are scored
    disk_budget_gb: float = 0.0  # 0: no limit on converted and downloaded checkpoints


@dataclasses.dataclass
class LabModel:
    """Size of the laboratory's OLMo-architecture model."""

    hidden_size: int = 128
    num_layers: int = 3
    num_heads: int = 4
    mlp_size: int = 384
    vocab_size: int = 1280  # tokenizer entries; embedding rows are padded to a multiple of 64
    max_length: int = 512


@dataclasses.dataclass
class LabConfig:
    """The laboratory: a synthetic world, its corpus and data sets, and a published series of
    checkpoints.
    """

    out: str = ""  # folder to write
    seed: int = 0
    model: LabModel = dataclasses.field(default_factory=LabModel)
    creatures: int = 40  # invented creatures, each with five attributes
    corpus_documents: int = 200000  # of about 17 tokens each
    train_rows: int = 1200  # per fine-tuning set
    test_rows: int = 200  # per test set
    steps: int = 2000
    batch_size: int = 32  # lines per step, a multiple of 4
    sequence_length: int = 64  # tokens per line
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    warmup_steps: int = 50
    checkpoints: int = 8  # published, at log-spaced steps from `first_checkpoint` to `steps`
    first_checkpoint: int = 20
    save_every: int = 400  # steps between saved states, besides those at published checkpoints
    dtype: str = "float32"
    mesh: str = "data:-1"


def split_names(text: str) -> tuple[str, ...]:
    """`"a, b"` → `("a", "b")`; the empty string gives no names."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def to_dict(config) -> dict:
    """A configuration as plain JSON-able values, every field present."""
    return dataclasses.asdict(config)


def from_dict(kind, values: dict, *, where: str = "config"):
    """Builds the dataclass `kind` from plain values.

    Raises:
        ConfigError: an unknown field (with the ones that exist) or a value of the wrong type.
    """
    known = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(
            f"unknown field {unknown[0]!r} of {kind.__name__}",
            where=f"{where}.{unknown[0]}",
            hint="known fields: " + ", ".join(known),
        )
    return kind(
        **{name: _coerce(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    )


def _coerce(hint, value, where):
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where=where)
    if isinstance(hint, types.GenericAlias) and typing.get_origin(hint) is list:
        (item,) = typing.get_args(hint)
        return [_coerce(item, entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"expected {hint.__name__}, got {value!r}", where=where)
    return value


def require(condition: bool, what: str, *, where: str, hint: str | None = None) -> None:
    """Raises a `ConfigError` unless `condition` holds."""
    if not condition:
        raise ConfigError(what, where=where, hint=hint)


def validate_train(config: TrainConfig) -> None:
    """Raises a `ConfigError` on the first field of a training run that cannot be meant."""
    for name in ("checkpoint", "task", "workdir"):
        require(
            bool(getattr(config, name)),
            f"{name} is empty",
            where=f"config.{name}",
            hint=f"give --config.{name}=…",
        )
    validate_recipe(config)


def validate_recipe(config: TrainConfig, where: str = "config") -> None:
    """Raises a `ConfigError` on the first field of a training run that cannot be meant, on
    whichever checkpoint and set.
    """
    _validate_common(config, where)
    for name in ("epochs", "batch_size", "max_length", "rows"):
        require(
            getattr(config, name) > 0,
            f"{name} must be positive, got {getattr(config, name)}",
            where=f"{where}.{name}",
        )
    require(
        0 <= config.warmup_fraction < 1,
        f"warmup_fraction must be in [0, 1), got {config.warmup_fraction}",
        where=f"{where}.warmup_fraction",
    )
    require(
        config.remat in ("none", "full"),
        f"remat must be none or full, got {config.remat!r}",
        where=f"{where}.remat",
    )
    if config.micro_batch_size:
        require(
            config.batch_size % config.micro_batch_size == 0,
            f"batch_size {config.batch_size} is not a multiple of micro_batch_size {config.micro_batch_size}",
            where=f"{where}.micro_batch_size",
        )


def validate_score(config: ScoreConfig) -> None:
    """Raises a `ConfigError` on the first field of a scoring run that cannot be meant."""
    for name in ("checkpoint", "tasks", "workdir"):
        require(
            bool(getattr(config, name)),
            f"{name} is empty",
            where=f"config.{name}",
            hint=f"give --config.{name}=…",
        )
    validate_scoring(config)
    for shots in split_names(config.shots):
        require(
            shots.isdigit(), f"shots must be whole numbers, got {shots!r}", where="config.shots"
        )


def validate_scoring(config: ScoreConfig, where: str = "config") -> None:
    """Raises a `ConfigError` on the first field of a scoring run that cannot be meant, of whichever
    model and sets.
    """
    _validate_common(config, where)
    require(
        config.method in METHODS,
        f"unknown method {config.method!r}",
        where=f"{where}.method",
        hint="one of " + ", ".join(METHODS),
    )
    known, names = ("", *ATTENTIONS), ", ".join(ATTENTIONS)
    require(
        config.attention in known,
        f"unknown attention {config.attention!r}",
        where=f"{where}.attention",
        hint=f"one of {names}",
    )


def _validate_common(config, where) -> None:
    require(
        config.protocol in PROTOCOLS,
        f"unknown protocol {config.protocol!r}",
        where=f"{where}.protocol",
        hint="one of " + ", ".join(PROTOCOLS),
    )
    require(
        config.dtype in DTYPES,
        f"unknown dtype {config.dtype!r}",
        where=f"{where}.dtype",
        hint="one of " + ", ".join(DTYPES),
    )
