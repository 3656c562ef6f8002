"""One run of several processes (the hosts of a pod), each with devices of its own: joining them,
and what only the first does.

All processes run the same program on the same input; each of them gets all results.
"""

import re
import sys

import jax
import numpy as np

from amuro_jax.errors import ConfigError

PATIENCE = 300  # seconds
UNIT = 1 << 20  # of numbers that are compared between processes in 32 bits


def join(cluster: str) -> None:
    """Makes this process one of a run; to be called before anything asks for devices.

    Args:
        cluster: "": it runs alone; "auto": where jax finds the others by itself (Cloud TPU, GKE,
            Slurm, Open MPI); or `HOST:PORT,COUNT,NUMBER`: address of process 0, how many there are,
            and which one this is.

    Raises:
        ConfigError: a text of another form, or no such number.
    """
    if not cluster:
        return
    if cluster == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ConfigError(
                f"no cluster detected: {error}",
                where="--cluster=auto",
                hint="name it: --cluster=HOST:PORT,COUNT,NUMBER",
            ) from error
        return
    match = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", cluster)
    if not match or not int(match[3]) < int(match[2]):
        hint = "for example --cluster=10.0.0.2:8476,4,0 on the first of four hosts"
        raise ConfigError(
            "not HOST:PORT,COUNT,NUMBER with NUMBER below COUNT, nor auto",
            where=f"--cluster={cluster}",
            hint=hint,
        )
    # jax ends the process itself, with a trace of its own, when the others do not come: so this
    # line stands before it.
    print(
        f"process {match[3]}: waiting for {match[2]} processes at {match[1]} "
        f"(timeout {PATIENCE} s)",
        file=sys.stderr,
        flush=True,
    )
    jax.distributed.initialize(
        match[1], int(match[2]), int(match[3]), initialization_timeout=PATIENCE
    )


def is_writer() -> bool:
    """True in the one process that writes files and prints."""
    return jax.process_index() == 0


def alone() -> bool:
    """Whether this is the run's only process."""
    return jax.process_count() == 1


def least(size: int) -> int:
    """The smallest `size` (in bytes) of all processes, in steps of UNIT, so that all decide alike.

    Itself where there is one process.
    """
    if alone():
        return size
    from jax.experimental import multihost_utils

    return int(np.min(multihost_utils.process_allgather(np.int32(size // UNIT)))) * UNIT


def decide(value: bool) -> bool:
    """What process 0 says, on all processes: their disks may not show the same."""
    if alone():
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.bool_(value)))


def put(array, sharding):
    """A host array that every process holds, on the devices of `sharding`, wherever they are."""
    if alone():
        return jax.device_put(array, sharding)
    array = np.asarray(array)  # device_put would compare it between all processes first
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
