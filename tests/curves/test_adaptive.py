"""The search finds the full grid's verdict with few scores."""

import numpy as np
import pytest

from amuro_jax.curves import adaptive

COUNT, NOISE = 64, 0.005
TOKENS = np.geomspace(1e9, 1e12, COUNT)
ERRORS = np.full(COUNT, 0.01)


def reaching(place, rng, fall=0.0):
    """Rises to its end at a place, and falls over the last quarter."""
    level = 0.3 + 0.4 * np.minimum(np.arange(COUNT) / place, 1)
    return level - fall * np.clip(np.arange(COUNT) - 47, 0, 16) / 16 + rng.normal(0, NOISE, COUNT)


def test_the_verdict_is_the_full_grids_at_an_eighth_of_the_scores():
    rng, same, spent = np.random.default_rng(1), 0, 0
    for _ in range(300):
        values = reaching(rng.integers(8, 56), rng)
        found, order = adaptive.replay(TOKENS, values, ERRORS)
        same += adaptive.same(found, TOKENS, values, ERRORS)
        spent += len(order) / COUNT
    assert same / 300 >= 0.95 and spent / 300 <= 0.16


def test_what_is_not_learned_costs_three_scores():
    values = np.full(COUNT, 0.3)
    found, order = adaptive.replay(TOKENS, values, ERRORS)
    assert not found.learned and not found.falls and len(order) == 3


def test_a_fall_is_seen_half_way():
    values = reaching(10, np.random.default_rng(2), fall=0.2)
    found, _ = adaptive.replay(TOKENS, values, ERRORS)
    assert found.learned and found.falls


def test_the_untrained_model_is_a_place_like_others():
    tokens = np.concatenate([[0.0], TOKENS])
    values = np.concatenate([[0.1], np.full(COUNT, 0.5)])
    found, order = adaptive.replay(tokens, values, np.full(COUNT + 1, 0.01))
    assert (found.low, found.high) == (0, 1) and len(order) <= 9


@pytest.mark.parametrize("most", [3, 5])
def test_a_limit_is_kept(most):
    values = reaching(20, np.random.default_rng(3))
    assert len(adaptive.replay(TOKENS, values, ERRORS, most)[1]) == most


def test_another_verdict_is_not_the_same():
    values = reaching(20, np.random.default_rng(4))
    found, _ = adaptive.replay(TOKENS, values, ERRORS)
    for wrong in ({"learned": False}, {"falls": True}, {"high": 60}, {"high": 2}):
        other = adaptive.Verdict(**(vars(found) | wrong))
        assert not adaptive.same(other, TOKENS, values, ERRORS)
