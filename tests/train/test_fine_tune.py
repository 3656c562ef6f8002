"""Runs: learn, resume exactly, survive kill -9, refuse what cannot be trained on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from amuro_jax import checkpoint
from amuro_jax.data.types import TrainExample
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.logs import read_metrics
from amuro_jax.models.parameters import flatten, init_params
from amuro_jax.train import fine_tune as module
from amuro_jax.train.fine_tune import fine_tune, latest_state
from tests.train.tiny import MODEL, RECIPE, examples


def equal(left, right):
    for name, leaf in flatten(left).items():
        np.testing.assert_array_equal(
            np.asarray(leaf), np.asarray(flatten(right)[name]), err_msg=name
        )


def test_the_loss_falls_and_metrics_are_written(tmp_path):
    done = fine_tune(
        init_params(MODEL, 0),
        MODEL,
        examples(64),
        dataclasses.replace(RECIPE, epochs=12),
        workdir=tmp_path,
    )
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, done.steps + 1)) and done.steps == 96
    assert (
        rows[-1]["loss"] < rows[0]["loss"] - 1
        and {"learning_rate", "grad_norm", "tokens_per_second", "accuracy"} <= rows[0].keys()
    )
    assert any(name.startswith("events") for name in os.listdir(tmp_path / "tensorboard"))


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [1, 4, 5])
def test_resumed_equals_uninterrupted(tmp_path, monkeypatch, at):
    recipe = dataclasses.replace(RECIPE, save_every=2)
    params = init_params(MODEL, 0)
    whole = fine_tune(params, MODEL, examples(), recipe)
    real = module._Run.after

    def after(self, number, *rest):
        real(self, number, *rest)
        if number == at:
            raise Stop

    monkeypatch.setattr(module._Run, "after", after)
    with pytest.raises(Stop):
        fine_tune(params, MODEL, examples(), recipe, workdir=tmp_path)
    monkeypatch.undo()
    assert (latest_state(tmp_path) or (None, 0))[1] == at // 2 * 2
    resumed = fine_tune(params, MODEL, examples(), recipe, workdir=tmp_path)
    equal(whole.params, resumed.params)
    assert resumed.tokens == whole.tokens > 0
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == list(
        range(1, whole.steps + 1)
    )


SCRIPT = """
import dataclasses, sys
from amuro_jax import checkpoint
from amuro_jax.models.parameters import init_params
from amuro_jax.train.fine_tune import fine_tune
from tests.train.tiny import MODEL, RECIPE, examples
done = fine_tune(init_params(MODEL, 0), MODEL, examples(64), dataclasses.replace(RECIPE, epochs=6, save_every=3), workdir=sys.argv[1])
checkpoint.save_tree(sys.argv[1] + "/final", done.params)
"""


def test_kill_9_at_any_moment_and_go_on(tmp_path, root):
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed")]
    metrics = tmp_path / "killed" / "metrics.jsonl"
    process = subprocess.Popen(command, env=environment, cwd=root, stderr=subprocess.DEVNULL)
    while len(read_metrics(metrics)) < 10 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 10 <= len(read_metrics(metrics)) < 48
    subprocess.run(command, env=environment, cwd=root, check=True, capture_output=True)
    whole = fine_tune(
        init_params(MODEL, 0),
        MODEL,
        examples(64),
        dataclasses.replace(RECIPE, epochs=6, save_every=3),
    )
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), whole.params)
    equal(whole.params, checkpoint.restore_tree(tmp_path / "killed" / "final", target))
    assert [row["step"] for row in read_metrics(metrics)] == list(range(1, whole.steps + 1))


def test_paper_loss_weighs_examples_and_strict_weighs_tokens(tmp_path):
    """Two rows, one with three predicted tokens and one with one: the first step's losses are the
    two means.
    """
    long = TrainExample(np.array([5, 6, 7, 8], np.int32), np.array([0, 1, 1, 1], bool), 0)
    short = TrainExample(np.array([9, 10], np.int32), np.array([0, 1], bool), 1)
    params, recipe = init_params(MODEL, 0), dataclasses.replace(RECIPE, epochs=1, batch_size=2)
    alone = [
        fine_tune(params, MODEL, [row], recipe, workdir=tmp_path / str(row.row)).loss
        for row in (long, short)
    ]
    strict = fine_tune(params, MODEL, [long, short], recipe).loss
    paper = fine_tune(params, MODEL, [long, short], recipe, weigh_examples=True).loss
    assert strict == pytest.approx((3 * alone[0] + alone[1]) / 4, abs=1e-5)
    assert (
        paper == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-5) and abs(strict - paper) > 1e-3
    )


def test_nothing_to_learn_is_refused():
    with pytest.raises(DataError, match="no training examples"):
        fine_tune(init_params(MODEL, 0), MODEL, [], RECIPE)
    silent = [
        dataclasses.replace(row, loss_mask=np.zeros(len(row.tokens), bool)) for row in examples(4)
    ]
    with pytest.raises(DataError, match="no example has a token to learn"):
        fine_tune(init_params(MODEL, 0), MODEL, silent, RECIPE)
    long = TrainExample(np.ones(65, np.int32), np.ones(65, bool), 7)
    with pytest.raises(DataError, match="(?s)65 tokens.*context is 64.*row 7"):
        fine_tune(init_params(MODEL, 0), MODEL, [long], RECIPE)


def test_a_diverging_run_stops():
    with pytest.raises(ConfigError, match="the loss is"):
        fine_tune(
            init_params(MODEL, 0),
            MODEL,
            examples(),
            dataclasses.replace(RECIPE, learning_rate=1e30, clip_norm=0.0, epochs=8),
        )


def test_metrics_of_a_cut_line_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1}]
