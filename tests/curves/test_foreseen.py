"""Calls of falls on made-up series whose truth is known: how often they are right, and how often a
fall is called with confidence where there is none.
"""

import numpy as np
import pytest

from amuro_jax.curves import foreseen
from amuro_jax.curves.foreseen import FALLS, RISES, UNSURE, BaseModels

SIGMAS = np.array([0.05, 0.1, 0.2, 0.4])
PLACE = np.linspace(0, 1, 6)  # of the checkpoints, on the logarithmic axis


def simulated(count, seed, surprise):
    """`count` pre-training runs, each tuned at two rates: (series, falls, groups). A score rises
    and saturates, noise costs more at later checkpoints, and a tuning costs what noise of its
    displacement does, but for a factor that is 2 on average and has a standard deviation of
    `surprise` on the logarithmic scale.
    """
    generator = np.random.default_rng(seed)
    series, falls, groups = [], [], []
    for run in range(count):
        gain, speed = generator.uniform(2, 10), generator.uniform(1, 5)
        scores = -gain * np.exp(-speed * PLACE)
        power, growth = generator.uniform(1, 2), generator.uniform(-1, 4)
        height = generator.uniform(3, 30) * np.exp(growth * PLACE)
        noise = generator.normal(0, 0.05, (len(PLACE), len(SIGMAS)))
        changes = -height[:, None] * SIGMAS**power + noise
        for rate in generator.uniform(np.log(0.02), np.log(0.4), 2):
            moved = np.exp(rate) * np.exp(-0.5 * PLACE)  # the weights grow
            factor = 2 * np.exp(surprise * generator.normal())
            tuned = scores - height * (factor * moved) ** power
            measured = scores + generator.normal(0, 0.05, len(PLACE))
            series.append(BaseModels(measured, SIGMAS, changes, moved, margin=0.1))
            falls.append(tuned[:-1].max() - tuned[-1] > 0.1)
            groups.append(run)
    return series, np.array(falls), np.array(groups)


def judged(surprise, seed=0, runs=80):
    """Shares: falls, right side without a fit, right side when fitted on other runs, confident
    calls, confident calls of a fall among series without one.
    """
    series, falls, groups = simulated(runs, seed, surprise)
    values = np.array([foreseen.features(one) for one in series])
    unfitted = values[:, 0] < 0
    probability = foreseen.left_out(values[:, :1], falls, groups)
    calls = np.array([foreseen.call(one) for one in probability])
    return (
        falls.mean(),
        (unfitted == falls).mean(),
        ((probability > 0.5) == falls).mean(),
        (calls != UNSURE).mean(),
        (calls[~falls] == FALLS).mean(),
    )


def test_falls_are_foreseen_where_tuning_does_what_noise_does():
    falls, unfitted, fitted, confident, false = judged(surprise=0.3)
    assert 0.3 < falls < 0.7
    assert fitted > 0.85 and fitted > unfitted and confident > 0.5
    assert false <= 0.03


def test_no_confident_call_where_tuning_has_little_to_do_with_noise():
    """Fewer calls are made, and no more of them are false."""
    _, _, _, confident, false = judged(surprise=3.0)
    assert confident < 0.7 and false <= 0.05


def test_the_cost_follows_the_noise_and_its_law_beyond():
    changes = -np.array([[3.0, 30.0]]) * SIGMAS[:, None] ** 2
    base = BaseModels(np.zeros(2), SIGMAS, changes.T, np.array([0.1, 0.1]))
    moved = np.array([[0.01, 0.1, 0.3, 1.0]] * 2)
    np.testing.assert_allclose(foreseen.cost(base, moved), [3 * moved[0] ** 2, 30 * moved[0] ** 2])
    np.testing.assert_allclose(foreseen.expected_scores(base), [-0.03, -0.3])


def test_the_critical_factor_is_where_the_last_one_loses_its_lead():
    """1 nat better, and noise costs it 27 m² in place of 3 m²: level where 24 m² = 1."""
    changes = -np.array([[3.0, 3.0, 27.0]]).T * SIGMAS**2
    base = BaseModels(np.array([-2.0, -1.0, 0.0]), SIGMAS, changes, np.full(3, 0.1))
    assert foreseen.critical_factor(base) == pytest.approx((1 / 24) ** 0.5 / 0.1, rel=0.03)
    known = BaseModels(np.array([-2.0, -1.0, 0.0]), SIGMAS, changes, np.full(3, 0.1), margin=0.5)
    assert foreseen.critical_factor(known) == pytest.approx((1.5 / 24) ** 0.5 / 0.1, rel=0.03)
    falling = BaseModels(np.array([-2.0, 0.0, -1.0]), SIGMAS, changes, np.full(3, 0.1))
    assert foreseen.critical_factor(falling) < 0.02  # the base models fall by themselves
    steady = BaseModels(np.array([-2.0, -1.0, 0.0]), SIGMAS, changes[[0, 0, 0]], np.full(3, 0.1))
    assert foreseen.critical_factor(steady) == pytest.approx(100)  # never, as far as is looked


def test_the_displacement_is_in_the_unit_of_the_noise():
    """Adam's steps of independent signs and falling rate, added up."""
    generator, steps, rate = np.random.default_rng(0), 60, 1e-3
    rates = rate * (1 - np.arange(steps) / steps)
    ends = (generator.choice([-1, 1], (20000, steps)) * rates).sum(axis=1)
    expected = np.sqrt(np.mean(ends**2)) / 0.2
    assert foreseen.displacement(rate, steps, np.array([0.2])) == pytest.approx(expected, rel=0.03)


def test_calls_are_made_at_nine_in_ten():
    assert [foreseen.call(one) for one in (0.0, 0.09, 0.11, 0.89, 0.9, 1.0)] == [
        RISES, RISES, UNSURE, UNSURE, FALLS, FALLS,
    ]  # fmt: skip


def test_no_call_beyond_what_laboratories_have_shown():
    """A higher rate makes a fall likelier; no rate makes a confident call."""
    for one in simulated(10, 2, 0.3)[0]:
        moved = [0.01 * one.displacement, one.displacement, 100 * one.displacement]
        found = [
            foreseen.probability(BaseModels(one.scores, SIGMAS, one.changes, at, one.margin))
            for at in moved
        ]
        assert found == sorted(found) and {foreseen.call(p) for p in found} == {UNSURE}
    assert found[0] < 0.3 and found[-1] > 0.5


def test_the_fit_knows_nothing_of_the_group_that_it_judges():
    series, falls, groups = simulated(20, 1, 0.3)
    values = np.array([foreseen.features(one) for one in series])
    before = foreseen.left_out(values, falls, groups)
    own = groups == 7
    changed = np.where(own, ~falls, falls)
    after = foreseen.left_out(values, changed, groups)
    np.testing.assert_array_equal(after[own], before[own])
    assert not np.allclose(after[~own], before[~own])


if __name__ == "__main__":  # the table of docs/curves.md
    for surprise in (0.0, 0.3, 0.6, 1.0, 3.0):
        print(surprise, *(f"{one:.3f}" for one in judged(surprise, runs=500)))
