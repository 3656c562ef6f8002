"""The `--config=FILE.py` flag of every verb that takes a run configuration, with typed
`--config.field=value` overrides.
"""

import dataclasses
import re

from absl import flags
from ml_collections import config_flags

from amuro_jax import config as run_config
from amuro_jax.errors import ConfigError


def define_config(default: str | None = None) -> None:
    """Declares `--config`: a Python file with `get_config()`.

    `default` is used where the flag is not given.
    """
    config_flags.DEFINE_config_file(
        "config",
        default,
        "Configuration file (Python, with get_config()); override fields with --config.field=value.",
    )


def define_cluster() -> None:
    """Declares `--cluster`: the other processes of a run over several hosts."""
    text = "Processes that score together: auto (Cloud TPU, GKE, Slurm, Open MPI), or HOST:PORT,COUNT,NUMBER on each; empty: this one alone."
    flags.DEFINE_string("cluster", "", text)


def given_config(kind):
    """The configuration that file and flags make together.

    Raises:
        ConfigError: no file given, or one that makes another kind of configuration.
    """
    config = flags.FLAGS.config
    if config is None:
        raise ConfigError(
            "no configuration given",
            where="--config",
            hint="for example --config=configs/… ; see the files there",
        )
    if isinstance(config, kind):
        return config
    if dataclasses.is_dataclass(config):
        raise ConfigError(
            f"the file makes a {type(config).__name__}, this verb takes a {kind.__name__}",
            where="--config",
        )
    try:
        # ml_collections keeps the error of a file it could not load, and raises it at the first use
        _ = config.field
    except Exception as error:
        raise _not_loaded(error) from error
    raise ConfigError(
        f"get_config() returned a {type(config).__name__}, not a {kind.__name__}", where="--config"
    )


def _not_loaded(error):
    hint = "a path counts from the folder you are in; the project's own files are in configs/ of its checkout"
    return ConfigError(
        f"cannot be loaded: {error}",
        where="--config",
        hint=hint if "No such file" in str(error) else None,
    )


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with a readable error for a field or value that does not fit.

    Raises:
        ConfigError: an unknown flag or field, a value of another type, or a stray argument.
    """
    try:
        rest = flags.FLAGS(argv)
    except KeyError as error:
        found = re.search(r"Field (\w+) not found on dataclass <class '[\w.]*\.(\w+)'>", str(error))
        if not found:
            raise
        known = [field.name for field in dataclasses.fields(getattr(run_config, found[2]))]
        raise ConfigError(
            f"unknown field {found[1]!r} of {found[2]}",
            where="--config",
            hint="known fields: " + ", ".join(known),
        ) from error
    except (
        OSError
    ) as error:  # a file that could not be loaded, met by the first --config.field=value
        raise _not_loaded(error) from error
    except flags.Error as error:
        raise ConfigError(
            str(error).strip(), where="command line", hint="--help shows the flags"
        ) from error
    if len(rest) > 1:
        raise ConfigError(
            f"unexpected argument {rest[1]!r}",
            where="command line",
            hint="flags look like --name=value",
        )
    return rest
