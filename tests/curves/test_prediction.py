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


def bent(one, slope, noise=0.005):
    """The grid with scores that rise along `slope` [N] of each line."""
    z = (one.place - one.place.mean()) / one.place.std()
    wobble = noise * np.random.default_rng(11).normal(size=len(one))
    return dataclasses.replace(one, tuned=0.5 + slope * z + wobble)


def test_what_a_pair_of_sets_does_in_other_series_is_told_from_what_its_kind_does():
    """Half of the pairs fall and half rise: nothing can be said of the kind as a whole."""
    one = grid(np.random.default_rng(12), series=3, pairs=4)
    one = bent(one, np.where(one.sets % 2, 0.1, -0.1))
    made = prediction.expected(one, one.series != 0)
    errors, spread = (made - one.tuned)[one.series == 0], (one.tuned - 0.5)[one.series == 0]
    assert 1 - (errors @ errors) / (spread @ spread) > 0.93


def test_what_a_pair_of_sets_reaches_in_other_series_is_told_from_its_base_score():
    """All base models are near zero; half of the pairs reach 0.5 all the same, half reach 0.9."""
    one = grid(np.random.default_rng(12), series=3, pairs=4)
    one = bent(dataclasses.replace(one, base=np.full(len(one), 0.02)), np.full(len(one), 0.05))
    one = dataclasses.replace(one, tuned=one.tuned + 0.4 * (one.sets % 2))
    errors = np.abs(prediction.expected(one, one.series != 0) - one.tuned)[one.series == 0]
    assert errors.max() < 0.05


def test_a_set_that_nothing_was_tuned_on_follows_its_own_kind():
    one = grid(np.random.default_rng(13), pairs=6)
    one = dataclasses.replace(one, kind=one.sets % 2)
    one = bent(one, np.where(one.kind, 0.1, -0.1))
    made = prediction.expected(one, one.sets > 1)
    last, first = made[one.checkpoint == 7], made[one.checkpoint == 0]
    assert last[0] < first[0] - 0.1 and last[1] > first[1] + 0.1


def test_a_curve_without_known_scores_has_the_scale_of_its_sets_then_of_its_kind():
    one = grid(np.random.default_rng(14), series=2, pairs=4)
    one = dataclasses.replace(one, kind=one.sets % 2)
    one = bent(one, np.choose(one.sets, [0.03, 0.1, 0.05, 0.2]), noise=0.0)
    size = {
        (at, of): prediction._scales(one, known := one.curve != at)[~known][0]
        for at, of in ((0, 0), (3, 3))
    }
    whole = prediction._scales(one, np.ones(len(one), bool))
    assert size[0, 0] == pytest.approx(whole[one.curve == 4][0])  # the pair in the other series
    assert size[3, 3] == pytest.approx(whole[one.curve == 7][0])
    known = (one.sets != 0) & (one.sets != 1)
    scale = prediction._scales(one, known)
    for kind, sets in ((0, 2), (1, 3)):
        of_kind = scale[(one.sets == kind) & (one.series == 0)][0]
        assert of_kind == pytest.approx(np.median(whole[one.sets == sets]))


def test_intervals_are_as_wide_as_the_errors_of_whole_blocks_ask_for():
    """The factor of standard deviations, worked out by leaving out each block and solving again."""
    one = grid(np.random.default_rng(15), pairs=3, checkpoints=6, noise=0.05)
    known, blocks = one.checkpoint != 2, one.checkpoint // 2
    made = prediction._posterior(one, known)
    scores, left = [], one.tuned - prediction._prior(one)
    for block in np.unique(blocks[known]):
        inside, rest = known & (blocks == block), known & (blocks != block)
        a, b = np.ix_(inside, rest), np.ix_(rest, rest)
        inverse = np.linalg.inv(made.kernel[b] + np.diag(made.noise[rest]))
        mean = made.kernel[a] @ inverse @ made.target[rest]
        variance = np.diag(made.kernel)[inside] + made.noise[inside]
        variance = variance - np.einsum("ij,jk,ik->i", made.kernel[a], inverse, made.kernel[a])
        # As of what is truly unknown, in units of the deviation that the curve has without it.
        unit = [left[rest & (one.curve == at)].std(ddof=1) for at in one.curve[inside]]
        residual = np.abs(made.target[inside] - mean) * made.scale[inside]
        scores += list(residual / np.sqrt(variance) / unit)
    rank = prediction.LEVEL * (1 + 1 / len(scores))
    expected = np.quantile(scores, rank, method="higher")
    assert prediction._conformal(one, made, blocks) == pytest.approx(expected)
    by_line = prediction._conformal(one, made, np.arange(len(one)))
    assert by_line != pytest.approx(expected, rel=0.02)  # blocks matter here


def test_other_series_are_read_where_the_checkpoint_lies_between_theirs():
    one = grid(np.random.default_rng(10), series=3, pairs=2, checkpoints=3)
    place = np.where(one.series == 2, one.place - 1.0, one.place)  # of the third, all earlier
    tuned = one.sets + 0.1 * one.series + 0.2 * one.checkpoint
    one = dataclasses.replace(one, place=place, tuned=tuned)
    known = (one.series != 0) & ~((one.series == 1) & (one.sets == 1))
    said = prediction.other_series(one, known)
    step = one.place[1] - one.place[0]
    late = np.minimum(0.2 * (np.arange(3) + 1 / step), 0.4)  # of the third, at the first's places
    own = (one.series == 0) & (one.sets == 0)
    np.testing.assert_allclose(said[own], (0.1 + 0.2 * np.arange(3) + 0.2 + late) / 2)
    np.testing.assert_allclose(said[(one.series == 0) & (one.sets == 1)], 1.2 + late)
    assert np.isnan(said[(one.series == 2) & (one.sets == 1)]).all()  # no other series has the set
    assert np.isnan(prediction.other_series(one, one.series == 0)[one.series == 0]).all()


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
