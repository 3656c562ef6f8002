"""The audit of a series of checkpoints on a model that was really trained."""

import dataclasses

import numpy as np
import pytest

from amuro_jax.convert import series_audit, series_order
from amuro_jax.convert.revisions import Revision, list_revisions
from amuro_jax.convert.series_audit import FaultKind, audit_series
from tests.convert import series

STEPS = tuple(range(20, 200, 20))


@pytest.fixture(scope="module")
def kept():
    return series.train({*STEPS, 150}, seed=3)


@pytest.fixture
def clean(kept, tmp_path):
    names = series.write_series(tmp_path, {step: kept[step] for step in STEPS})
    return tmp_path, names


def test_a_clean_series_raises_no_alarm_and_costs_one_percent(clean):
    found = audit_series(list_revisions(clean[0]))
    assert not found.faults and found.sampled == len(STEPS)
    assert 0 < found.bytes_read <= 0.01 * found.bytes_total
    assert "nothing found" in str(found)


@pytest.mark.parametrize("kind", series.KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_planted_faults_are_named(kind, seed, clean, kept):
    folder, names = clean
    right = series.plant(
        folder, kind, names, {step: kept[step] for step in STEPS}, np.random.default_rng(seed)
    )
    found = audit_series(list_revisions(folder))
    assert any(one.kind == kind and right & set(one.checkpoints) for one in found.faults), str(
        found
    )
    assert all(right & set(one.checkpoints) for one in found.faults), str(found)
    assert bool(found.errors) == (kind not in ("duplicate", "hole"))


def test_a_shard_of_a_step_that_is_not_in_the_series(clean, kept, tmp_path_factory):
    folder, names = clean
    other = tmp_path_factory.mktemp("other") / "step150"
    series.write(other, kept[150])
    shard = "model-00001-of-00002.safetensors"
    (folder / names[1] / shard).write_bytes((other / shard).read_bytes())
    (fault,) = audit_series(list_revisions(folder)).faults
    assert (fault.kind, fault.checkpoints) == (FaultKind.SHARD, (names[1],))


def test_a_model_of_another_shape(clean, kept):
    folder, names = clean
    params = {name: value[..., :-1] for name, value in kept[STEPS[1]].items()}
    series.shutil.rmtree(folder / names[1])
    series.write(folder / names[1], params)
    (fault,) = audit_series(list_revisions(folder)).faults
    assert (fault.kind, fault.checkpoints) == (FaultKind.SHAPES, (names[1],))


def test_biases_that_training_has_not_touched_are_no_cut(kept, tmp_path):
    runs = series.train({0, *STEPS[:5]}, seed=4)
    series.write_series(tmp_path, runs)
    assert not audit_series(list_revisions(tmp_path)).faults


def test_two_checkpoints_are_too_few_to_say_their_order(kept, tmp_path):
    series.write_series(tmp_path, {20: kept[40], 40: kept[20]})
    assert not audit_series(list_revisions(tmp_path)).faults


def test_checkpoints_elsewhere_are_audited_by_their_labels():
    steps = [*range(1000, 9000, 1000), 11000]
    revisions = [
        Revision(f"org/model@step{step}", f"step{step}", step, step * 10**6) for step in steps
    ]
    revisions[3] = dataclasses.replace(revisions[3], tokens=8 * 10**9)
    found = audit_series(revisions)
    assert found.sampled == 0
    assert [(one.kind, one.checkpoints) for one in found.faults] == [
        (FaultKind.TOKENS, ("step4000",)),
        (FaultKind.HOLE, ("step 8000", "step 11000")),
    ] or found.faults


def labels(pairs, **more):
    return [Revision(f"org/m@s{step}", f"s{step}", step, tokens, **more) for step, tokens in pairs]


def test_rounded_tokens_and_a_growing_batch_are_no_faults():
    rounded = labels([(1000, 4 * 10**9), (2000, 8 * 10**9), (3000, 13 * 10**9), (4000, 17 * 10**9)])
    growing = labels([(10, 100), (20, 200), (30, 500), (40, 900), (50, 1400), (60, 2000)])
    for revisions in (rounded, growing):
        assert not audit_series(revisions).faults


def test_holes_by_hand():
    def missing(*steps, **more):
        return [one.what for one in series_audit.holes(labels([(s, None) for s in steps], **more))]

    assert missing(10, 20, 30, 60, 70, 80) == ["2 missing between: 40, 50"]
    assert missing(1, 2, 4, 8, 16, 32, 64) == []  # log-spaced
    assert missing(0, 1, 2, 4, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000) == []
    assert missing(10, 30) == []


def test_the_best_exchange_is_found_for_any_pair():
    rng = np.random.default_rng(1)
    path = rng.normal(size=(9, 500)).cumsum(axis=0)
    between = series_order.distances(list(path))
    assert series_order.exchanged(between) == []
    for first in range(8):
        for second in range(first + 1, 9):
            order = np.arange(9)
            order[[first, second]] = second, first
            assert series_order.exchanged(between[np.ix_(order, order)]) == [(first, second)]
