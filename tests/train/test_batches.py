"""Batches are a function of (seed, epoch, step), cover every example once an epoch, and carry exact
targets.
"""

import dataclasses

import numpy as np
import pytest

from amuro_jax.data.types import TrainExample
from amuro_jax.train import batches as module
from amuro_jax.train.batches import (
    LENGTHS,
    Batches,
    PackedCollator,
    epoch_order,
    first_fit,
    fit_size,
    pack_batch,
    packed_rows,
    packing_saves,
    pad_batch,
    predicted_positions,
)
from tests.train.tiny import examples


def test_order_depends_on_seed_and_epoch_alone():
    assert (epoch_order(50, 1, 0) == epoch_order(50, 1, 0)).all()
    assert (epoch_order(50, 1, 0) != epoch_order(50, 1, 1)).any() and (
        epoch_order(50, 1, 0) != epoch_order(50, 2, 0)
    ).any()


def test_every_example_stands_once_in_each_epoch():
    rows = examples(27)
    batches = Batches(rows, 8, 2, seed=3)
    assert batches.per_epoch == 4 and batches.total == 8
    for epoch in range(2):
        weights = [batches[epoch * 4 + step].weight.sum() for step in range(4)]
        assert sum(weights) == sum(len(predicted_positions(row)) for row in rows)


def test_targets_are_the_tokens_behind_the_mask():
    rows = examples(3)
    batch = pad_batch(rows, 4, 4)
    for place, row in enumerate(rows):
        at = predicted_positions(row)
        assert (batch.target[place, : len(at)] == row.tokens[at]).all() and (
            batch.source[place, : len(at)] == at - 1
        ).all()
        assert (
            batch.weight[place].sum() == len(at)
            and (batch.enter[place, len(row.tokens) :] == -1).all()
        )
    assert batch.weight[3].sum() == 0 and batch.tokens.shape[1] in LENGTHS


def test_weighing_examples_gives_each_the_same_share():
    batch = pad_batch(examples(5), 5, 4, weigh_examples=True)
    np.testing.assert_allclose(batch.weight.sum(axis=1), 1, rtol=1e-6)


def test_rows_are_padded_to_the_mesh():
    assert Batches(examples(9), 6, 1, 0, multiple=4)[0].tokens.shape[0] == 8


@pytest.mark.parametrize("size,expected", [(1, 16), (16, 16), (17, 32), (2049, 3072), (9000, 9216)])
def test_fit_size(size, expected):
    assert fit_size(size, LENGTHS) == expected


def test_tokens_and_rows_of_a_step():
    rows = examples(11)
    batches = Batches(rows, 4, 2, seed=3)
    for step in range(batches.total):
        part = batches.load(step)
        assert part.amount.tokens == (part.arrays["enter"] >= 0).sum()
        assert part.amount.pairs == (part.arrays["position"] + 1)[part.arrays["enter"] >= 0].sum()
        assert part.amount.positions == (part.arrays["weight"] > 0).sum()
        assert part.size == part.arrays["tokens"].size and part.count == 4
    seen = [row for step in range(3) for row in batches.rows(step)]
    assert sorted(seen) == [row.row for row in rows]


@pytest.mark.parametrize("collate", [None, PackedCollator(4)])
def test_a_part_of_a_batch_is_the_rows_of_the_whole(collate):
    """Padded length and number of rows are those of the whole batch."""
    batches = Batches(examples(30), 8, 1, 0, 4, collate)
    for step in range(batches.total):
        whole = batches.load(step)
        for process in range(2):
            part = batches.load(step, lambda count: np.arange(count)[process::2])  # noqa: B023
            assert (part.count, part.size) == (whole.count, whole.size)
            assert part.amount == whole.amount
            for name, array in whole.arrays.items():
                np.testing.assert_array_equal(part.arrays[name], array[process::2])


def test_one_permutation_serves_an_epoch(monkeypatch):
    """326,000 rows: a permutation at each step, or all steps before a resumed one, take minutes."""
    calls, real = [], module.epoch_order
    monkeypatch.setattr(module, "epoch_order", lambda *a: calls.append(a) or real(*a))
    batches = Batches(examples(64), 2, 3, seed=3)
    for step in range(40):
        batches.load(step)
    batches.load(90)
    assert calls == [(64, 3, 0), (64, 3, 1), (64, 3, 2)]


def test_packed_rows_hold_every_example_once_and_nothing_else():
    rows = examples(20)
    batch = pack_batch(rows, 2)
    found = []
    for row in range(len(batch.tokens)):
        for number in range(batch.enter[row].max() + 1):
            own = batch.enter[row] == number
            assert (batch.leave[row][own] == number + 1).all()
            assert (batch.position[row][own] == np.arange(own.sum())).all()
            found.append(tuple(batch.tokens[row][own]))
    assert sorted(found) == sorted(tuple(row.tokens) for row in rows)
    assert len(batch.tokens) % 2 == 0 and batch.tokens.size < pad_batch(rows, 20, 4).tokens.size
    at = batch.weight > 0
    assert at.sum() == sum(len(predicted_positions(row)) for row in rows)
    behind = np.take_along_axis(batch.tokens, batch.source + 1, axis=1)
    assert (behind[at] == batch.target[at]).all()


def test_packed_rows_have_the_length_that_takes_least_work():
    """Rows of 112 would hold 100, or 50 twice: six of them are more than four of 160."""

    def of(*sizes):
        return [TrainExample(np.zeros(n, np.int32), np.arange(n) > n - 3, 0) for n in sizes]

    packed, rows, length = packed_rows(of(*[100, 50] * 4), 1)
    assert (len(packed), rows, length) == (4, 4, 160)
    assert packed_rows(of(*[72] * 8), 1)[1:] == (8, 80)
    assert packed_rows(of(40), 1)[1:] == (1, 48)
    assert packed_rows(of(*[64] * 4), 4)[1:] == (4, 64)  # a row for each shard in any case
    assert packed_rows(of(2000, 90), 1)[1:] == (1, 2304)
    assert packed_rows(of(9000), 1)[1:] == (1, 9216)


def test_first_fit_fills_the_first_row_that_has_room():
    by_size = {len(row.tokens): row for row in examples(60)}
    chosen = [by_size[size] for size in (6, 16, 10, 20, 8)]
    packed = first_fit(chosen, 32)
    assert [[len(row.tokens) for row in line] for line in packed] == [[20, 10], [16, 8, 6]]


def test_packed_batches_are_a_function_of_the_step():
    first, second = (Batches(examples(30), 8, 2, 5, 1, PackedCollator(1)) for _ in range(2))
    for step in (6, 1, 7):
        for name, array in first.load(step).arrays.items():
            np.testing.assert_array_equal(array, second.load(step).arrays[name])
    assert sorted(first.rows(0) + first.rows(1) + first.rows(2) + first.rows(3)) == list(range(30))


def test_packing_pays_where_lengths_differ():
    mixed = examples(64)
    equal = [dataclasses.replace(row, tokens=row.tokens[:6]) for row in mixed]
    equal = [dataclasses.replace(row, loss_mask=np.arange(6) >= 5) for row in equal]
    assert packing_saves(mixed, 8, 0, 1) > 0.2
    assert packing_saves(equal, 8, 0, 1) > 0.2  # two rows of 6 tokens share one of 16
    full = [dataclasses.replace(row, tokens=np.arange(16)) for row in equal]
    full = [dataclasses.replace(row, loss_mask=np.arange(16) > 9) for row in full]
    assert packing_saves(full, 8, 0, 1) == 0
