"""Typed run configurations, one per verb, and how a file and flags become one. Imports no jax.

Everything here is a frozen value. What determines a number (`Recipe`, `Scoring`) is separate from
where and how fast it is computed (`TrainRun`, `ScoreRun`, folders): the first enters content keys,
the second never does. In every block None means "not set": inherit, no limit, or let the program
choose, as the field's comment says.

A configuration file is a Python module under `configs/` with `get_config()`, or
`get_config(argument)` for `--config=FILE.py:ARGUMENT`; its docstring is the command that runs it.
Any field can be overridden on the command line (`--config.recipe.learning_rate=1e-5`); an unknown
field is an error.
"""

import dataclasses
import difflib
import enum
import functools
import json
import types
import typing

from amuro_jax.errors import ConfigError


class ProtocolName(enum.StrEnum):
    """`strict` does what the study meant; `paper` reproduces its quirks (docs/protocols.md)."""

    STRICT = "strict"
    PAPER = "paper"


class Method(enum.StrEnum):
    """How a label is read off a model (arXiv 2408.06663, section 3.4)."""

    TOKEN_PROB = "token_prob"  # the most likely candidate
    FREE = "free"  # greedy text in which a label is looked for
    CONSTRAINED = "constrained"  # the most likely of all surface forms


class Role(enum.StrEnum):
    """What a set is to the model that is trained or scored on it. A set's registry entry lists the
    roles that it may take in a study.
    """

    FINE_TUNE = "fine_tune"  # its training split is trained on
    IN_DOMAIN = "in_domain"
    OUT_OF_DOMAIN = "out_of_domain"
    CROSS_TASK = "cross_task"  # the model was fine-tuned on another task
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
    DOTS = "dots"  # all but the results of matrix products with parameters, and fused attention
    OFFLOAD = "offload"  # as dots, the products waiting in the host's memory (TPU and GPU)
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
    moment_dtype: Dtype | None = None  # of Adam's first moment; None: float32
    lora_rank: int | None = None  # train an adapter of this rank; None: all parameters
    lora_alpha: float | None = None  # the adapter's scale is alpha / rank; None: twice the rank
    lora_targets: tuple[str, ...] | None = None  # projections with an adapter; None: all
    lora_rank_stabilised: bool | None = None  # True: the scale is alpha / sqrt(rank)


@_block
class Scoring:
    """How a model is scored: everything but the model, set, format and shots that determines the
    number.
    """

    protocol: ProtocolName = ProtocolName.STRICT
    quirks: tuple[str, ...] = ()
    method: Method = Method.TOKEN_PROB
    rows: int | None = None  # subsample of each set, drawn with seed 0; None: all
    shot_seed: int = 0
    max_new_tokens: int = 60
    bootstrap: int = 3000  # resamples of the stored interval
    bootstrap_seed: int = 0
    dtype: Dtype = Dtype.FLOAT32


@_block
class TrainRun:
    """Where and how fast a model is trained; it changes the parameters by rounding only."""

    mesh: str = "data:-1"  # axis:size pairs; -1 takes the devices that are left
    micro_batch_size: int | None = None  # gradients are accumulated; None: the batch at once
    packing: bool | None = False  # several examples per row; None: where it saves much padding
    remat: Remat = Remat.NONE
    save_every: int | None = None  # steps between resumable states; None: at the end of each epoch
    log_every: int = 10


@_block
class ScoreRun:
    """Where and how fast a model is scored; it changes the numbers by rounding only."""

    mesh: str = "data:-1"
    batch_tokens: int | None = None  # tokens per batch; None: from the device's memory
    attention: AttentionName | None = None  # None: the best of the platform


@_block
class TrainConfig:
    """`amuro train`: one recipe on one checkpoint."""

    checkpoint: str = ""  # Hub name[@revision], HF folder, native folder, or converted folder
    workdir: str = ""  # where metrics, state and the final model go; a folder or gs://…
    data_root: str = ""  # folder of local data sets; empty: the Hub
    recipe: Recipe = Recipe()
    run: TrainRun = TrainRun()


@_block
class ScoreConfig:
    """`amuro score`: one model, base or fine-tuned, on some sets under some formats."""

    checkpoint: str = ""
    workdir: str = ""
    data_root: str = ""
    tasks: tuple[str, ...] = ()
    formats: tuple[str, ...] | None = None  # None: default; a multiple-choice set has this one only
    shots: tuple[int, ...] = (4,)
    scoring: Scoring = Scoring()
    run: ScoreRun = ScoreRun()


@_block
class FineTune:
    """One fine-tuning set of a study, and what differs from the study's `recipe`; None inherits."""

    task: str = ""
    format: str | None = None
    rows: int | None = None
    all_rows: bool = False  # the full training split, whatever the study's `rows`
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    max_length: int | None = None


@_block
class EvalSet:
    """One row of a study's evaluation plan."""

    task: str = ""
    role: Role = Role.IN_DOMAIN  # in_domain, out_of_domain or multiple_choice
    of: tuple[str, ...] = ()  # fine-tuning sets whose models are scored on it; empty: all
    formats: tuple[str, ...] | None = None  # None: by role (docs/study.md)
    shots: tuple[int, ...] | None = None  # None: the study's
    group: Group | None = None  # where it is learned; None: decided by a test


@_block
class StudyConfig:
    """`amuro study`: checkpoints × fine-tuning sets × evaluation sets × formats × shots."""

    name: str = "study"
    workdir: str = ""
    data_root: str = ""
    suite: str = ""  # Hub name or folder of checkpoints; with `select`, gives the series
    select: str = "all"  # revisions by list, all, every:k, log:n, tokens:n
    fine_tunes: tuple[FineTune, ...] = ()
    evals: tuple[EvalSet, ...] = ()
    formats: tuple[str, ...] = ("default",)
    shots: tuple[int, ...] = (4,)
    recipe: Recipe = Recipe()  # of every fine-tuning set, but for what its entry changes
    scoring: Scoring = Scoring()
    train_run: TrainRun = TrainRun()
    score_run: ScoreRun = ScoreRun()
    mixed_protocols: bool = False  # allow a recipe of one protocol to be scored under the other
    keep_models: bool = False  # keep fine-tuned parameters after they are scored
    disk_budget_gb: float | None = None  # converted and downloaded checkpoints; None: no limit
    reuse: tuple[str, ...] = ()  # workdirs of other studies whose finished cells are taken over


@_block
class LabModel:
    """Size of the laboratory's OLMo-architecture model."""

    hidden_size: int = 128
    num_layers: int = 3
    num_heads: int = 4
    mlp_size: int = 384
    vocab_size: int = 1280  # tokenizer entries; embedding rows are padded to a multiple of 64
    max_length: int = 512


@_block
class LabConfig:
    """`amuro lab`: a synthetic world, its corpus, its data sets, and a series of checkpoints."""

    out: str = ""  # folder to write
    seed: int = 0
    model: LabModel = LabModel()
    creatures: int = 40  # invented creatures, each with five attributes
    corpus_documents: int = 200000  # of about 17 tokens each
    train_rows: int = 1200  # per fine-tuning set
    test_rows: int = 200  # per test set
    steps: int = 2000
    batch_size: int = 32  # sequences per step, a multiple of 4
    sequence_length: int = 64  # tokens per sequence
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    warmup_steps: int = 50
    checkpoints: int = 8  # published, at log-spaced steps from `first_checkpoint` to `steps`
    first_checkpoint: int = 20
    save_every: int = 400  # steps between saved states, besides those at published checkpoints
    dtype: Dtype = Dtype.FLOAT32
    mesh: str = "data:-1"


def to_dict(config) -> dict:
    """A configuration as plain JSON-able values, every field present."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind, values: dict, *, where: str = "config"):
    """Builds the block `kind` from plain values; types are checked and not converted.

    Raises:
        ConfigError: an unknown field (with the nearest that exists) or a value of the wrong type.
    """
    import pydantic

    try:
        return _adapter(kind).validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        raise _readable(kind, error, where) from error


def checked(config):
    """The same configuration with every field's type checked: a Python file can set any value."""
    return from_dict(type(config), to_dict(config))


def override(config, path: str, text: str):
    """A copy of `config` with one field, named by its dotted `path`, set from the command line.

    A tuple is written with commas (`default,io`; empty: none), None as `none`. A tuple of blocks is
    selected from by task (`fine_tunes=paws,xsum`).

    Raises:
        ConfigError: an unknown field, or a text that is not of its type.
    """
    return _override(config, path.split("."), text, f"--config.{path}")


def _override(config, names, text, where):
    hints, name = typing.get_type_hints(type(config)), names[0]
    if name not in hints:
        raise _unknown(type(config), name, where)
    value = getattr(config, name)
    if len(names) > 1:
        if not dataclasses.is_dataclass(value):
            raise ConfigError(f"{name} has no fields of its own", where=where)
        changed = _override(value, names[1:], text, where)
    elif dataclasses.is_dataclass(value):
        fields = ", ".join(field.name for field in dataclasses.fields(value))
        raise ConfigError(f"{name} is a block of fields", where=where, hint=f"set one: {fields}")
    else:
        changed = _parse(hints[name], text, value, where)
    return dataclasses.replace(config, **{name: changed})


def _parse(hint, text, present, where):
    optional = isinstance(hint, types.UnionType)
    if optional:
        if text.lower() == "none":
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is not tuple:
        return _parse_one(hint, text, where)
    item, parts = typing.get_args(hint)[0], [part.strip() for part in text.split(",")]
    parts = [part for part in parts if part]
    if not dataclasses.is_dataclass(item):
        return tuple(_parse_one(item, part, where) for part in parts)
    by_task = {entry.task: entry for entry in present}
    for part in parts:
        if part not in by_task:
            hint = "entries of the file: " + ", ".join(by_task)
            raise ConfigError(f"no entry of the file has the task {part!r}", where=where, hint=hint)
    return tuple(by_task[part] for part in parts)


def _parse_one(hint, text, where):
    import pydantic

    try:
        return _adapter(hint).validate_strings(text)
    except pydantic.ValidationError as error:
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            raise misspelt(text, [str(member) for member in hint], where=where) from error
        raise ConfigError(f"expected {hint.__name__}, got {text!r}", where=where) from error


@functools.cache
def _adapter(kind):
    import pydantic

    return pydantic.TypeAdapter(kind)


def _readable(kind, error, where) -> ConfigError:
    """The first problem that pydantic reports, in this project's words."""
    first = error.errors(include_url=False)[0]
    *outer, name = first["loc"] or ("",)
    field = where + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        return _unknown(_block_at(kind, outer), name, field)
    if first["type"] == "enum":
        members = [
            part.strip("'") for part in first["ctx"]["expected"].replace(" or ", ", ").split(", ")
        ]
        return misspelt(first["input"], members, where=field)
    what = first["msg"].removeprefix("Input should be ").removesuffix(" in strict mode")
    what = what.replace("a valid array", "a tuple")
    return ConfigError(f"expected {what}, got {first['input']!r}", where=field)


def _block_at(kind, path):
    for name in path:
        if isinstance(name, str):
            kind = typing.get_type_hints(kind)[name]
            if typing.get_origin(kind) is tuple:
                kind = typing.get_args(kind)[0]
    return kind


def _unknown(kind, name, where) -> ConfigError:
    known = [field.name for field in dataclasses.fields(kind)]
    return misspelt(name, known, where=where, what=f"unknown field {name!r} of {kind.__name__}")


def misspelt(name, known, *, where: str, what: str | None = None) -> ConfigError:
    """The error for a name that is not among `known`, with the nearest one that is."""
    near = difflib.get_close_matches(str(name), [str(one) for one in known], n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    hint = f"{guess}one of " + ", ".join(map(str, known))
    return ConfigError(
        what or f"unknown {where.rpartition('.')[2]} {name!r}", where=where, hint=hint
    )


def require(condition: bool, what: str, *, where: str, hint: str | None = None) -> None:
    """Raises a `ConfigError` unless `condition` holds."""
    if not condition:
        raise ConfigError(what, where=where, hint=hint)


def require_fields(config, *names: str) -> None:
    """Raises a `ConfigError` on the first of these fields that is empty."""
    for name in names:
        hint = f"give --config.{name}=…"
        require(bool(getattr(config, name)), f"{name} is empty", where=f"config.{name}", hint=hint)


def validate_recipe(recipe: Recipe, where: str = "config.recipe") -> None:
    """Raises a `ConfigError` on the first invalid field of a recipe."""
    for name in (
        "rows",
        "epochs",
        "batch_size",
        "max_length",
        "clip_norm",
        "learning_rate",
        "lora_rank",
    ):
        value = getattr(recipe, name)
        valid = value is None or value > 0
        require(valid, f"{name} must be positive, got {value}", where=f"{where}.{name}")
    fraction = recipe.warmup_fraction
    require(
        0 <= fraction < 1,
        f"warmup_fraction must be in [0, 1), got {fraction}",
        where=f"{where}.warmup_fraction",
    )
    for name in ("lora_alpha", "lora_targets", "lora_rank_stabilised"):
        require(
            recipe.lora_rank is not None or getattr(recipe, name) is None,
            f"{name} has no effect where all parameters are trained",
            where=f"{where}.{name}",
            hint="set lora_rank",
        )


def validate_train_run(run: TrainRun, recipe: Recipe, where: str = "config.run") -> None:
    """Raises a `ConfigError` where a run does not fit the recipe that it is to carry out."""
    for name in ("micro_batch_size", "save_every", "log_every"):
        value = getattr(run, name)
        valid = value is None or value > 0
        require(valid, f"{name} must be positive, got {value}", where=f"{where}.{name}")
    require(
        recipe.batch_size % (run.micro_batch_size or 1) == 0,
        f"batch_size {recipe.batch_size} is not a multiple of micro_batch_size "
        f"{run.micro_batch_size}",
        where=f"{where}.micro_batch_size",
    )


def validate_scoring(scoring: Scoring, where: str = "config.scoring") -> None:
    """Raises a `ConfigError` on the first invalid field of how models are scored."""
    for name in ("rows", "max_new_tokens"):
        value = getattr(scoring, name)
        valid = value is None or value > 0
        require(valid, f"{name} must be positive, got {value}", where=f"{where}.{name}")
    require(
        scoring.bootstrap >= 0,
        f"bootstrap must not be negative, got {scoring.bootstrap}",
        where=f"{where}.bootstrap",
    )


def validate_score_run(run: ScoreRun, where: str = "config.run") -> None:
    """Raises a `ConfigError` on the first invalid field of how fast models are scored."""
    value = run.batch_tokens
    require(
        value is None or value > 0,
        f"batch_tokens must be positive, got {value}",
        where=f"{where}.batch_tokens",
    )


def validate_train(config: TrainConfig) -> None:
    """Raises a `ConfigError` on the first invalid field of a training run."""
    require_fields(config, "checkpoint", "workdir")
    hint = "give --config.recipe.task=…"
    require(bool(config.recipe.task), "task is empty", where="config.recipe.task", hint=hint)
    validate_recipe(config.recipe)
    validate_train_run(config.run, config.recipe)


def validate_score(config: ScoreConfig) -> None:
    """Raises a `ConfigError` on the first invalid field of a scoring run."""
    require_fields(config, "checkpoint", "tasks", "workdir", "shots")
    validate_shots(config.shots, "config.shots")
    validate_scoring(config.scoring)
    validate_score_run(config.run)


def validate_shots(shots: tuple[int, ...], where: str) -> None:
    """Raises a `ConfigError` on a negative number of shots."""
    for count in shots:
        require(count >= 0, f"shots must not be negative, got {count}", where=where)
