"""Uncertainty: against closed forms, brute force and scipy."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from amuro_jax.evals import statistics


def test_bootstrap_of_an_accuracy_agrees_with_the_binomial_standard_error():
    scores = np.r_[np.ones(140), np.zeros(60)]
    found = statistics.bootstrap(scores, 3000, seed=1)
    assert found.value == 0.7 and found.n == 200
    assert found.stderr == pytest.approx(np.sqrt(0.7 * 0.3 / 200), rel=0.06)
    assert found.low < 0.7 < found.high
    assert (found.low + found.high) / 2 == pytest.approx(0.7, abs=0.005)


def test_bootstrap_is_a_function_of_its_seed_and_not_of_memory(monkeypatch):
    scores = np.random.default_rng(0).random(97)
    whole = statistics.bootstrap_means(scores, 300, seed=5)
    monkeypatch.setattr(statistics, "DRAWS_AT_ONCE", 1000)
    np.testing.assert_array_equal(whole, statistics.bootstrap_means(scores, 300, seed=5))
    assert (whole != statistics.bootstrap_means(scores, 300, seed=6)).any()


def test_bootstrap_draws_the_rows_that_its_definition_names():
    scores = np.random.default_rng(0).normal(size=(53, 3))
    rows = np.random.default_rng(11).integers(0, 53, (40, 53))
    expected = scores[rows].mean(axis=1)
    found = statistics.bootstrap_means(scores, 40, seed=11)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_a_column_alone_gives_the_draws_it_gives_beside_others():
    rng = np.random.default_rng(0)
    for count in (1, 7, 50, 333):
        scores = rng.random((count, 9)) * 10.0 ** np.arange(-4, 5)
        means = statistics.bootstrap_means(scores, 64, seed=3)
        for column in range(9):
            alone = statistics.bootstrap_means(scores[:, column], 64, seed=3)
            np.testing.assert_array_equal(means[:, column], alone)


def test_equal_columns_have_equal_draws():
    column = np.random.default_rng(0).random((211, 1))
    means = statistics.bootstrap_means(np.repeat(column, 11, axis=1), 50, seed=0)
    assert (means == means[:, :1]).all()


def test_bootstrap_of_a_large_set_needs_little_memory():
    scores = np.random.default_rng(0).random((9815, 80))  # MNLI under 80 models
    tracemalloc.start()
    try:
        statistics.bootstrap_means(scores, 600, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_scores_of_zero_have_means_of_zero():
    assert (statistics.bootstrap_means(np.zeros((5, 2)), 10) == 0).all()


def test_without_resamples_the_interval_is_normal_and_without_rows_nothing_is_known():
    found = statistics.bootstrap([0.0, 1.0, 1.0, 1.0], 0)
    assert found.stderr == pytest.approx(0.25) and found.high - found.value == pytest.approx(0.49)
    assert np.isnan(statistics.bootstrap([]).value)


def test_mcnemar_is_the_exact_binomial_test():
    assert statistics.mcnemar(10, 2) == pytest.approx(stats.binomtest(2, 12).pvalue)
    assert statistics.mcnemar(0, 0) == 1.0


def test_paired_sees_a_difference_that_unpaired_intervals_hide():
    rng = np.random.default_rng(0)
    first = (rng.random(400) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:20]] = 1
    found = statistics.paired(first, second, 2000, seed=0)
    assert found.difference == pytest.approx(0.05) and found.gained == 20 and found.lost == 0
    assert found.p_bootstrap < 0.01 and found.p_mcnemar < 0.001 and found.low > 0
    assert statistics.bootstrap(second).low < statistics.bootstrap(first).high


def test_paired_of_a_model_with_itself_finds_nothing():
    scores = np.random.default_rng(0).random(30)
    found = statistics.paired(scores, scores)
    assert found.difference == 0 and found.p_bootstrap == 1 and found.p_mcnemar is None


def test_paired_refuses_other_rows():
    with pytest.raises(ValueError, match="same rows"):
        statistics.paired([1, 0], [1, 0, 1])


def test_holm_of_a_textbook_example_and_missing_values():
    adjusted = statistics.holm([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, 0.06, np.nan, 0.06, 0.02])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_raises_every_p_value_and_keeps_their_order(p_values):
    adjusted = statistics.holm(p_values)
    assert (adjusted >= np.asarray(p_values) - 1e-15).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()


def test_benjamini_hochberg_of_a_textbook_example_and_missing_values():
    adjusted = statistics.benjamini_hochberg([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.02, 0.04, np.nan, 0.04, 0.02])
    assert np.isnan(statistics.benjamini_hochberg([np.nan])).all()


def test_equivalence_is_another_question_than_no_difference():
    rng = np.random.default_rng(0)
    narrow, wide, beyond = (rng.normal(*at, 4000) for at in ((0, 0.003), (0, 0.05), (0.02, 0.003)))
    assert statistics.p_equivalent(narrow, 0.01) < 0.05  # no change beyond the margin is shown
    assert statistics.p_equivalent(wide, 0.01) > 0.3  # nothing is shown
    assert statistics.p_equivalent(beyond, 0.01) > 0.95  # a change is
    # Two one-sided tests at 5 % are the 90 % interval within the margin (normal draws).
    draws = rng.normal(0.002, 0.004, 200_000)
    normal = 1 - stats.norm.cdf((0.01 - 0.002) / 0.004)
    assert statistics.p_equivalent(draws, 0.01) == pytest.approx(normal, abs=0.002)


def test_effective_number_of_known_correlations():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=(3000, 8))
    assert statistics.effective_number(independent) == pytest.approx(8, rel=0.01)
    one = rng.normal(size=(3000, 1))
    assert statistics.effective_number(np.repeat(one, 8, axis=1)) == pytest.approx(1, rel=1e-3)
    half = independent + one  # correlations of 1/2: 64 / (8 + 56 / 4)
    assert statistics.effective_number(half) == pytest.approx(64 / 22, rel=0.07)
    constant = np.concatenate([independent, np.ones((3000, 2))], axis=1)
    assert statistics.effective_number(constant) == pytest.approx(8, rel=0.01)
    assert np.isnan(statistics.effective_number(np.ones((10, 2))))
