"""Signal, noise and numbers of rows with known answers."""

import numpy as np
import pytest

from amuro_jax.curves import noise


def test_signal_and_noise_by_hand():
    found = noise.signal_and_noise(np.array([0.4, 0.6, 0.8]), [np.array([0.7, 0.8, 0.9])])
    assert found.signal == pytest.approx(0.4 / 0.6)
    assert found.noise == pytest.approx(0.1 / 0.8)
    assert found.ratio == pytest.approx(found.signal / found.noise)


def test_the_interval_of_the_ratio_covers_the_true_one():
    rng, covered, true_noise = np.random.default_rng(1), 0, 0.01
    for _ in range(400):
        tail = 1 + rng.normal(0, true_noise, 8)
        found = noise.signal_and_noise(np.array([0.9, 1.1]), [tail])
        covered += found.low <= 0.2 / true_noise <= found.high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(
    "compared,tail,why",
    [
        ([0.5], [0.5] * 4, "one score only"),
        ([0.5, 0.6], [0.5, 0.6], "2 checkpoints at the end"),
        ([0.5, 0.6], [0.6] * 4, "noise unknown"),
        ([-0.5, 0.5], [0.1, 0.2, 0.3], "the mean is zero"),
    ],
)
def test_what_has_no_ratio_says_why(compared, tail, why):
    found = noise.signal_and_noise(np.array(compared), [np.array(tail)])
    assert np.isnan(found.ratio) and why in found.why


def test_the_last_checkpoints_must_not_be_all_there_are():
    few = np.array([0.1, 0.2, 0.3])
    found = noise.signal_and_noise(few, [few], within=True)
    assert np.isnan(found.ratio) and "6 are needed" in found.why


def test_as_many_rows_as_said_see_the_difference_in_four_of_five_draws():
    rng, first, second = np.random.default_rng(2), 0.50, 0.56
    variance = first * (1 - first) + second * (1 - second)
    rows = int(noise.rows_needed(second - first, variance))
    draws = rng.binomial(rows, second, 4000) / rows - rng.binomial(rows, first, 4000) / rows
    seen = np.abs(draws) > 1.96 * np.sqrt(variance / rows)
    assert seen.mean() == pytest.approx(0.80, abs=0.02)


def test_pairs_in_order_by_hand():
    assert noise.pairs_in_order(np.array([1, 3, 2]), np.array([1, 2, 3])) == (2, 3)
    assert noise.pairs_in_order(np.array([1, 1, 2]), np.array([1, 2, 2])) == (
        1,
        2,
    )  # a tie is wrong
    value, low, high = noise.decision_interval(np.arange(6.0), np.arange(6.0))
    assert (value, low, high) == (1, 1, 1)
    assert np.isnan(noise.decision_interval(np.arange(3.0), np.ones(3))[0])


def test_kendall_of_a_constant_curve_is_undefined():
    assert np.isnan(noise.kendall(np.arange(6), np.ones(6))[0])
    assert noise.kendall(np.arange(6), np.arange(6))[0] == pytest.approx(1)


@pytest.mark.parametrize("count,last", [(0, 0), (2, 2), (3, 3), (27, 9), (186, 10)])
def test_a_third_of_the_checkpoints_are_the_last_ones(count, last):
    assert noise.last_of(count) == last
