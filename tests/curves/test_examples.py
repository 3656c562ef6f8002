"""Planted dynamics of single examples are recovered; guessing alone is no learning."""

import numpy as np
import pytest

from amuro_jax.curves import examples

COUNT, CHANCE = 20, 0.25


def planted(rng, first, end, rows):
    """Right and wrong answers [R, N] of examples known at first ≤ c < end."""
    places = np.arange(COUNT)
    known = (places >= first) & (places < end)
    return rng.random((rows, COUNT)) < np.where(known, 1 - examples.SLIP, CHANCE)


@pytest.mark.parametrize(
    "first,end,state",
    [(0, COUNT, 0), (8, COUNT, 1), (5, 14, 2), (COUNT, COUNT, 3)],
)
def test_planted_states_are_recovered(first, end, state):
    found = examples.dynamics(planted(np.random.default_rng(1), first, end, 1000), CHANCE)
    assert (found.state == state).mean() > 0.88
    if state in (1, 2):
        same = found.state == state
        assert np.mean(np.abs(found.first[same] - first) <= 2) > 0.9
    if state == 2:
        assert np.mean(np.abs(found.end[same] - end) <= 2) > 0.9


def test_events_are_counted_by_hand():
    found = examples.dynamics(np.array([[0, 1, 0, 1, 1, 0]], bool), CHANCE)
    assert (found.learned_events[0], found.forgotten_events[0]) == (2, 2)


def test_the_stretch_is_the_most_likely_one():
    """Against every stretch, one by one."""
    rng = np.random.default_rng(2)
    right = rng.random((50, 9)) < 0.5
    found = examples.dynamics(right, CHANCE)
    gain = np.where(right, np.log(0.95 / CHANCE), np.log(0.05 / (1 - CHANCE)))
    for row in range(50):
        best = 0.0
        for first in range(9):
            for end in range(first + 1, 10):
                cost = np.log(9 if first else 4) + np.log(9) * (end < 9)
                if gain[row, first:end].sum() - cost > best + 1e-12:
                    best = gain[row, first:end].sum() - cost
        if best:
            value = gain[row, found.first[row] : found.end[row]].sum()
            cost = np.log(9 if found.first[row] else 4) + np.log(9) * (found.end[row] < 9)
            assert value - cost == pytest.approx(best)
        else:
            assert (found.first[row], found.end[row]) == (-1, -1)


def test_agreement_by_hand_and_its_coverage():
    assert examples.rank_agreement(np.array([1, 2, 3]), np.array([0, 0, 1]))[0] == 1
    assert np.isnan(examples.rank_agreement(np.arange(3), np.ones(3))[0])
    rng, covered = np.random.default_rng(3), 0
    for _ in range(300):
        right = rng.random(200) < 0.4
        _, low, high = examples.rank_agreement(rng.normal(right * 1.0), right)
        covered += low <= 0.7602 <= high  # area of two unit normals one apart: Φ(1 / √2)
    assert 0.92 <= covered / 300 <= 0.98
