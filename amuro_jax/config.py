"""Typed run configurations, one dataclass per verb, and how a file and flags become one. Imports no
jax.

A configuration file is a Python module under `configs/` with `get_config()`; its docstring is the
command that runs
it. Any field can be overridden on the command line (`--config.train.learning_rate=1e-5`); an
unknown field is an error.
The dataclasses are mutable because `ml_collections.config_flags` sets fields in place.
"""

import dataclasses
import enum
import types
import typing

from amuro_jax.errors import ConfigError

PROTOCOLS = ("strict", "paper")
DTYPES = ("bfloat16", "float32")
ATTENTIONS = ("xla", "blocked", "trees", "splash", "cudnn")  # see models/attention.py
METHODS = ("token_prob", "free", "constrained")


class ProtocolName(enum.StrEnum):
    """`strict` does what the study meant to do; `paper` reproduces its quirks (docs/protocols.md)."""

    STRICT = "strict"
    PAPER = "paper"


class Method(enum.StrEnum):
    """How a label is read off a model (arXiv 2408.06663, section 3.4)."""

    TOKEN_PROB = "token_prob"  # the most likely candidate
    FREE = "free"  # greedy text in which a label is looked for
    CONSTRAINED = "constrained"  # the most likely of all surface forms


class Role(enum.StrEnum):
    """What an evaluation set is to the model that is scored on it."""

    IN_DOMAIN = "in_domain"
    OUT_OF_DOMAIN = "out_of_domain"
    CROSS_TASK = "cross_task"  # another task's in-domain set
    MULTIPLE_CHOICE = "multiple_choice"
    EXTRA = "extra"


class Group(enum.StrEnum):
    """Where the study expects a set to be learned."""

    PRE_TRAINING = "pre_training"
    FINE_TUNING = "fine_tuning"


class Metric(enum.StrEnum):
    """The headline statistic of a set."""

    ACCURACY = "accuracy"
    ROUGE_L = "rougeL"
    EXACT_NUMBER = "exact_number"


class Dtype(enum.StrEnum):
    """Compute dtype; parameters and optimizer state stay fp32."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class Remat(enum.StrEnum):
    """What the backward pass computes again instead of keeping."""

    NONE = "none"
    FULL = "full"  # each layer


class AttentionName(enum.StrEnum):
    """Attention implementations (models/attention.py)."""

    XLA = "xla"
    BLOCKED = "blocked"
    TREES = "trees"
    SPLASH = "splash"
    CUDNN = "cudnn"


# An unknown field is an error wherever a block is built from plain values (`from_dict`).
_FORBID_UNKNOWN = {"extra": "forbid"}


def _block(cls):
    """A frozen block of a configuration."""
    cls.__pydantic_config__ = _FORBID_UNKNOWN
    return dataclasses.dataclass(frozen=True)(cls)


@_block
class Recipe:
    """Supervised fine-tuning of one checkpoint on one set: all that determines the parameters.

    The defaults are the study's (arXiv 2408.06663, section 3 and appendix).
    """

    task: str = ""  # name in the task registry, or a YAML task file
    format: str = "default"
    protocol: ProtocolName = ProtocolName.STRICT
    quirks: tuple[str, ...] = ()  # single quirks to switch, e.g. ("+loss_mean_per_example",)
    rows: int | None = 6000  # subsample, shuffled with `data_seed`; None: all rows
    data_seed: int = 42
    epochs: int = 3
    batch_size: int = 8
    learning_rate: float = 2e-6
    warmup_fraction: float = 0.03
    weight_decay: float = 0.0
    adam_b1: float = 0.9
    adam_b2: float = 0.999
    adam_eps: float = 1e-8
    clip_norm: float | None = 1.0  # None: no clipping
    max_length: int = 2048  # tokens per example; the model's context is a limit of its own
    seed: int = 42  # order of the examples
    dtype: Dtype = Dtype.BFLOAT16


@_block
class Scoring:
    """How a model is scored on a set under a format: all that determines the number besides these."""

    protocol: ProtocolName = ProtocolName.STRICT
    quirks: tuple[str, ...] = ()
    method: Method = Method.TOKEN_PROB
    rows: int | None = None  # the first rows of each set; None: all
    shot_seed: int = 0
    max_new_tokens: int = 60
    bootstrap: int = 3000  # resamples of the stored interval
    bootstrap_seed: int = 0
    dtype: Dtype = Dtype.FLOAT32


@_block
class TrainRun:
    """Where and how fast a model is trained; the parameters do not depend on it but for round-off."""

    mesh: str = "data:-1"  # axis:size pairs; -1 takes the devices that are left
    micro_batch_size: int | None = None  # gradients are accumulated; None: the batch at once
    packing: bool | None = False  # several examples per row; None: where it saves much padding
    remat: Remat = Remat.NONE
    save_every: int | None = None  # steps between resumable states; None: at the end of each epoch
    log_every: int = 10


@_block
class ScoreRun:
    """Where and how fast a model is scored; numbers do not depend on it but for round-off."""

    mesh: str = "data:-1"
    batch_tokens: int | None = None  # tokens per batch; None: from the device's memory
    attention: AttentionName | None = None  # None: the best of the platform


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
    packing: bool = False  # several examples per row
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
