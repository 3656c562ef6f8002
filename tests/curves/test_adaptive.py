"""The search finds the full grid's verdict with few rows."""

import dataclasses

import numpy as np
import pytest

from amuro_jax.curves import adaptive
from amuro_jax.curves.adaptive import Known, Verdict

COUNT, ROWS = 48, 1024
TOKENS = np.geomspace(1e9, 1e12, COUNT)


def reaching(place, rng, fall=0.0):
    """Rows of a score that rises to its end at a place, and falls over the last quarter; half of
    what makes a row right is its own at all checkpoints.
    """
    level = 0.3 + 0.4 * np.minimum(np.arange(COUNT) / place, 1)
    level = level - fall * np.clip(np.arange(COUNT) - 35, 0, 12) / 12
    difficulty = rng.random(ROWS)
    own = np.where(rng.random((COUNT, ROWS)) < 0.5, difficulty, rng.random((COUNT, ROWS)))
    return (own < level[:, None]) * 1.0


def search(right, tokens=TOKENS):
    """The verdict, and the rows that were scored of each checkpoint."""
    scores = {}
    while (part := adaptive.next_part(Known.of(tokens, ROWS, scores))) is not None:
        place, count = part
        assert count > len(scores.get(place, ())) and count in adaptive.part_sizes(ROWS)
        scores[place] = right[place, :count]
    known = Known.of(tokens, ROWS, scores)
    return adaptive.believe(known), known.counts


def full_grid(right, tokens=TOKENS):
    """learned, falls, first and last place of the end, of all rows."""
    values = right.mean(1)
    stderrs = np.sqrt(values * (1 - values) / ROWS)
    return [one[0] for one in adaptive.outcome(tokens, values[None], stderrs)]


def test_the_verdict_is_the_full_grids_at_a_ninth_of_the_rows():
    rng, same, spent, count = np.random.default_rng(2), 0, 0, 10
    for _ in range(count):
        right = reaching(rng.integers(8, 40), rng)
        belief, counts = search(right)
        learned, falls, first, last = full_grid(right)
        verdict = belief.verdict
        same += (verdict.learned, verdict.falls) == (
            learned,
            falls,
        ) and first <= verdict.high <= last
        spent += counts.sum() / right.size
    assert same / count >= 0.9 and spent / count <= 1 / 9


def test_what_is_not_learned_costs_few_rows():
    right = (np.random.default_rng(2).random((COUNT, ROWS)) < 0.3) * 1.0
    belief, counts = search(right)
    assert belief.verdict == Verdict(False, False, -1, 0)
    assert counts.sum() / right.size < 0.05


def test_a_fall_is_seen_half_way():
    belief, _ = search(reaching(10, np.random.default_rng(3), fall=0.2))
    assert belief.verdict.learned and belief.verdict.falls


def test_what_is_far_from_the_end_is_settled_with_few_rows():
    right = reaching(30, np.random.default_rng(4))
    belief, counts = search(right)
    assert belief.verdict.learned and 0 < counts[0] <= ROWS / 4
    assert counts.max() > counts[0], "rows go to where the end is near"


def test_the_untrained_model_is_a_place_like_others():
    tokens = np.concatenate([[0.0], TOKENS])
    rng = np.random.default_rng(5)
    right = (rng.random((COUNT + 1, ROWS)) < np.array([0.1] + [0.5] * COUNT)[:, None]) * 1.0
    belief, counts = search(right, tokens)
    learned, falls, first, last = full_grid(right, tokens)
    assert (belief.verdict.learned, belief.verdict.falls) == (learned, falls) == (True, False)
    assert first == 1 <= belief.verdict.high <= last
    assert counts.sum() / right.size < 0.15


def test_the_untrained_model_is_a_step_before_the_first_trained_one():
    """Between the two no more can happen than between others: what is believed of the others is
    the same without it.
    """
    spread = []
    for tokens in (TOKENS, np.concatenate([[0.0], TOKENS])):
        places = (len(tokens) - COUNT, len(tokens) - 1)  # the first trained one, and the last
        values = np.where(np.isin(np.arange(len(tokens)), places), 0.5, np.nan)
        counts = np.where(np.isfinite(values), ROWS, 0)
        known = Known(tokens, values, counts, np.full(len(tokens), 0.5), ROWS)
        drawn = adaptive.believe(known).scores[:, -COUNT // 2]
        spread.append(np.subtract(*np.quantile(drawn, [0.75, 0.25])))
    assert spread[1] == pytest.approx(spread[0], rel=0.25)


@pytest.mark.parametrize("errors, clear", [(1.9, False), (1.95, False), (1.97, True), (2.1, True)])
def test_clear_is_a_difference_of_196_standard_errors_of_it(errors, clear):
    stderrs = np.array([0.006, 0.001, 0.001, 0.008])  # of the difference: 0.01
    scores = 0.5 - np.array([[errors * 0.01, 0.0, 0.0, 0.0]])
    learned, falls, _, high = adaptive.outcome(np.arange(1.0, 5), scores, stderrs)
    assert (learned[0], falls[0], high[0]) == (clear, False, int(clear))
    half = stderrs[[1, 0, 2, 3]]
    _, falls, _, _ = adaptive.outcome(np.arange(1.0, 5), 1 - scores[:, [1, 0, 2, 3]], half)
    assert falls[0] == clear


def test_a_score_at_the_border_of_clear_is_settled_by_all_rows():
    stderrs = np.full(COUNT, 0.01)
    values = np.where(np.arange(COUNT) < 20, 0.5 - adaptive.Z * 2**0.5 * 0.01, 0.5)
    known = Known(TOKENS, values, np.full(COUNT, ROWS), stderrs, ROWS, stderrs=stderrs)
    assert adaptive.believe(known).probability < adaptive.SURE
    assert adaptive.next_part(known) is None


def test_all_rows_leave_no_doubt():
    right = reaching(20, np.random.default_rng(6))
    known = Known.of(TOKENS, ROWS, dict(enumerate(right)))
    belief = adaptive.believe(known)
    learned, falls, first, last = full_grid(right)
    assert belief.probability == 1 and first <= belief.verdict.high <= last
    assert (belief.verdict.learned, belief.verdict.falls) == (learned, falls)
    assert adaptive.next_part(known) is None


def test_rows_that_two_checkpoints_share_tell_more_of_their_difference():
    level = np.linspace(0.3, 0.6, COUNT)
    known = Known(
        TOKENS,
        np.where(np.isin(np.arange(COUNT), (0, 23, 47)), level, np.nan),
        np.where(np.isin(np.arange(COUNT), (0, 23, 47)), 64, 0),
        np.full(COUNT, 0.5),
        ROWS,
    )
    spread = []
    for agreement in (0.0, 0.9):
        scores = adaptive.believe(dataclasses.replace(known, agreement=agreement)).scores
        spread.append((scores[:, -1] - scores[:, 0]).std())
    assert spread[1] < 0.6 * spread[0]


def test_a_smooth_curve_is_believed_to_bend_and_a_rough_one_to_jump():
    place = np.arange(COUNT)
    smooth = 0.3 + 0.4 * np.sin(np.pi * place / (COUNT - 1))
    rough = np.where(place < 24, 0.3, 0.7)
    seen = np.zeros(COUNT, bool)
    seen[[0, 6, 12, 18, 23, 24, 29, 35, 41, 47]] = True
    missed = {}
    for name, level in (("smooth", smooth), ("rough", rough)):
        values, counts = np.where(seen, level, np.nan), np.where(seen, ROWS, 0)
        scores = adaptive.believe(Known(TOKENS, values, counts, np.full(COUNT, 0.1), ROWS)).scores
        straight = np.interp(place, place[seen], level[seen])
        missed[name] = [np.abs(one - level)[~seen].mean() for one in (scores.mean(0), straight)]
        spread = scores[:, ~seen].std(0).mean()
        missed[name].append(spread)
    assert missed["smooth"][0] < 0.5 * missed["smooth"][1], "between two points it bends"
    assert missed["rough"][0] < 0.01, "no wave before and after the jump"
    assert missed["smooth"][2] < 0.5 * missed["rough"][2], "what bends is known better"


def test_agreement_is_measured_on_the_rows_of_both():
    rng = np.random.default_rng(7)
    last = (rng.random(ROWS) < 0.5) * 1.0
    other = np.where(rng.random(ROWS) < 0.6, last, (rng.random(ROWS) < 0.5) * 1.0)
    many = Known.of(TOKENS, ROWS, {0: other, COUNT - 1: last}).agreement
    assert many == pytest.approx(0.6, abs=0.1)
    few = Known.of(TOKENS, ROWS, {0: last[:8], COUNT - 1: last}).agreement
    assert few < 0.3, "a few rows are drawn towards none"


def test_a_part_of_hard_rows_does_not_make_a_checkpoint_worse_than_the_end():
    last = np.arange(ROWS) % 2 * 1.0
    last[:64] = 0  # the first part is hard
    known = Known.of(TOKENS, ROWS, {0: last[:64] * 0, 24: last[:128], COUNT - 1: last})
    assert last[:128].mean() == 0.25 and known.values[COUNT - 1] == last.mean() > 0.46
    assert known.values[24] > 0.33, "of its own rows a quarter is right"


@pytest.mark.parametrize(
    "rows, sizes",
    [(12, (12,)), (40, (16, 20, 30, 40)), (800, (25, 50, 75, 100, 150, 200, 300, 400, 600, 800))],
)
def test_parts_of_a_set(rows, sizes):
    assert adaptive.part_sizes(rows) == sizes
