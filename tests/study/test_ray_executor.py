"""A study on a Ray cluster: two nodes on this machine, one of which is killed while it works."""

import collections
import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amuro_jax import libtpu
from amuro_jax.config import RayTask
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import AmuroError, ConfigError
from amuro_jax.preemption import Preempted
from amuro_jax.results.store import Store
from amuro_jax.study import executor, ray_executor

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
DRIVER = """
import sys, types
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.study import ray_executor
from tests.study.conftest import study_of
checkpoints, data, workdir, address = sys.argv[1:]
config = study_of(types.SimpleNamespace(checkpoints=checkpoints, data=data), workdir)
revisions = list_revisions(config.suite)
failures = ray_executor.run(config, revisions, lambda line: print(line, flush=True), address)
sys.exit(3 if failures else 0)
"""


@contextlib.contextmanager
def two_nodes():
    """A cluster of two nodes, of which the second can be removed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.add_node(include_dashboard=False, **NODE)
        yield cluster, cluster.add_node(**NODE)
    finally:
        cluster.shutdown()


def events(workdir) -> list[tuple[str, str]]:
    return [(one["event"], one["key"]) for one in Store.open(workdir).read_log()]


@pytest.mark.slow
def test_a_node_is_lost_and_the_study_is_finished(series, tiny_study, root, monkeypatch):
    for name, value in {"PYTHONPATH": str(root), "XLA_FLAGS": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # at 15 they hardly run beside other tests
    workdir = Path(tiny_study.workdir)
    with two_nodes() as (cluster, second):
        command = [sys.executable, "-c", DRIVER, series.checkpoints, series.data, workdir.name]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # A relative workdir, in another folder than the nodes'.
        command = [*map(str, command), cluster.address]
        driver = subprocess.Popen(command, cwd=workdir.parent, **pipes)
        while driver.poll() is None and len(claimed(workdir)) < 2:
            time.sleep(0.05)  # until each node has its checkpoint
        cluster.remove_node(second, allow_graceful=False)
        out, errors = driver.communicate(timeout=600)
    assert driver.returncode == 0, out + errors
    assert "2 of 2" in out
    seen = collections.Counter(events(workdir))
    finished = [key for event, key in seen if event == "finished"]
    assert all(seen["finished", key] == 1 for key in finished)
    # 2 trainings and 12 scores; nothing is left for the engine without Ray
    assert len(finished) == 14
    before = len(events(workdir))
    assert executor.run(tiny_study, list_revisions(tiny_study.suite)) == []
    assert len(events(workdir)) == before


def claimed(workdir) -> set[str]:
    folder = os.path.join(workdir, "claims")
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


def test_a_task_that_is_stopped_is_to_run_again(tiny_study, monkeypatch):
    """Ray repeats a task for StoppedError, not for an error of the study."""

    def stopped(*_):
        raise Preempted

    monkeypatch.setattr(executor, "run", stopped)
    with pytest.raises(ray_executor.StoppedError, match="step1"):
        ray_executor.work(tiny_study, [], "step1", set(), os.getcwd())
    assert ray_executor.options(RayTask())["retry_exceptions"] == [ray_executor.StoppedError]


def test_a_task_takes_one_checkpoint_and_repeats_no_line(tiny_study, monkeypatch, capsys):
    def run(config, revisions, report, only):
        report("said before")
        report("new")
        return [str(only)]

    monkeypatch.setattr(executor, "run", run)
    assert ray_executor.work(tiny_study, [], "step1", {"said before"}, ".") == ["{'step1'}"]
    assert capsys.readouterr().out == "step1: new\n"


def test_a_worker_looks_for_no_tpu_where_none_is(tiny_study, monkeypatch):
    """Ray's workers do not come through the command line, which keeps libtpu quiet."""
    for name in (*libtpu.NO_TPU, "JAX_PLATFORMS"):
        monkeypatch.setenv(name, "")  # so that it is what it was after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(executor, "run", lambda *_: [dict(os.environ)])
    (seen,) = ray_executor.work(tiny_study, [], "step1", set(), os.getcwd())
    assert libtpu.NO_TPU.items() <= seen.items()


def test_relative_paths_are_those_of_the_driver(tiny_study, tmp_path, monkeypatch):
    """A worker's own folder is the one where its node was started."""
    monkeypatch.chdir(os.getcwd())  # so that it is the same after the test
    monkeypatch.setattr(executor, "run", lambda *_: [os.getcwd()])
    (tmp_path / "driver").mkdir()
    asked = ([], "step1", set(), str(tmp_path / "driver"))
    assert ray_executor.work(tiny_study, *asked) == [str(tmp_path / "driver")]
    gone = (*asked[:-1], str(tmp_path / "of another machine"))
    assert ray_executor.work(tiny_study, *gone)  # its workdir is absolute
    with pytest.raises(AmuroError, match="has no folder .*of another machine") as caught:
        ray_executor.work(dataclasses.replace(tiny_study, workdir="work/study"), *gone)
    assert "absolute path" in caught.value.hint


def test_resources_of_a_task():
    task = RayTask(4, 2, ("TPU-v5litepod-8-head:1", "TPU:8"), max_retries=3)
    made = ray_executor.options(task)
    assert made["resources"] == {"TPU-v5litepod-8-head": 1.0, "TPU": 8.0}
    assert (made["num_cpus"], made["num_gpus"], made["max_retries"]) == (4, 2, 3)
    assert made["max_calls"] == 1
    assert "max_calls" not in ray_executor.options(RayTask())
    with pytest.raises(ConfigError, match="not a resource: TPU"):
        ray_executor.options(RayTask(resources=("TPU",)))
    with pytest.raises(ConfigError, match="negative"):
        ray_executor.options(dataclasses.replace(task, num_gpus=-1.0))


def test_without_ray_it_says_how_to_get_it(tiny_study, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AmuroError, match="Ray is not installed") as caught:
        ray_executor.run(tiny_study, [])
    assert "amuro_jax[ray]" in caught.value.hint


class FakeRay:
    """What the driver asks of Ray, answered at once: three tasks, of which one is lost for good."""

    class exceptions:
        class RayError(Exception):
            pass

    def __init__(self, *answers):
        self.answers, self.options = dict(enumerate(answers)), None
        self.asked = []

    def is_initialized(self):
        return True

    def remote(self, **options):
        self.options = options
        ray = self

        class Task:
            def remote(self, config, revisions, name, said, folder):
                assert folder == os.getcwd()
                ray.asked.append(name)
                return len(ray.asked) - 1

        return lambda function: Task()

    def wait(self, left, num_returns, timeout):
        return left[:1], left[1:]

    def get(self, one):
        answer = self.answers[one]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_what_fails_in_one_task_does_not_cost_the_others(tiny_study, monkeypatch):
    lost = FakeRay.exceptions.RayError("the node died\nand more")
    fake, said = FakeRay(lost, ["a cell failed"]), []
    monkeypatch.setattr(ray_executor, "_ray", lambda: fake)
    revisions = list_revisions(tiny_study.suite)
    failures = ray_executor.run(tiny_study, revisions, said.append)
    assert fake.asked == [one.revision for one in revisions]
    assert failures == [f"{fake.asked[0]}: the node died", "a cell failed"]
    assert [line for line in said if " of 2" in line][-1].endswith("2 of 2")
    only = {fake.asked[1]}
    fake = FakeRay([])
    monkeypatch.setattr(ray_executor, "_ray", lambda: fake)
    assert ray_executor.run(tiny_study, revisions, only=only) == [] and set(fake.asked) == only


def test_an_address_where_nobody_listens_is_said_at_once():
    """Ray itself goes on trying for more than five minutes."""
    ray = pytest.importorskip("ray")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(AmuroError, match="no Ray cluster: nobody answers at 127.0.0.1"):
            with ray_executor._connected(ray, address):
                pass
