"""One run of several processes (the hosts of a pod), each with devices of its own: joining them,
and what only the first does.

All processes run the same program on the same input; each of them gets all results.
"""

import atexit
import os
import re
import secrets
import sys
import threading
import urllib.request

import jax
import numpy as np

from amuro_jax import peers, preemption
from amuro_jax.errors import AmuroError, ConfigError

PATIENCE = 300.0  # seconds for which a process waits for the others at the start
ALONE = "alone"
UNIT = 1 << 20  # of numbers that are compared between processes in 32 bits
TEXT_BYTES = 1024  # of a text that process 0 tells the others
# Cloud TPU's own list of a slice's hosts, separated by commas; asked where a TPU is attached.
ENDPOINTS = (
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
    "worker-network-endpoints"
)
_METADATA_SECONDS = 5.0


def join(cluster: str = "", patience: float | None = None) -> None:
    """Makes this process one of a run; to be called before anything asks for devices.

    A failure of one process then ends all of them (`peers.py`), and SIGTERM to any stops all
    (`preemption.py`).

    Args:
        cluster: "": of the run that the environment tells of (Cloud TPU, GKE, Slurm, Open MPI),
            else alone; "alone": alone wherever it runs; "auto": as jax finds out, and an error
            where it does not; or `HOST:PORT,COUNT,NUMBER`: address of process 0, how many there
            are, and which one this is.
        patience: seconds to wait for the others; None: PATIENCE.

    Raises:
        ConfigError: a text of another form, or no such number.
    """
    patience = PATIENCE if patience is None else patience
    if cluster == ALONE or not (cluster or announced()):
        return
    arguments = {} if cluster in ("", "auto") else _parse(cluster)
    where = arguments.get("coordinator_address", "the address that its environment names")
    # Not jax's own handler, which swallows the signal where nobody asks for it.
    jax.config.update("jax_enable_preemption_service", False)
    with _deadline(patience, where, arguments):
        try:
            # The deadline speaks first: jax ends the process with a trace of its own.
            limit = int(2 * patience) + 60
            jax.distributed.initialize(**arguments, initialization_timeout=limit)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"no cluster found: {error}",
                where=f"--cluster={cluster}",
                hint="name it: --cluster=HOST:PORT,COUNT,NUMBER",
            ) from error
        if jax.process_count() > 1:
            _watch_each_other(arguments.get("coordinator_address"))


def _parse(cluster):
    match = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", cluster)
    if not match or not int(match[3]) < int(match[2]):
        hint = "for example --cluster=10.0.0.2:8476,4,0 on the first of four hosts"
        raise ConfigError(
            "not HOST:PORT,COUNT,NUMBER with NUMBER below COUNT, nor auto, nor alone",
            where=f"--cluster={cluster}",
            hint=hint,
        )
    names = ("coordinator_address", "num_processes", "process_id")
    return dict(zip(names, (match[1], int(match[2]), int(match[3])), strict=True))


def announced(environment=os.environ, endpoints=None) -> bool:
    """Whether the environment says that this is one process of several.

    Args:
        endpoints: a function that gives Cloud TPU's list of a slice's hosts; None: asked for where
            a TPU is attached.
    """
    sizes = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "MEGASCALE_NUM_SLICES")
    step = "SLURM_STEP_NODELIST" in environment  # else a shell of the job, not started by srun
    for name in sizes if step else sizes[1:]:
        if environment.get(name, "1").isdigit() and int(environment.get(name, "1")) > 1:
            return True
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):  # GKE
        if name in environment:
            return "," in environment[name]
    if "TPU_SKIP_MDS_QUERY" in environment or not (endpoints or _has_tpu()):
        return False
    return "," in (endpoints or _endpoints)()


def _has_tpu():
    return any(os.path.exists(path) for path in ("/dev/accel0", "/dev/vfio/0"))


def _endpoints():
    request = urllib.request.Request(ENDPOINTS, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as answer:
            return answer.read().decode()
    except OSError:
        return ""


class _deadline:  # noqa: N801, a context manager
    """Ends the process with an error where the block takes longer."""

    def __init__(self, seconds, where, arguments):
        count = arguments.get("num_processes")
        them = f"{count} processes" if count else "the other processes"
        self._text = f"waiting for {them} at {where} (timeout {seconds:.0f} s)"
        self._timer = threading.Timer(seconds, self._give_up)
        self._timer.daemon = True

    def __enter__(self):
        print(self._text, file=sys.stderr, flush=True)
        self._timer.start()

    def __exit__(self, *_):
        self._timer.cancel()

    def _give_up(self):
        error = AmuroError(
            f"they did not come: {self._text}",
            where="--cluster",
            hint="start all processes, with one address that each of them can reach; "
            "--cluster_timeout is how long they wait for each other",
        )
        print(f"amuro: {error}", file=sys.stderr, flush=True)
        os._exit(2)


def _watch_each_other(address):
    """Starts the sentinels: the first one's address is told to the others."""
    number, count = jax.process_index(), jax.process_count()
    if number == 0:
        token = secrets.token_hex(16)
        first = peers.start(number, count, token)
        host = (address or _coordinator()).rpartition(":")[0]
        share(f"{host}:{first.port} {token}")
    else:
        address, token = share("").split(" ")
        peers.start(number, count, token, address)
    preemption.watch()
    atexit.register(peers.current.leave)


def _coordinator():
    """Address of process 0 as jax found it out."""
    from jax._src.distributed import global_state  # it is published nowhere else

    return global_state.coordinator_address


def share(text: str) -> str:
    """The text of process 0, of at most TEXT_BYTES bytes, on all processes."""
    if alone():
        return text
    from jax.experimental import multihost_utils

    data = text.encode().ljust(TEXT_BYTES, b"\0")
    if len(data) > TEXT_BYTES:
        raise ValueError(f"longer than {TEXT_BYTES} bytes: {text}")
    sent = multihost_utils.broadcast_one_to_all(np.frombuffer(data, np.uint8))
    return bytes(np.asarray(sent, np.uint8)).rstrip(b"\0").decode()


def is_writer() -> bool:
    """True in the one process that writes files and prints."""
    return jax.process_index() == 0


def alone() -> bool:
    """Whether this is the run's only process."""
    return jax.process_count() == 1


def meet(what: str) -> None:
    """Returns when all processes are here: what process 0 wrote before is there for all."""
    if not alone():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"amuro_jax: {what}")


def least(size: int) -> int:
    """The smallest `size` (in bytes) of all processes, in steps of UNIT, so that all decide alike.

    Itself where there is one process.
    """
    if alone():
        return size
    return int(np.min(_gathered(np.int32(size // UNIT)))) * UNIT


def everywhere(value: bool) -> bool:
    """Whether `value` is true on all processes."""
    return value if alone() else bool(np.all(_gathered(np.bool_(value))))


def _gathered(value):
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(value)


def decide(value):
    """What process 0 says, on all processes: their disks may not show the same.

    Args:
        value: a bool, or an int of 32 bits.
    """
    if alone():
        return value
    from jax.experimental import multihost_utils

    return type(value)(multihost_utils.broadcast_one_to_all(np.int32(value)))


def put(array, sharding):
    """A host array that every process holds, on the devices of `sharding`, wherever they are."""
    if alone():
        return jax.device_put(array, sharding)
    array = np.asarray(array)  # device_put would compare it between all processes first
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def rows_of(count: int, sharding) -> np.ndarray:
    """Numbers of the rows, of `count`, that lie on devices of this process, ascending."""
    parts = sharding.addressable_devices_indices_map((count,)).values()
    return np.unique(np.concatenate([np.arange(count)[part] for part in parts]))


def place_rows(rows: np.ndarray, array: np.ndarray, count: int, sharding):
    """An array of `count` rows over all processes, of which this one has made its own.

    Args:
        rows: numbers of the rows that `array` holds, as `rows_of` gives them.
    """
    first = np.searchsorted(rows, np.arange(count + 1))  # row → place in `array`
    shape = (count, *array.shape[1:])

    def part(index):
        start, stop, _ = index[0].indices(count)
        return array[first[start] : first[stop]][(slice(None), *index[1:])]

    return jax.make_array_from_callback(shape, sharding, part)
