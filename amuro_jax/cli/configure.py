"""The `--config=FILE.py[:ARGUMENT]` flag of every verb that takes a run configuration, with typed
`--config.field=value` overrides.
"""

import dataclasses
import importlib.util
import re
import sys
import typing

from absl import flags

from amuro_jax import config as configuration
from amuro_jax.cli import config_files
from amuro_jax.errors import AmuroError, ConfigError

# `--config.a.b=value` travels through absl as `--config_field=a.b=value`.
_FIELD = "config_field"


def define_config() -> None:
    """Declares `--config`: a Python file with `get_config()`."""
    flags.DEFINE_string(
        "config",
        None,
        "Configuration file (Python, with get_config(), or get_config(argument) for "
        "FILE.py:ARGUMENT); override fields with --config.field=value.",
    )
    flags.DEFINE_multi_string(_FIELD, [], "The long form of --config.field=value: field=value.")


def define_cluster() -> None:
    """Declares `--cluster` and `--cluster_timeout`: the other processes of a run."""
    text = (
        "Processes that work together: auto (Cloud TPU, GKE, Slurm, Open MPI, Kubernetes jobs), or "
        "HOST:PORT,COUNT,NUMBER on each; alone: none; empty: those of the Cloud TPU, GKE, Slurm or "
        "Open MPI job that this process is one of, else none."
    )
    flags.DEFINE_string("cluster", "", text)
    text = "Seconds in which all processes must have come."
    flags.DEFINE_float("cluster_timeout", 300.0, text)


def join_cluster() -> None:
    """Makes this process one of the run that the flags, or its environment, name."""
    from amuro_jax import processes

    processes.join(flags.FLAGS.cluster, flags.FLAGS.cluster_timeout)


def define_cache() -> None:
    """Declares `--cache`."""
    text = "Cache of downloads and conversions; default $AMURO_CACHE or ~/.cache/amuro_jax."
    flags.DEFINE_string("cache", "", text)


def define_checkpoint() -> None:
    """Declares `--checkpoint` of a verb that works on a converted folder."""
    text = "Converted or fine-tuned folder (or any name that `amuro convert` takes)."
    flags.DEFINE_string("checkpoint", "", text)


def require_flags(*names: str, hint: str | None = None) -> None:
    """Raises a `ConfigError` on the first of these flags that is empty."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise ConfigError(f"{name} is empty", where=f"--{name}", hint=hint)


def say_damaged(*stores) -> None:
    """Says on the standard error which finished cells of stores cannot be used, after their index
    was read.
    """
    for store in stores:
        if store.damaged:
            key, why = min(store.damaged.items())
            print(
                f"{store.storage.url}: {len(store.damaged):,} damaged cells are left out; the "
                f"first: {key}: {why}",
                file=sys.stderr,
            )


def config_from_flags(kind, default=None):
    """The configuration that file and flags make together.

    Args:
        default: used without a file; None: a file is needed.

    Raises:
        ConfigError: no file, one that cannot be loaded or makes another kind of configuration, an
            unknown field, or a value of the wrong type.
    """
    path = flags.FLAGS.config
    if path is None and default is None:
        hint = "`amuro configs` lists those that come with the package"
        raise ConfigError("no configuration", where="--config", hint=hint)
    config = default if path is None else load_config(path, kind)
    for text in getattr(flags.FLAGS, _FIELD):
        name, _, value = text.partition("=")
        config = configuration.override(config, name, value)
    return config


def load_config(path: str, kind):
    """What `get_config` of a configuration file returns, its types checked.

    Args:
        path: `FILE.py` or `FILE.py:ARGUMENT`; a file of the package has its name in `configs/`
            (`study/lab.py`).

    Raises:
        ConfigError: the file is missing, fails, or makes another kind of configuration.
    """
    name, _, argument = path.partition(".py:")
    name = name if name.endswith(".py") else f"{name}.py"
    file = config_files.find(name)
    if file is None:
        hint = "a path counts from the folder you are in; `amuro configs` lists the package's own"
        raise ConfigError(f"cannot be loaded: no such file: {name}", where="--config", hint=hint)
    spec = importlib.util.spec_from_file_location("amuro_config", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
    except AmuroError:
        raise
    except Exception as error:
        what = f"cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigError(what, where=f"--config={path}") from error
    if not isinstance(config, kind):
        got = type(config).__name__
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(one.__name__ for one in kinds)
        raise ConfigError(f"the file makes a {got}, this verb takes a {expected}", where="--config")
    return configuration.checked(config)


def parse_flags(argv: list[str], files: bool = False) -> list[str]:
    """absl's parser, with a readable error for a flag that does not exist.

    Args:
        files: arguments that are no flags are names of files.

    Raises:
        ConfigError: an unknown flag, or a stray argument.
    """
    try:
        rest = flags.FLAGS([argv[0], *_long_forms(argv[1:])])
    except flags.Error as error:
        hint = "--help shows the flags"
        raise ConfigError(str(error).strip(), where="command line", hint=hint) from error
    if len(rest) > 1 and not files:
        raise ConfigError(
            f"unexpected argument {rest[1]!r}",
            where="command line",
            hint="flags look like --name=value",
        )
    return rest


def _long_forms(arguments: list[str]) -> list[str]:
    changed, waiting = [], None
    for argument in arguments:
        if waiting is not None:  # `--config.field value`; a field alone is true
            own = argument.startswith("--")
            changed.append(f"--{_FIELD}={waiting}={'true' if own else argument}")
            waiting = None
            if not own:
                continue
        match = re.fullmatch(r"--?config\.([\w.]+)(=.*)?", argument, re.DOTALL)
        if match is None:
            changed.append(argument)
        elif match[2] is None:
            waiting = match[1]
        else:
            changed.append(f"--{_FIELD}={match[1]}{match[2]}")
    return changed if waiting is None else [*changed, f"--{_FIELD}={waiting}=true"]


def describe_fields(kind, prefix: str = "--config") -> list[str]:
    """A line per field of a configuration: flag, type and default."""
    lines, hints = [], typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(hints[field.name]):
            lines += describe_fields(hints[field.name], name)
            continue
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        kind_of = getattr(hints[field.name], "__name__", str(hints[field.name]))
        if kind_of == "tuple" or "[" in str(hints[field.name]):
            kind_of = str(hints[field.name]).replace("amuro_jax.config.blocks.", "")
        lines.append(f"  {name}={'' if default is None else default}  ({kind_of})")
    return lines


def split_names(text: str) -> tuple[str, ...]:
    """A plain flag with commas: `"a, b"` → `("a", "b")`; the empty string gives no names."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
