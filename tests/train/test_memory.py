"""What a step takes, by shapes, against the compiler's account; the policy that `auto` picks."""

import dataclasses

import jax
import pytest

from amuro_jax import sharding
from amuro_jax.config import Remat, TrainRun
from amuro_jax.errors import ConfigError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.lora import Lora
from amuro_jax.train import fine_tune, memory
from amuro_jax.train.ahead_of_time import compile_step
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import Step
from amuro_jax.train.trainable import AllParameters
from tests.train.tiny import MODEL, RECIPE, examples

ROWS, LENGTH, TARGETS = 8, 256, 16
# Large enough that what the estimate leaves out is small beside what it counts.
MEDIUM = ModelConfig("olmo", 2048, 128, 6, 4, 4, 32, 512, 256)


def measured(step):
    account = compile_step(step, ROWS, LENGTH, TARGETS).memory_analysis()
    return account.argument_size_in_bytes + account.temp_size_in_bytes


@pytest.mark.parametrize(
    "remat,trainable",
    [("none", AllParameters()), ("full", AllParameters()), ("none", Lora(4, 8.0))],
    ids=["all kept", "remat", "adapter"],
)
def test_the_estimate_bounds_the_compilers_account(remat, trainable):
    step = Step(MEDIUM, Optimizer(clip_norm=1.0), remat=remat, trainable=trainable)
    estimate = memory.step_bytes(step, ROWS, LENGTH, TARGETS)
    assert 0.9 * measured(step) <= estimate <= 2.5 * measured(step)


def test_policies_are_tried_from_the_largest():
    estimates = [
        memory.estimate(MEDIUM, AllParameters(), memory.Split(), **_shape() | {"remat": remat})
        for remat in memory.ORDER
    ]
    assert estimates == sorted(estimates, reverse=True)


def test_micro_batches_and_meshes_take_less():
    whole = memory.estimate(MEDIUM, AllParameters(), memory.Split(), **_shape())
    for split in (
        memory.Split(micro_batches=4),
        memory.Split(data=4),
        memory.Split(fsdp=4),
        memory.Split(tensor=4),
    ):
        assert memory.estimate(MEDIUM, AllParameters(), split, **_shape()) < whole


def _shape():
    return {
        "itemsize": 4,
        "remat": "none",
        "moment": 4,
        "fused": False,
        "rows": 32,
        "shape": (LENGTH, TARGETS),
    }


def test_auto_takes_the_first_policy_that_fits(monkeypatch):
    run, rows = TrainRun(remat=Remat.AUTO), examples()

    def chosen():
        return fine_tune.step_of(RECIPE, run, MODEL, examples=rows)

    assert chosen().compute.remat == "none"
    needed = {}
    for remat in memory.ORDER:
        step = fine_tune.step_of(RECIPE, dataclasses.replace(run, remat=Remat(remat)), MODEL)
        needed[remat] = memory.step_bytes(step, RECIPE.batch_size, 32, 4)
    for remat in ("dots", "full"):
        limit = 1.001 * needed[remat] / memory.SHARE
        monkeypatch.setattr(memory, "free_bytes", lambda mesh, limit=limit: limit)
        assert chosen().compute.remat == remat
    monkeypatch.setattr(memory, "free_bytes", lambda mesh: 1000)
    with pytest.raises(ConfigError, match="of each device"):
        chosen()


def test_auto_counts_all_rows_of_a_member(monkeypatch):
    """Of trainings in one program each data shard has all rows of its members, not its share."""
    mesh = sharding.make_mesh("data:8")

    def make_step(remat):
        return fine_tune.step_of(RECIPE, TrainRun(remat=Remat(remat)), MODEL, mesh)

    whole = memory.step_bytes(make_step("none"), 8 * 8, 32, 4)
    monkeypatch.setattr(memory, "free_bytes", lambda mesh: 0.999 * whole / memory.SHARE)
    assert memory.fitting(make_step, 8, 32, 4).compute.remat == "none"
    assert memory.fitting(make_step, 8, 32, 4, members=8).compute.remat == "dots"


def test_a_device_says_what_is_free():
    assert memory.free_bytes(None) > 1e8
    assert jax.devices()[0].platform == "cpu"
