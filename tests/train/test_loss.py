"""The loss of predicted positions of all rows together is that of row by row: sums, hits and
gradient; it works on positions that have a weight only.
"""

import dataclasses

import jax
import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.models.forward import logits
from amuro_jax.models.parameters import init_params
from amuro_jax.train import loss
from amuro_jax.train.batches import pad_batch
from amuro_jax.train.compute import Compute
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import make_step
from tests.train.tiny import MODEL, examples

BATCH = pad_batch(examples(9), 9, 16, weigh_examples=True).arrays()
REAL = int(np.count_nonzero(BATCH["weight"]))


def losses(params, batch, config, together, dtype="float32"):
    """((sum of losses, (weight, hits)), gradient)."""
    compute = Compute(dtype, together=together)

    def sums(params):
        return loss.loss_sums(params, batch, config=config, compute=compute)

    return jax.jit(jax.value_and_grad(sums, has_aux=True))(params)


def likely(params, config):
    """The batch's targets, every third one what the model holds most likely."""
    scores = logits(params, Compute().hidden(params, BATCH, config), config)
    each = np.arange(BATCH["target"].size).reshape(BATCH["target"].shape)
    return np.where(each % 3, BATCH["target"], np.argmax(scores, axis=-1))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [4, REAL, 1000])  # several chunks, one that is full, one
def test_together_equals_row_by_row(tied, size, monkeypatch):
    config = dataclasses.replace(MODEL, tie_embeddings=tied)
    params = init_params(config, 0)
    batch = BATCH | {"target": likely(params, config)}
    plainly, gradient = losses(params, batch, config, False)
    monkeypatch.setattr(loss, "WHOLE", 0)
    monkeypatch.setattr(loss, "TOGETHER", size)
    monkeypatch.setattr(loss, "_chunked", None)
    found, own = losses(params, batch, config, True)
    assert plainly[1][1] > 0
    np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(plainly), rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), own, gradient)
    alone = jax.jit(
        lambda p: loss.loss_sums(p, batch, config=config, compute=Compute(together=True))
    )(params)
    np.testing.assert_allclose(jax.tree.leaves(alone), jax.tree.leaves(plainly), rtol=1e-6)


def test_the_gradient_is_scaled_by_what_asks_for_it(monkeypatch):
    monkeypatch.setattr(loss, "WHOLE", 0)
    params = init_params(MODEL, 0)

    def half(together):
        compute = Compute(together=together)
        return jax.grad(lambda p: loss.loss_sums(p, BATCH, config=MODEL, compute=compute)[0] * 0.5)(
            params
        )

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), half(True), half(False)
    )


def test_positions_without_a_weight_are_not_worked_on(monkeypatch):
    """Chunks beyond the last position with a weight are not run: they would give a loss of NaN."""
    monkeypatch.setattr(loss, "WHOLE", 0)
    monkeypatch.setattr(loss, "TOGETHER", 4)
    assert REAL + 4 < BATCH["weight"].size
    hidden = np.ones((BATCH["weight"].size, MODEL.hidden_size), np.float32)
    hidden[BATCH["weight"].reshape(-1) == 0] = np.nan
    weight = BATCH["weight"].reshape(-1).copy()
    weight[np.flatnonzero(weight)[REAL // 4 * 4 :]] = 0  # whole chunks of positions with a weight
    head = {"embed": init_params(MODEL, 0)["embed"]}
    arrays = hidden, BATCH["target"].reshape(-1), weight
    total, gradient = jax.value_and_grad(lambda head: loss._together(MODEL, head, *arrays)[0])(head)
    assert np.isfinite(total) and np.isfinite(gradient["embed"]["embedding"]).all()


def test_without_any_weight_the_loss_is_nothing(monkeypatch):
    monkeypatch.setattr(loss, "WHOLE", 0)
    empty = BATCH | {"weight": np.zeros_like(BATCH["weight"])}
    (total, (weight, _)), gradient = losses(init_params(MODEL, 0), empty, MODEL, True)
    assert total == weight == 0 and not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_rows_that_lie_on_several_devices_stay_apart(monkeypatch):
    monkeypatch.setattr(loss, "WHOLE", 0)
    monkeypatch.setattr(loss, "_together", None)
    assert losses(init_params(MODEL, 0), BATCH, MODEL, False)[0][0] > 0


def test_a_step_of_one_cpu_device_takes_them_together(monkeypatch):
    monkeypatch.setattr(loss, "WHOLE", 0)
    monkeypatch.setattr(loss, "_chunked", None)
    step = make_step(MODEL, Optimizer(weight_decay=0.125))
    _, metrics = step(step.init(init_params(MODEL, 0)), BATCH, 1e-3)
    assert np.isfinite(metrics["loss"])
    assert not make_step(MODEL, Optimizer(), mesh=sharding.make_mesh("data:8")).compute.together
