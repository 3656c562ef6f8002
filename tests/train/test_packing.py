"""Packed and unpacked are the same training: each example's loss, the gradient, the steps; packing
is on by default where it pays.
"""

import dataclasses

import jax
import numpy as np
import pytest

from amuro_jax.models.parameters import flatten, init_params
from amuro_jax.train import fine_tune as fine_tuning
from amuro_jax.train.batches import (
    PackedCollator,
    pack_batch,
    packed_rows,
    pad_batch,
)
from amuro_jax.train.compute import Compute
from amuro_jax.train.loss import target_losses
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import make_step
from tests.train.tiny import MODEL, RECIPE, RUN, examples

ROWS = examples(9)


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, 0)


def losses_of(params, batch, packed):
    """Row number → losses of its predicted tokens, in their order; `packed`: examples by row."""
    arrays = batch.arrays()
    found = np.asarray(target_losses(params, arrays, config=MODEL, compute=Compute())[0])
    each = {}
    for row, members in enumerate(packed):
        first = 0
        for example in members:
            count = int(example.loss_mask[1:].sum())
            each[example.row] = found[row, first : first + count]
            first += count
    return each


def test_each_examples_loss_is_the_same(params):
    packed, _, _ = packed_rows(ROWS, 1)
    assert len(packed) < len(ROWS) and max(map(len, packed)) > 1
    alone = losses_of(params, pad_batch(ROWS, 9, 4), [[example] for example in ROWS])
    shared = losses_of(params, pack_batch(ROWS, 1), packed)
    assert alone.keys() == shared.keys() == {example.row for example in ROWS}
    for row, losses in alone.items():
        np.testing.assert_allclose(shared[row], losses, atol=1e-5, err_msg=str(row))


@pytest.mark.parametrize("weigh_examples", [False, True])
def test_the_gradient_is_the_same(params, weigh_examples):
    step = make_step(MODEL, Optimizer())
    alone, shared = (
        flatten(jax.jit(jax.grad(lambda p, b: step._sums(p, b)[0]))(params, batch.arrays()))
        for batch in (pad_batch(ROWS, 9, 4, weigh_examples), pack_batch(ROWS, 1, weigh_examples))
    )
    for name, leaf in alone.items():
        np.testing.assert_allclose(shared[name], leaf, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "packing,count,epochs,packs",
    [(None, 28, 2, False), (None, 28, 200, True), (True, 28, 2, True), (False, 28, 200, False)],
)
def test_it_is_on_where_it_pays(packing, count, epochs, packs):
    """The rows of the tiny task pack well: a run of 800 steps gains by it, one of 8 does not."""
    recipe = dataclasses.replace(RECIPE, epochs=epochs)
    run = dataclasses.replace(RUN, packing=packing)
    step = fine_tuning.step_of(recipe, run, MODEL)
    objective = fine_tuning.objective_of(recipe)
    batches = fine_tuning._batches(examples(count), recipe, run, step, MODEL, False, objective)
    assert isinstance(batches._collate, PackedCollator) is packs


def test_rows_that_hardly_pack_are_left_alone():
    """Rows of one length: none fits beside another."""
    same = [dataclasses.replace(e, tokens=np.full(16, 5, np.int32)) for e in examples(28)]
    same = [dataclasses.replace(e, loss_mask=np.arange(16) >= 14) for e in same]
    recipe = dataclasses.replace(RECIPE, epochs=200)
    step = fine_tuning.step_of(recipe, RUN, MODEL)
    objective = fine_tuning.objective_of(recipe)
    batches = fine_tuning._batches(same, recipe, RUN, step, MODEL, False, objective)
    assert not isinstance(batches._collate, PackedCollator)
