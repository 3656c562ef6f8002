"""The predictor on grids whose answer is known; its intervals over many draws."""

import dataclasses

import numpy as np
import pytest

from amuro_jax.curves import held_out, prediction
from amuro_jax.curves.held_out import CHECKPOINT, PREDICTOR, SERIES, SETS
from amuro_jax.curves.prediction import Grid


def grid(rng, *, series=1, pairs=6, checkpoints=8, noise=0.02, slope=0.1, kept=0.0, feature=0.0):
    """Curves: a height, a line over the place, `kept` of the base's deviation, a part that only the
    first feature shows, and noise.
    """
    curve, checkpoint = np.divmod(np.arange(series * pairs * checkpoints), checkpoints)
    of_series, sets = np.divmod(curve, pairs)
    place = np.log(10.0 ** (1 + checkpoint * 4 / (checkpoints - 1)))
    z = (place - place.mean()) / place.std()
    base = 0.4 + 0.05 * rng.normal(size=len(curve))
    features = np.full((len(curve), 2), np.nan)
    features[:, 0] = rng.normal(size=len(curve))
    tuned = 0.5 + 0.05 * rng.normal(size=pairs)[sets] + slope * z + kept * (base - 0.4)
    tuned += feature * features[:, 0] + noise * rng.normal(size=len(curve))
    kind, error = np.zeros_like(sets), np.full(len(curve), 0.005)
    return Grid(curve, sets, sets, kind, of_series, checkpoint, place, base, features, tuned, error)


def r2(one, what):
    held = held_out.evaluate(one, what)
    return {
        method: held_out.r_squared(one, held, method, np.arange(len(one)))[0]
        for method in held.values
    }, held


def test_a_line_over_pre_training_is_predicted_and_the_base_score_says_nothing():
    one = grid(np.random.default_rng(0), noise=0.01)
    scores, held = r2(one, CHECKPOINT)
    assert scores[PREDICTOR] > 0.9 and scores["line on log step"] > 0.95
    assert scores["constant gain"] < 0.3 and scores["mean of the others"] == 0
    right = held_out.share_right(one, held, PREDICTOR, np.arange(len(held.decided)))
    assert right[0] > 0.95


def test_what_the_base_score_says_is_used():
    one = grid(np.random.default_rng(1), slope=0.0, kept=1.0, noise=0.005, checkpoints=10)
    scores, _ = r2(one, CHECKPOINT)
    assert scores[PREDICTOR] > 0.85 and scores["line on log step"] < 0.1


def test_what_the_rows_of_the_base_model_say_is_used():
    one = grid(np.random.default_rng(2), slope=0.0, feature=0.1, noise=0.01, checkpoints=12)
    blind = dataclasses.replace(one, features=np.full((len(one), 2), np.nan))
    assert r2(one, CHECKPOINT)[0][PREDICTOR] > 0.8 > 0.1 > r2(blind, CHECKPOINT)[0][PREDICTOR]


def test_a_series_without_any_fine_tuning_is_predicted_from_the_others():
    one = grid(np.random.default_rng(3), series=5, pairs=4, noise=0.02)
    scores, held = r2(one, SERIES)
    assert scores[PREDICTOR] > 0.8 and np.isnan(scores["line on log step"])
    inside = (held.low <= one.tuned) & (one.tuned <= held.high)
    assert 0.85 <= inside.mean() <= 1.0


def test_nothing_of_what_is_held_out_is_used():
    one = grid(np.random.default_rng(4))
    known = one.checkpoint != 3
    other = dataclasses.replace(one, tuned=np.where(known, one.tuned, 9.0))
    ours, theirs = (prediction.predict(each, known, each.checkpoint) for each in (one, other))
    for name in ("value", "low", "high"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    for function in held_out.BASELINES.values():
        np.testing.assert_array_equal(function(one, known), function(other, known))


def test_all_that_is_tuned_on_a_set_is_held_out_at_once(monkeypatch):
    one = grid(np.random.default_rng(9), pairs=4)
    one, known = dataclasses.replace(one, source=one.sets // 2), []
    methods = held_out._methods
    monkeypatch.setattr(
        held_out, "_methods", lambda lines, mask, of: known.append(mask) or methods(lines, mask, of)
    )
    held_out.evaluate(one, SETS)
    assert [set(one.sets[~mask]) for mask in known] == [{0, 1}, {2, 3}]


def test_both_checkpoints_of_an_order_are_held_out(monkeypatch):
    one, known, expected = grid(np.random.default_rng(7)), [], held_out._expected
    monkeypatch.setattr(
        held_out, "_expected", lambda lines, mask: known.append(mask) or expected(lines, mask)
    )
    held_out.evaluate(one, CHECKPOINT)
    assert known and all(len(set(one.checkpoint[~mask])) == 2 for mask in known)


def test_orders_are_decided_where_scores_differ_by_more_than_chance_and_ties_are_half_right():
    one = grid(np.random.default_rng(8), pairs=1, checkpoints=3)
    one = dataclasses.replace(one, tuned=np.array([0.5, 0.51, 0.53]))  # ± 0.005 each
    decided = held_out.clear_orders(one)
    assert decided.tolist() == [[0, 2], [1, 2]]
    right = held_out._agreement(np.array([0.6, 0.7, 0.6]), decided, np.array([1.0, 1.0]))
    assert right.tolist() == [0.5, 0.0]


def test_too_few_scores_are_refused():
    one = grid(np.random.default_rng(5))
    with pytest.raises(ValueError, match="2 known scores, 3 are needed"):
        prediction.predict(one, np.arange(len(one)) < 2, one.checkpoint)


def test_intervals_cover_what_they_say():
    """1,000 draws of a grid, one checkpoint held out in each: 90 % intervals hold 85 to 97 %."""
    inside, rng = [], np.random.default_rng(6)
    for draw in range(1000):
        noise, slope = (0.01, 0.02, 0.05)[draw % 3], 0.1 * rng.normal()
        one = grid(rng, pairs=4, checkpoints=7, noise=noise, slope=slope)
        held = one.checkpoint == draw % 7
        made = prediction.predict(one, ~held, one.checkpoint)
        inside += list(((made.low <= one.tuned) & (one.tuned <= made.high))[held])
    assert 0.85 <= np.mean(inside) <= 0.97, np.mean(inside)
