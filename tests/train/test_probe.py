"""The norm of a gradient over many rows, against the plain gradient of their mean loss."""

import jax
import numpy as np
import optax
import pytest

from amuro_jax.config import TrainRun
from amuro_jax.models.parameters import init_params
from amuro_jax.train.compute import Compute
from amuro_jax.train.loss import loss_sums
from amuro_jax.train.probe import gradient_norm
from tests.train.tiny import MODEL, RECIPE, examples


@pytest.mark.parametrize("weigh", [False, True])
def test_it_is_of_the_mean_loss_over_all_rows_whatever_the_batches(weigh):
    rows, params = examples(21), init_params(MODEL, 0)
    longest = max(len(one.tokens) for one in rows)
    tokens = np.zeros((len(rows), longest), np.int32)
    weight = np.zeros((len(rows), longest), np.float32)  # of the token that each one predicts
    for at, one in enumerate(rows):
        tokens[at, : len(one.tokens)] = one.tokens
        learned = one.loss_mask[1:].astype(np.float32)
        weight[at, : len(learned)] = learned / learned.sum() if weigh else learned

    def mean_loss(params):
        target = np.concatenate([tokens[:, 1:], np.zeros((len(rows), 1), np.int32)], axis=1)
        place = np.broadcast_to(np.arange(longest, dtype=np.int32), tokens.shape)
        batch = {"tokens": tokens, "position": place, "source": place, "target": target}
        batch |= {"enter": np.zeros_like(place), "leave": np.full_like(place, longest)}
        loss, (count, _) = loss_sums(
            params, batch | {"weight": weight}, config=MODEL, compute=Compute("float32")
        )
        return loss / count

    expected = float(optax.tree.norm(jax.jit(jax.grad(mean_loss))(params)))
    run = TrainRun(micro_batch_size=4)
    found = gradient_norm(params, MODEL, rows, RECIPE, run, weigh_examples=weigh)
    assert found == pytest.approx(expected, rel=1e-4)
