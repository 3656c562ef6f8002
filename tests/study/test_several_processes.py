"""Two processes do a study as one program: the cells of one alone; SIGTERM ends both, releases the
claim, and the same command goes on.
"""

import collections
import signal
import time

import numpy as np
import pytest

from amuro_jax.preemption import PREEMPTED
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study import queue
from tests.test_processes import finish, start, together

pytestmark = pytest.mark.slow  # each test starts processes that compile
SCRIPT = """
import dataclasses, sys, types
from amuro_jax import processes
cluster, checkpoints, data, workdir = sys.argv[1:]
processes.join(cluster)
from amuro_jax.cli.main import _report_errors
from amuro_jax.config import ScoreRun, TrainRun
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.study import executor
from tests.study.conftest import study_of
mesh = "alone" not in cluster
config = study_of(types.SimpleNamespace(checkpoints=checkpoints, data=data), workdir)
if mesh:
    config = dataclasses.replace(
        config, train_run=TrainRun("fsdp:2", save_every=2), score_run=ScoreRun("data:2")
    )
def work():
    say = print if processes.is_writer() else lambda _: None
    failures = executor.run(config, list_revisions(config.suite), report=say)
    sys.exit(3 if failures else 0)
_report_errors("study", work)
"""


def command(series, workdir):
    return ["-c", SCRIPT, "CLUSTER", str(series.checkpoints), str(series.data), str(workdir)]


def finished(workdir):
    log = Store.open(workdir).read_log()
    return collections.Counter(line["key"] for line in log if line["event"] == "finished")


@pytest.mark.slow
def test_two_processes_do_a_study_as_one(root, series, tmp_path):
    options = {"devices": 1, "AMURO_CACHE": str(tmp_path / "cache")}
    pair = start(root, *command(series, tmp_path / "two"), **options)
    while sum(finished(tmp_path / "two").values()) < 3:
        assert all(process.poll() is None for process in pair), finish(pair)
        time.sleep(0.02)
    pair[1].send_signal(signal.SIGTERM)  # in the midst of the first checkpoint
    ended = finish(pair)
    assert [status for status, *_ in ended] == [PREEMPTED] * 2, ended
    assert not queue.holders(Storage.open(tmp_path / "two"))
    together(root, *command(series, tmp_path / "two"), **options)
    alone = [part.replace("CLUSTER", "alone") for part in command(series, tmp_path / "one")]
    together(root, *alone, count=1, **options)
    one, two = (Store.open(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert set(finished(tmp_path / "two").values()) == {1}
    for key in one.keys():
        left, right = one.read(key), two.read(key)
        assert left.metrics.keys() == right.metrics.keys()
        for name in ("value", "loss"):
            if name in left.metrics:
                np.testing.assert_allclose(left.metrics[name], right.metrics[name], atol=1e-4)
    assert not list((tmp_path / "two" / "models").glob("*/params"))
