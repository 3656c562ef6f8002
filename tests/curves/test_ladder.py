"""Ladders with a known law: its numbers and ends are recovered, and a fit that fails is named."""

import numpy as np
import pytest

from amuro_jax.curves import ladder
from amuro_jax.curves.ladder import Run

A, B, ALPHA, BETA, FLOOR = 6.0, 8.0, 0.35, 0.37, 0.5
TOKENS = (1e10, 2e10, 5e10, 1e11)
SIZES = (1.9e8, 3.7e8, 7.6e8, 1.28e9)


def law(parameters, tokens):
    return np.exp(A) / parameters**ALPHA + np.exp(B) / tokens**BETA + FLOOR


def accuracy(loss):
    return -0.75 / (1 + np.exp(-6 * (loss - 1.0))) + 1.0


def run(parameters, tokens, rng, noise=0.003, count=30):
    at = np.linspace(tokens / count, tokens, count)
    loss = law(parameters, at) * np.exp(rng.normal(0, noise, count))
    return Run(f"{parameters:.0f}-{tokens:.0f}", parameters, at, loss, accuracy(loss))


def rungs(rng, **options):
    return [
        run(size, 20 * size * factor, rng, **options) for size in SIZES for factor in (1, 2, 5, 10)
    ]


def test_the_law_is_recovered_without_noise():
    sizes, tokens = np.repeat(SIZES, 4), np.tile([2e10, 5e10, 1e11, 2e11], 4)
    fit = ladder.fit_loss(sizes, tokens, law(sizes, tokens))
    assert fit.failed == "" and fit.error < 1e-4
    assert fit(7e9, 4e12) == pytest.approx(law(7e9, 4e12), rel=0.01)


def test_the_sigmoid_is_recovered():
    loss = np.linspace(0.6, 1.4, 50)
    fit = ladder.fit_score(loss, accuracy(loss))
    assert fit.failed == "" and fit(0.55) == pytest.approx(accuracy(0.55), abs=0.01)


def test_the_end_of_a_larger_model_lies_in_the_interval():
    inside = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        # Evaluations close together: a mean of the last five lags behind the end.
        target = run(7e9, 4e12, rng, count=150)
        (found,) = ladder.predict(rungs(rng, count=150), [target], draws=30)
        inside += found.low <= accuracy(law(7e9, 4e12)) <= found.high
        assert found.score == pytest.approx(target.end[2], abs=0.05)
    assert inside >= 4


def test_the_end_of_a_run_from_its_own_first_half():
    target = run(1e9, 2e11, np.random.default_rng(1), count=120)
    pieces = ladder.pieces(target.until(0.5))
    assert pieces[-1].tokens[0] <= 1e11
    (found,) = ladder.predict(pieces, [target], draws=20, one_size=True)
    assert found.failed == "" and found.loss == pytest.approx(target.end[1], rel=0.01)


@pytest.mark.parametrize(
    "fit,said",
    [
        (lambda: ladder.fit_loss(np.ones(3), np.ones(3), np.ones(3)), "3 points"),
        (lambda: ladder.fit_score(np.arange(9.0), np.full(9, 0.3)), "all equal"),
        (lambda: ladder.fit_score(np.arange(3.0), np.arange(3.0)), "3 points"),
        (
            lambda: ladder.fit_score(
                np.linspace(0.6, 1.4, 60), 0.3 + np.random.default_rng(0).normal(0, 0.02, 60)
            ),
            "explains",
        ),
        (
            lambda: ladder.fit_loss(
                np.repeat(SIZES, 4), np.tile(TOKENS, 4), 20 * np.tile(TOKENS, 4) ** -0.1
            ),
            "zero",
        ),
    ],
)
def test_a_fit_that_fails_is_named(fit, said):
    assert said in fit().failed


def test_smoothing_and_variance_by_hand():
    np.testing.assert_allclose(ladder.smoothed([1, 2, 3, 4], 3), [1, 1.5, 2, 3])
    one = Run("r", 1, np.arange(1.0, 5), np.array([9.0, 1, 2, 3]), np.array([0.0, 2, 2, 2]))
    found = ladder.variance(one, 3)
    assert found["loss_sd"] == pytest.approx(np.sqrt(2 / 3))
    assert found["loss_relative_sd"] == pytest.approx(np.sqrt(2 / 3) / 2)
    assert found["score_sd"] == 0
