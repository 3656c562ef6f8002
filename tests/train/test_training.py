"""The training loop: resume to the last bit, damaged states, preemption, losses that are not
finite, metrics one step late.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from amuro_jax import checkpoint
from amuro_jax.chips import CHIPS
from amuro_jax.errors import CheckpointError, TrainingError
from amuro_jax.logs import read_metrics
from amuro_jax.models.cost import training_flops
from amuro_jax.models.parameters import flatten, init_params
from amuro_jax.preemption import PREEMPTED, Preempted
from amuro_jax.train import meters
from amuro_jax.train.batches import Batches
from amuro_jax.train.fine_tune import fine_tune
from amuro_jax.train.meters import Logging
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.states import TrainingStates, contents_of
from amuro_jax.train.step import Step, make_step
from amuro_jax.train.training import SavePolicy, run_training
from tests.conftest import NO_EMITTERS
from tests.train.tiny import MODEL, RECIPE, RUN, examples

SAVING = dataclasses.replace(RUN, save_every=2)


def equal(left, right):
    for name, leaf in flatten(left).items():
        np.testing.assert_array_equal(
            np.asarray(leaf), np.asarray(flatten(right)[name]), err_msg=name
        )


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, 0)


@pytest.fixture(scope="module")
def whole(params):
    """The run that nothing interrupts."""
    return fine_tune(params, MODEL, examples(), RECIPE)


class Stop(Exception):
    pass


def stopped_run(monkeypatch, params, workdir, at):
    """A run that dies once step `at` is dispatched and what is due is saved."""

    real = meters.Meter.queue

    def queue(self, number, *rest):
        if number == at + 1:
            raise Stop
        real(self, number, *rest)

    monkeypatch.setattr(meters.Meter, "queue", queue)
    with pytest.raises(Stop):
        fine_tune(params, MODEL, examples(), RECIPE, SAVING, workdir=workdir)
    monkeypatch.undo()


@pytest.mark.parametrize("at", [1, 4, 5])
def test_resumed_equals_uninterrupted(tmp_path, monkeypatch, params, whole, at):
    stopped_run(monkeypatch, params, tmp_path, at)
    states = TrainingStates(tmp_path / "state")
    assert (states.newest() or 0) == at // 2 * 2
    resumed = fine_tune(params, MODEL, examples(), RECIPE, SAVING, workdir=tmp_path)
    equal(whole.params, resumed.params)
    assert resumed.tokens == whole.tokens > 0
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == list(
        range(1, whole.steps + 1)
    )


def state_files(workdir, step):
    """Files of a state that hold arrays."""
    found = (workdir / "state" / f"step_{step}" / "state").rglob("*")
    return sorted((p for p in found if p.is_file()), key=lambda p: p.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", ["flipped", "torn", "contents", "emptied"])
def test_a_damaged_state_is_skipped_and_the_one_before_it_used(
    tmp_path, monkeypatch, params, whole, damage
):
    stopped_run(monkeypatch, params, tmp_path, 5)
    largest = state_files(tmp_path, 4)[-1]
    if damage == "flipped":
        flip(largest)
    elif damage == "torn":
        largest.write_bytes(largest.read_bytes()[:1000])
    elif damage == "contents":
        (tmp_path / "state" / "step_4" / "contents" / "metadata").write_text("{")
    else:
        for path in state_files(tmp_path, 4):
            path.unlink()
    with pytest.warns(UserWarning, match="state of step 4 in .* is skipped"):
        resumed = fine_tune(params, MODEL, examples(), RECIPE, SAVING, workdir=tmp_path)
    equal(whole.params, resumed.params)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == list(
        range(1, whole.steps + 1)
    )


def test_a_flipped_bit_of_stored_numbers_is_seen(params):
    """What decompresses without a complaint is still compared with what was written."""
    step = make_step(MODEL, Optimizer())
    state = step.init(params)
    contents = contents_of(state)
    changed = jax.tree.map(np.array, state)
    words = changed.params["layers"]["mlp"]["up"]["kernel"].view(np.uint32)
    words[1, 3, 5] ^= 1 << 31
    other = contents_of(changed)
    assert [name for name in contents if contents[name] != other[name]] == [
        "params/layers/mlp/up/kernel"
    ]


def test_states_are_kept_in_number_and_hold_their_own_step(tmp_path, params):
    """A state is written in the background while the next steps overwrite its buffers."""
    step, kept = make_step(MODEL, Optimizer()), {}
    batches = Batches(examples(), 8, 2, 0)

    def keep(number, state):
        kept[number] = jax.tree.map(np.array, state.params)

    run_training(
        step,
        batches,
        lambda _: 1e-2,
        params,
        workdir=tmp_path,
        save=SavePolicy(1, at=frozenset([batches.total]), keep=3),
        on_step=keep,
    )
    states = TrainingStates(tmp_path / "state", keep=3)
    saved = states.restore_newest(step.abstract_state())
    assert saved.step == batches.total == 8
    assert sorted(p.name for p in (tmp_path / "state").iterdir() if p.is_dir()) == [
        "step_6",
        "step_7",
        "step_8",
    ]
    equal(saved.tree.params, kept[8])
    flip(state_files(tmp_path, 8)[-1])
    with pytest.warns(UserWarning, match="skipped"):
        saved = states.restore_newest(step.abstract_state())
    assert saved.step == 7
    equal(saved.tree.params, kept[7])


def test_a_state_of_another_model_is_refused(tmp_path, monkeypatch, params):
    stopped_run(monkeypatch, params, tmp_path, 4)
    wide = dataclasses.replace(MODEL, mlp_size=64)
    with pytest.raises(CheckpointError, match=r"mlp.*\[2, 64, 32\].*\[2, 48, 32\]"):
        fine_tune(init_params(wide, 0), wide, examples(), RECIPE, SAVING, workdir=tmp_path)
    assert (tmp_path / "state" / "step_4").is_dir()


SCRIPT = """
import dataclasses, sys
from amuro_jax import checkpoint
from amuro_jax.config import TrainRun
from amuro_jax.models.parameters import init_params
from amuro_jax.train.fine_tune import fine_tune
from tests.train.tiny import MODEL, RECIPE, examples
recipe, run = dataclasses.replace(RECIPE, epochs=6), TrainRun(save_every=3, log_every=1)
params = init_params(MODEL, 0)
done = fine_tune(params, MODEL, examples(64), recipe, run, workdir=sys.argv[1])
checkpoint.save_tree(sys.argv[1] + "/final", done.params)
"""


def as_here(root):
    """The environment of a process that compiles as this one does."""
    flags = f"{os.environ['XLA_FLAGS']} {NO_EMITTERS}"
    return {**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": flags}


def start_script(workdir, root):
    """The script in a process of its own, once it has logged ten steps."""
    command, environment = [sys.executable, "-c", SCRIPT, str(workdir)], as_here(root)
    process = subprocess.Popen(
        command, env=environment, cwd=root, stderr=subprocess.PIPE, text=True
    )
    while len(read_metrics(workdir / "metrics.jsonl")) < 10 and process.poll() is None:
        time.sleep(0.01)
    return process, lambda: subprocess.run(
        command, env=environment, cwd=root, check=True, capture_output=True
    )


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_at_any_moment_and_go_on(tmp_path, root, how):
    workdir = tmp_path / "stopped"
    process, again = start_script(workdir, root)
    process.send_signal(how)
    _, said = process.communicate()
    logged = read_metrics(workdir / "metrics.jsonl")
    assert 10 <= len(logged) < 48
    if how == signal.SIGTERM:
        assert process.returncode == PREEMPTED == 143
        newest = TrainingStates(workdir / "state").newest()
        assert newest == logged[-1]["step"] and f"state of step {newest} saved" in said
    again()
    recipe = dataclasses.replace(RECIPE, epochs=6)
    uninterrupted = fine_tune(init_params(MODEL, 0), MODEL, examples(64), recipe)
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), uninterrupted.params
    )
    equal(uninterrupted.params, checkpoint.restore_tree(workdir / "final", target))
    assert [row["step"] for row in read_metrics(workdir / "metrics.jsonl")] == list(range(1, 49))


def test_sigterm_without_a_workdir_still_ends_the_process(params):
    def terminate(number, _):
        if number == 2:
            signal.raise_signal(signal.SIGTERM)

    batches, before = Batches(examples(), 8, 2, 0), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as stopped:
        run_training(
            make_step(MODEL, Optimizer()), batches, lambda _: 1e-3, params, on_step=terminate
        )
    assert (stopped.value.code, stopped.value.step, stopped.value.saved) == (143, 2, False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_loss_that_is_not_finite_names_step_rows_and_the_last_good_state(tmp_path, params):
    batches = Batches(examples(), 8, 2, 0)
    rate = [1e-3, 1e-3, 1e-3, 1e30, 1e-3, 1e-3, 1e-3, 1e-3]
    step = make_step(MODEL, Optimizer())
    with pytest.raises(TrainingError) as error:
        run_training(step, batches, rate.__getitem__, params, workdir=tmp_path, save=SavePolicy(2))
    rows = ", ".join(map(str, batches.rows(4)))
    assert f"at step 5, on rows {rows}" in str(error.value)
    assert "the last good state is step 4" in str(error.value)


def test_metrics_are_read_one_step_late(params, monkeypatch):
    """Reading them makes the host wait for the step: the next one is dispatched before."""
    events, read, dispatch = [], meters.Meter._read, Step.__call__

    def recorded_read(self, number, *rest):
        events.append(f"read {number}")
        read(self, number, *rest)

    def recorded_dispatch(self, *arguments):
        events.append("dispatched")
        return dispatch(self, *arguments)

    monkeypatch.setattr(meters.Meter, "_read", recorded_read)
    monkeypatch.setattr(Step, "__call__", recorded_dispatch)
    step, batches = make_step(MODEL, Optimizer()), Batches(examples(24), 8, 1, 0)
    run_training(step, batches, lambda _: 1e-3, params)
    assert events == ["dispatched"] * 2 + ["read 1", "dispatched", "read 2", "read 3"]


def test_what_is_measured(tmp_path, params, monkeypatch):
    monkeypatch.setattr(meters, "chip_of", lambda kind: CHIPS["v5e"])
    batches, rates = Batches(examples(24), 8, 1, 0), (1e-3, 2e-3, 0.0)
    step, lines = make_step(MODEL, Optimizer()), {}
    run_training(
        step,
        batches,
        rates.__getitem__,
        params,
        workdir=tmp_path,
        log=Logging(1),
        on_log=lambda number, values: lines.update({number: values}),
    )
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    one, two, three = lines.values()
    named = "loss accuracy grad_norm update_norm learning_rate epoch padding tokens "
    named += "tokens_per_second data_wait model_flops_per_second mfu host_bytes"
    assert set(named.split()) <= set(one)
    # Adam's first update has size 1 in each coordinate with a gradient.
    assert one["update_norm"] > 0 and three["update_norm"] == 0
    assert two["tokens"] == one["tokens"] + batches.load(1).amount.tokens
    part = batches.load(2)
    assert three["padding"] == pytest.approx(1 - part.amount.tokens / part.size)
    seconds = part.amount.tokens / three["tokens_per_second"]
    flops = training_flops(MODEL, part.amount) / seconds
    assert three["model_flops_per_second"] == pytest.approx(flops)
    assert three["mfu"] == pytest.approx(flops / 197e12)
    assert 0 <= one["data_wait"] <= 1


PROFILED = """
import dataclasses, sys
from amuro_jax.models.parameters import init_params
from amuro_jax.train.fine_tune import fine_tune
from tests.train.tiny import MODEL, RECIPE, RUN, examples

run = dataclasses.replace(RUN, profile="2")
fine_tune(init_params(MODEL, 0), MODEL, examples(), RECIPE, run, workdir=sys.argv[1])
"""


def test_a_step_is_traced(tmp_path, root):
    """In a process of its own: once libtpu has compiled something without a TPU, the profiler of
    jax 0.10.2 ends the process (a segmentation fault in libtpu).
    """
    command = [sys.executable, "-c", PROFILED, str(tmp_path)]
    subprocess.run(command, env=as_here(root), check=True, timeout=300)
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 1


@pytest.mark.parametrize("more", [False, True])
def test_the_best_state_stays_beside_the_newest(tmp_path, params, more):
    """Its value is that of the parameters it holds; a resumed run knows it."""
    values = {2: 3.0, 4: 1.0, 6: 5.0, 8: 2.0}
    best = 6 if more else 4
    step, batches, seen = make_step(MODEL, Optimizer()), Batches(examples(), 8, 2, 0), {}

    def value(trained):
        seen[2 * len(seen) + 2] = jax.tree.map(np.array, trained)
        return values[2 * len(seen)]

    saving = SavePolicy(2, frozenset([8]), 1, "accuracy" if more else "loss", value)
    done = run_training(step, batches, lambda _: 1e-2, params, workdir=tmp_path, save=saving)
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == [f"step_{best}", "step_8"]
    assert (done.best.steps, done.best.loss) == (best, values[best])
    equal(done.best.params, seen[best])
    again = run_training(step, batches, lambda _: 1e-2, params, workdir=tmp_path, save=saving)
    assert again.best.steps == best
    equal(again.params, done.params)


def test_the_best_state_by_a_metric_of_its_step(tmp_path, params):
    step, batches, losses = make_step(MODEL, Optimizer()), Batches(examples(), 8, 2, 0), {}
    done = run_training(
        step,
        batches,
        lambda number: 3e-3 if number < 4 else 0.3,  # it gets worse in the end
        params,
        workdir=tmp_path,
        save=SavePolicy(1, frozenset([8]), 1, "loss"),
        log=Logging(1),
        on_log=lambda number, values: losses.update({number: values["loss"]}),
    )
    least = min(losses, key=losses.get)
    assert least < 8 and (done.best.steps, done.best.loss) == (least, losses[least])
