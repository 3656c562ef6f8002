"""Falls with known answers: planted ones are found, and curves that never fall raise no alarm."""

import numpy as np
import pytest

from amuro_jax.curves import falls
from amuro_jax.curves.curve import make_curve

COUNT, NOISE = 27, 0.01
TOKENS = np.linspace(1e9, 3e11, COUNT)


def curve(values, stderr=NOISE):
    count = len(values)
    errors = np.full(count, stderr) if stderr else ()
    return make_curve(
        [f"s{place}" for place in range(count)], range(count), TOKENS[:count], values, errors
    )


def rising(rng, fall=0.0):
    """Rises for 12 points, stays for 8, falls over the last 7."""
    level = (
        0.3
        + 0.02 * np.minimum(np.arange(COUNT), 12)
        - fall * np.clip(np.arange(COUNT) - 19, 0, 7) / 7
    )
    return level + rng.normal(0, NOISE, COUNT)


@pytest.mark.parametrize("stderr", [NOISE, None])
def test_curves_that_never_fall_raise_no_alarm(stderr):
    rng = np.random.default_rng(1)
    p = np.array([falls.find_fall(curve(rising(rng), stderr)).p for _ in range(200)])
    assert (p < 0.05).mean() <= 0.08  # 5 % of 200, and two standard errors


def test_a_planted_fall_is_found_with_its_size():
    rng = np.random.default_rng(2)
    found = [falls.find_fall(curve(rising(rng, fall=0.06))) for _ in range(100)]
    assert np.mean([one.p < 0.05 for one in found]) > 0.95
    assert np.median([one.fall for one in found]) == pytest.approx(0.06, abs=0.012)
    assert all(one.rose for one in found)


def test_a_large_fall_has_a_p_value_below_what_draws_can_show():
    one = falls.find_fall(curve(rising(np.random.default_rng(3), fall=0.2)))
    assert one.p < 1e-6 and one.peak == pytest.approx(0.54, abs=0.02)


def test_a_score_of_which_less_is_better_falls_upwards():
    values = 5 - rising(np.random.default_rng(4), fall=0.1)
    one = falls.find_fall(curve(values), sign=-1)
    assert one.p < 0.001 and one.end > one.peak


def test_a_fall_from_the_untrained_score_is_none():
    rng = np.random.default_rng(5)
    values = 0.5 - 0.004 * np.arange(COUNT) + rng.normal(0, NOISE, COUNT)
    one = falls.find_fall(curve(values))
    assert one.p < 0.05 and not one.rose


def test_rows_that_all_checkpoints_share_are_not_noise_between_them():
    rng = np.random.default_rng(6)
    values = rising(rng, fall=0.04)
    shared = rng.normal(0, 0.05, 400)  # the same hard rows for every checkpoint
    rows = values[:, None] + shared + rng.normal(0, NOISE, (COUNT, 400))
    assert falls.find_fall(curve(values, 0.05), row_values=rows).p < 0.01
    assert falls.find_fall(curve(values, 0.05)).p > 0.05


@pytest.mark.parametrize(
    "values,why",
    [([0.5], "one checkpoint only"), ([0.5] * 9, "all equal"), ([0.1, 0.2, 0.3], "3 checkpoints")],
)
def test_what_cannot_be_tested_says_why(values, why):
    one = falls.find_fall(curve(values))
    assert why in one.why and np.isnan(one.p)
    assert falls.find_saturation(curve(values)).at == -1


def test_saturation_is_where_the_trend_ends():
    rng = np.random.default_rng(7)
    at = [falls.find_saturation(curve(rising(rng))).at for _ in range(60)]
    assert 10 <= np.median(at) <= 14
    steady = 0.3 + 0.1 * np.log(TOKENS) + rng.normal(0, NOISE, COUNT)
    late = falls.find_saturation(curve(steady))
    change = 0.1 * np.log(TOKENS[-1] / TOKENS[late.at])
    assert late.at > 18 and late.low < change < late.high  # what is left is said with its interval
