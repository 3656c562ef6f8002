"""Several checkpoints in one program: each ends as its separate run does, fails alone, and resumes
with the group.
"""

import dataclasses

import jax
import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.errors import ConfigError, TrainingError
from amuro_jax.logs import read_metrics
from amuro_jax.models.lora import Lora
from amuro_jax.models.parameters import flatten, init_params
from amuro_jax.train import meters
from amuro_jax.train.fine_tune import fine_tune, fine_tune_stacked
from tests.train.tiny import MODEL, RECIPE, RUN, examples

NAMES = ("step1", "step2", "step3", "step4")


@pytest.fixture(scope="module")
def members():
    return {name: init_params(MODEL, seed) for seed, name in enumerate(NAMES)}


def close(left, right):
    for name, leaf in flatten(left).items():
        np.testing.assert_allclose(leaf, flatten(right)[name], atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize("mesh", [None, "data:4,tensor:2", "data:2"])
def test_each_equals_its_separate_run(tmp_path, members, mesh):
    devices = jax.devices()[:2] if mesh == "data:2" else None
    given = {"mesh": sharding.make_mesh(mesh, devices)} if mesh else {}
    together = fine_tune_stacked(members, MODEL, examples(), RECIPE, RUN, workdir=tmp_path, **given)
    for name, params in members.items():
        alone = fine_tune(params, MODEL, examples(), RECIPE)
        close(together[name].params, alone.params)
        assert together[name].loss == pytest.approx(alone.loss, abs=1e-5)
        assert together[name].tokens == alone.tokens
        logged = read_metrics(tmp_path / name / "metrics.jsonl")
        assert [row["step"] for row in logged] == list(range(1, 9))
        assert logged[-1]["loss"] == pytest.approx(alone.loss, abs=1e-5)


def test_adapters_and_learning_rates_of_their_own(members):
    pair = {name: members["step1"] for name in ("slow", "fast")}
    lora, rates = Lora(4, 8.0), {"fast": 1e-2}
    together = fine_tune_stacked(
        pair, MODEL, examples(), RECIPE, learning_rates=rates, trainable=lora
    )
    for name, rate in {"slow": RECIPE.learning_rate, "fast": 1e-2}.items():
        recipe = dataclasses.replace(RECIPE, learning_rate=rate)
        close(
            together[name].params,
            fine_tune(pair[name], MODEL, examples(), recipe, trainable=lora).params,
        )


def test_one_that_fails_is_named_and_the_others_go_on(tmp_path, members):
    broken = jax.tree.map(np.array, members["step2"])
    broken["embed"]["embedding"][5, 0] = np.inf
    given = {"step1": members["step1"], "step2": broken}
    done = fine_tune_stacked(given, MODEL, examples(), RECIPE, RUN, workdir=tmp_path)
    assert isinstance(done["step2"], TrainingError) and "step2" in str(done["step2"])
    close(done["step1"].params, fine_tune(members["step1"], MODEL, examples(), RECIPE).params)
    with pytest.raises(TrainingError):
        fine_tune_stacked({"step2": broken}, MODEL, examples(), RECIPE)


class Stop(Exception):
    pass


def test_a_group_that_was_killed_goes_on(tmp_path, members, monkeypatch):
    some = {name: members[name] for name in NAMES[:2]}
    run = dataclasses.replace(RUN, save_every=3)
    whole = fine_tune_stacked(some, MODEL, examples(), RECIPE)
    queue = meters.GroupMeter.queue

    def stopping(self, number, *rest):
        if number == 5:
            raise Stop
        queue(self, number, *rest)

    monkeypatch.setattr(meters.GroupMeter, "queue", stopping)
    with pytest.raises(Stop):
        fine_tune_stacked(some, MODEL, examples(), RECIPE, run, workdir=tmp_path)
    monkeypatch.undo()
    again = fine_tune_stacked(some, MODEL, examples(), RECIPE, run, workdir=tmp_path)
    for name in some:
        for part, leaf in flatten(whole[name].params).items():
            np.testing.assert_array_equal(leaf, flatten(again[name].params)[part])


def test_groups_that_cannot_be_are_refused(members):
    wide = dataclasses.replace(MODEL, mlp_size=64)
    different = {"a": members["step1"], "b": init_params(wide, 0)}
    with pytest.raises(
        ConfigError, match="checkpoints 0 and 1 have parameters of different shapes"
    ):
        fine_tune_stacked(different, MODEL, examples(), RECIPE)
    mesh = sharding.make_mesh("data:8")
    with pytest.raises(ConfigError, match="4 checkpoints cannot be shared evenly by 8"):
        fine_tune_stacked(members, MODEL, examples(), RECIPE, mesh=mesh)
