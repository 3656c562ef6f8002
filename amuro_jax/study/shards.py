"""Which part of a study's checkpoints a process takes, where a scheduler gives each its number."""

import os
import re

from amuro_jax.errors import ConfigError

AUTO = "auto"


def parse(text: str, environ=os.environ) -> tuple[int, int]:
    """(index, count) of a part, counted from 0.

    Args:
        text: `2/8`, or `auto`: from a Slurm array (SLURM_ARRAY_TASK_ID, its MIN, STEP and COUNT) or
            an Indexed Job of Kubernetes (JOB_COMPLETION_INDEX, and the count in JOB_COMPLETIONS,
            which the Job's manifest has to set: Kubernetes does not).

    Raises:
        ConfigError: not of this form, beyond the count, or nothing in the environment.
    """
    if text == AUTO:
        text = _from_environment(environ)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 0 <= index < count:
        raise ConfigError(
            f"not a part of a study: {text!r}",
            where="--shard",
            hint="INDEX/COUNT from 0/COUNT on, as 0/8 … 7/8, or auto",
        )
    return index, count


def _from_environment(environ):
    defaults = {"ID": "", "MIN": "0", "STEP": "1", "COUNT": ""}
    array = [environ.get(f"SLURM_ARRAY_TASK_{name}", text) for name, text in defaults.items()]
    if all(map(str.isdigit, array)):
        index, first, step, count = map(int, array)
        number, rest = divmod(index - first, step or 1)
        if not rest:
            return f"{number}/{count}"
    if (index := environ.get("JOB_COMPLETION_INDEX")) and environ.get("JOB_COMPLETIONS"):
        return f"{index}/{environ['JOB_COMPLETIONS']}"
    raise ConfigError(
        "neither a Slurm array nor an Indexed Job says which part this is",
        where="--shard=auto",
        hint="set SLURM_ARRAY_TASK_ID with _MIN and _COUNT, or JOB_COMPLETION_INDEX with "
        "JOB_COMPLETIONS; or give --shard=INDEX/COUNT",
    )
