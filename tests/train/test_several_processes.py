"""Several real processes train together: the same losses and parameters as one alone, one fate, and
one step behind which they stop.
"""

import dataclasses
import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from amuro_jax import checkpoint, sharding
from amuro_jax.logs import read_metrics
from amuro_jax.models.parameters import flatten, init_params
from amuro_jax.peers import TRY_AGAIN
from amuro_jax.preemption import PREEMPTED
from amuro_jax.train.fine_tune import fine_tune
from amuro_jax.train.states import TrainingStates
from tests.test_processes import finish, start, together
from tests.train.tiny import MODEL, RECIPE, RUN, examples

pytestmark = pytest.mark.slow  # each test starts processes that compile
SAVING = dataclasses.replace(RUN, save_every=4)
# What happens to one of the processes at which step, from the command line.
SCRIPT = """
import dataclasses, json, sys, time
from amuro_jax import processes
cluster, mesh, workdir, epochs, bad = sys.argv[1:]
processes.join(cluster)
import jax, numpy as np
from amuro_jax import checkpoint, sharding
from amuro_jax.cli.main import _report_errors
from amuro_jax.errors import DataError
from amuro_jax.models.parameters import init_params
from amuro_jax.train import batches, fine_tune as module
from tests.train.test_several_processes import SAVING
from tests.train.tiny import MODEL, RECIPE, examples

load = batches.Batches.load
def failing(self, step, mine=None):
    if step == 5 and str(jax.process_index()) == bad:
        raise DataError("row 7 is not text", where="rows.jsonl:7")
    time.sleep(0.05)  # a run of some seconds on any machine, so that signals find it at work
    return load(self, step, mine)
batches.Batches.load = failing

def work():
    params = jax.tree.map(np.asarray, init_params(MODEL, 0))
    recipe = dataclasses.replace(RECIPE, epochs=int(epochs))
    run = dataclasses.replace(SAVING, step_seconds=float(bad) if "." in bad else None)
    done = module.fine_tune(
        params, MODEL, examples(), recipe, run, mesh=sharding.make_mesh(mesh), workdir=workdir
    )
    checkpoint.save_tree(workdir + "/final", done.params)
    print(json.dumps([done.loss, done.tokens, done.steps]))

_report_errors("train", work)
"""


def command(workdir, mesh="data:2,fsdp:2", epochs=2, bad=""):
    return ["-c", SCRIPT, "CLUSTER", mesh, str(workdir), str(epochs), bad]


def final(workdir):
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), init_params(MODEL, 0)
    )
    return flatten(checkpoint.restore_tree(workdir / "final", target))


def close(left, right, atol=2e-6):
    for name, leaf in left.items():
        np.testing.assert_allclose(leaf, right[name], atol=atol, rtol=0, err_msg=name)


def losses(workdir):
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return np.array([row["loss"] for row in rows])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    done = fine_tune(init_params(MODEL, 0), MODEL, examples(), RECIPE, SAVING, workdir=workdir)
    return workdir, done


FOUR = pytest.param(4, 1, "data:2,fsdp:2", marks=pytest.mark.slow)


@pytest.mark.parametrize("count,devices,mesh", [(2, 2, "fsdp:2,tensor:2"), FOUR])
def test_processes_together_train_as_one_alone(root, tmp_path, alone, count, devices, mesh):
    workdir, done = alone
    outputs = together(root, *command(tmp_path, mesh), count=count, devices=devices)
    told = [json.loads(text.splitlines()[-1]) for text in outputs]
    assert all(one == told[0] for one in told)
    assert told[0][1:] == [done.tokens, done.steps]
    np.testing.assert_allclose(losses(tmp_path), losses(workdir), atol=2e-6)
    close(final(tmp_path), flatten(done.params))
    # The state of step 4 that they left goes on in one process on another mesh.
    shutil.rmtree(tmp_path / "final")
    resumed = fine_tune(
        init_params(MODEL, 0),
        MODEL,
        examples(),
        RECIPE,
        SAVING,
        mesh=sharding.make_mesh("fsdp:8"),
        workdir=tmp_path,
    )
    close(flatten(resumed.params), flatten(done.params))
    assert resumed.tokens == done.tokens


def begun(workdir, steps, processes):
    """Waits until so many steps are logged."""
    while len(read_metrics(workdir / "metrics.jsonl")) < steps:
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.02)


STAGES = [(0, "KILL", 6), (1, "KILL", 14), (1, "STOP", 22), (1, "TERM", 30)]
EPOCHS = 12  # 48 steps


@pytest.mark.slow
def test_one_fate(root, tmp_path):
    """Killed, hanging or preempted, one process ends both, by name; the same command resumes."""
    options = {
        "devices": 1,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    undisturbed, workdir = tmp_path / "undisturbed", tmp_path / "disturbed"
    together(root, *command(undisturbed, "fsdp:2", EPOCHS), **options)
    for victim, how, step in STAGES:
        limit = "20.0" if how == "STOP" else ""
        pair = start(root, *command(workdir, "fsdp:2", EPOCHS, limit), **options)
        begun(workdir, step, pair)
        pair[victim].send_signal(getattr(signal, f"SIG{how}"))
        began = time.monotonic()
        pair[1 - victim].wait(timeout=120)
        seconds = time.monotonic() - began
        if how == "STOP":
            pair[victim].send_signal(signal.SIGCONT)
        ended = finish(pair)
        status, _, said = ended[1 - victim]
        if how == "TERM":
            assert [status for status, *_ in ended] == [PREEMPTED] * 2
            newest = TrainingStates(workdir / "state").newest()
            assert f"state of step {newest} saved" in said
            assert len(losses(workdir)) == newest
            continue
        # jax itself aborts where process 0 is gone, which holds its coordinator
        assert status == TRY_AGAIN or (victim == 0 and status == -signal.SIGABRT), said[-2000:]
        who = f"process {victim} of 2 (pid {pair[victim].pid}"
        behind = f"the one behind is process {victim} (pid {pair[victim].pid}"
        assert who in said or behind in said, said[-2000:]
        assert seconds < 60
        if how == "STOP":
            assert "no training step was finished for 20 s" in said and "Thread 0x" in said
    together(root, *command(workdir, "fsdp:2", EPOCHS), **options)
    for name, leaf in final(workdir).items():
        np.testing.assert_array_equal(leaf, final(undisturbed)[name], err_msg=name)
    np.testing.assert_array_equal(losses(workdir), losses(undisturbed))


@pytest.mark.slow
def test_an_error_of_one_process_ends_both_with_its_message(root, tmp_path):
    ended = finish(start(root, *command(tmp_path, bad="1")))
    assert [status for status, *_ in ended] == [2, 2]
    for _, _, said in ended:
        assert "row 7 is not text" in said and "rows.jsonl:7" in said
    assert "process 0 ends because of process 1 of 2" in ended[0][2]
