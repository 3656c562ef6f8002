"""Runs a study on a Ray cluster: one task for each checkpoint. Ray finds the place for it, and runs
it again where its worker or node is lost.

The tasks share the study's folder as any processes do (`study/queue.py`): a task that runs again
computes nothing twice, and the driver may die and be run again. This module computes nothing, and
leaves the driver's own devices alone.
"""

import contextlib
import os
import socket

from amuro_jax import libtpu
from amuro_jax.config import RayTask, StudyConfig
from amuro_jax.errors import AmuroError, ConfigError
from amuro_jax.logs import progress_bar
from amuro_jax.preemption import Preempted
from amuro_jax.storage import Storage
from amuro_jax.study import preflight

CONNECT_SECONDS = 10.0  # until a cluster's head has to answer
WAIT_SECONDS = 60.0  # between two looks at a cluster that has no room for any task


class StoppedError(Exception):
    """A worker got SIGTERM, and has saved what could be saved: Ray is to run its task again."""


def run(
    config: StudyConfig,
    revisions,
    report=lambda line: None,
    address: str = "",
    only: set[str] | None = None,
) -> list[str]:
    """Runs every cell that is not done; returns a line for each that failed.

    Args:
        report: gets lines about the data, and one for each checkpoint that is done.
        address: of a cluster (`auto`, `HOST:PORT`, `ray://HOST:PORT`); empty: $RAY_ADDRESS, else a
            cluster of this machine alone, for this run.
        only: names of the checkpoints (within the series); None: all.

    Raises:
        ConfigError: resources of another form.
        AmuroError: Ray is not installed, or there is no cluster at the address.
    """
    ray = _ray()
    needed = options(config.ray)
    lines = preflight.check(config, revisions).lines()
    for line in lines:
        report(line)
    names = [one.revision for one in revisions if only is None or one.revision in only]
    failures = []
    with _connected(ray, address), progress_bar(len(names), config.name, unit="checkpoint") as bar:
        task = ray.remote(**needed)(work)
        left = {
            task.remote(config, revisions, name, set(lines), os.getcwd()): name for name in names
        }
        while left:
            done, _ = ray.wait(list(left), num_returns=1, timeout=WAIT_SECONDS)
            if not done and not _has_room(ray, needed):
                report(f"no node of the cluster has {_needs(needed)}; waiting for one")
            for one in done:
                name = left.pop(one)
                try:
                    failures += ray.get(one)
                except ray.exceptions.RayError as error:
                    failures.append(f"{name}: {_first_line(error)}")
                bar.update(1)
                report(f"{name} is done, {len(names) - len(left)} of {len(names)}")
    return failures


def work(config: StudyConfig, revisions, name: str, said: set[str], folder: str) -> list[str]:
    """The task of one checkpoint, in a worker; returns a line for each cell that failed.

    Args:
        said: lines that the driver has printed already.
        folder: in which the driver runs; Ray's workers run where their node was started.

    Raises:
        StoppedError: SIGTERM came.
        AmuroError: a workdir within the driver's folder, which this node has not.
    """
    _enter(folder, config.workdir)
    libtpu.quiet_without_tpu()
    from amuro_jax.study import executor

    def report(line):
        if line not in said:
            print(f"{name}: {line}", flush=True)

    try:
        return executor.run(config, revisions, report, {name})
    except Preempted as error:
        raise StoppedError(f"{name}: SIGTERM") from error


def options(task: RayTask) -> dict:
    """Ray's options for a task.

    Raises:
        ConfigError: resources that are not `NAME:COUNT`, or negative numbers.
    """
    resources = {}
    for text in task.resources:
        name, _, count = text.rpartition(":")
        if not name or not count.replace(".", "", 1).isdigit():
            hint = "NAME:COUNT, as TPU-v5litepod-8-head:1"
            raise ConfigError(f"not a resource: {text}", where="config.ray.resources", hint=hint)
        resources[name] = float(count)
    for field in ("num_cpus", "num_gpus"):
        if getattr(task, field) < 0:
            raise ConfigError("a negative number", where=f"config.ray.{field}")
    # An accelerator is free again only when the process that used it ends.
    alone = {"max_calls": 1} if task.num_gpus or resources else {}
    return {
        "num_cpus": task.num_cpus,
        "num_gpus": task.num_gpus,
        "resources": resources,
        "max_retries": task.max_retries,
        "retry_exceptions": [StoppedError],
        "scheduling_strategy": "SPREAD",
        **alone,
    }


def _enter(folder, workdir):
    """Relative paths mean what they mean to the driver."""
    try:
        os.chdir(folder)
    except OSError as error:
        local = Storage.open(workdir).local
        if local is None or local.is_absolute():
            return
        raise AmuroError(
            f"{socket.gethostname()} has no folder {folder}, where the driver runs",
            where=f"config.workdir={workdir}",
            hint="give a workdir that all nodes share: an absolute path, or gs://…",
        ) from error


def _ray():
    try:
        import ray
    except ImportError as error:
        hint = "pip install 'amuro_jax[ray]'"
        raise AmuroError("Ray is not installed", where="--executor=ray", hint=hint) from error
    return ray


@contextlib.contextmanager
def _connected(ray, address):
    """A connection for the time of the block; one that was there before stays."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        if where := address or os.environ.get("RAY_ADDRESS", ""):
            _reach(where)
            ray.init(address=address or None)
        else:
            ray.init(include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        hint = "`ray status` on that machine says whether a cluster runs"
        what = f"no Ray cluster: {_first_line(error)}"
        raise AmuroError(what, where=f"--executor=ray:{address}", hint=hint) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address):
    """Raises a `ConnectionError` where nobody listens: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # `auto`, which Ray looks up on this machine
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"nobody answers at {host}:{port}: {error}") from error


def _has_room(ray, needed):
    """Whether some node could take a task, were it idle."""
    needs = _needs(needed)
    return any(
        all(node["Resources"].get(name, 0) >= count for name, count in needs.items())
        for node in ray.nodes()
        if node["Alive"]
    )


def _needs(needed):
    needs = {"CPU": needed["num_cpus"], "GPU": needed["num_gpus"], **needed["resources"]}
    return {name: count for name, count in needs.items() if count}


def _first_line(error):
    cause = getattr(error, "cause", None) or error  # of an exception in a task
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
