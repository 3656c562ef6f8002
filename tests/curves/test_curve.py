"""A curve from faulty input: what is left out is said, and nothing is guessed."""

import numpy as np
import pytest

from amuro_jax.curves.curve import ORDER, STEPS, TOKENS, make_curve

STEPS_4 = [1, 2, 3, 4]
NAMES = list("abcd")


def curve(steps=STEPS_4, tokens=(10, 20, 30, 40), values=(0.1, 0.2, 0.3, 0.4), stderrs=(0.01,) * 4):
    return make_curve(NAMES[: len(values)], steps, tokens, values, stderrs)


def test_a_clean_curve_has_no_notes():
    made = curve()
    assert (made.unit, made.notes, made.problem) == (TOKENS, (), "")
    np.testing.assert_array_equal(made.x, [10, 20, 30, 40])


def test_steps_in_another_order_are_sorted_and_said():
    made = curve(steps=[2, 1, 4, 3], tokens=[20, 10, 40, 30])
    assert made.names == ("b", "a", "d", "c") and "sorted" in made.notes[0]
    np.testing.assert_array_equal(made.places, [1, 0, 3, 2])


def test_points_of_one_step_become_their_mean_and_are_said():
    made = curve(steps=[1, 2, 2, 4], tokens=[10, 20, 20, 40])
    np.testing.assert_allclose(made.value, [0.1, 0.25, 0.4])
    assert made.names == ("a", "b", "d") and "1 token value occur 2 times" in made.notes[0]
    assert made.stderr[1] == pytest.approx(0.01)  # the same rows twice are not twice the evidence


def test_scores_that_are_missing_are_left_out_and_counted():
    made = curve(values=[0.1, np.nan, np.inf, 0.4])
    assert made.names == ("a", "d") and made.notes == ("2 of 4 scores are missing or NaN",)


def test_tokens_that_are_unknown_for_some_give_steps():
    made = curve(tokens=[10, None, 30, 40])
    assert made.unit == STEPS and len(made) == 4
    assert made.notes == ("tokens are unknown for 1 of 4 scores: steps are used",)


def test_a_checkpoint_of_unknown_step_is_left_out_and_said():
    made = curve(tokens=[None] * 4, steps=[1, 2, 3, None])
    assert made.names == ("a", "b", "c") and "1 of 4 scores are of unknown steps" in made.notes[-1]


def test_where_nothing_is_known_the_order_is_used_and_said():
    made = curve(tokens=[None] * 4, steps=[None] * 4)
    assert made.unit == ORDER and "order of the checkpoints" in made.notes[0]


def test_tokens_that_contradict_the_steps_are_not_used():
    made = curve(tokens=[10, 40, 30, 50])
    assert made.unit == STEPS and "do not increase" in made.notes[0]


def test_tokens_rounded_to_the_same_of_several_steps_are_not_used():
    made = curve(tokens=[10, 20, 20, 40])
    assert made.unit == STEPS and made.names == ("a", "b", "c", "d")
    assert made.notes == ("tokens do not increase with the steps: steps are used",)


def test_missing_standard_errors_are_said():
    assert "standard errors are missing" in curve(stderrs=()).notes[0]
    assert "of 1 of 4 scores" in curve(stderrs=(0.01, None, 0.01, 0.01)).notes[0]


@pytest.mark.parametrize(
    "values,problem",
    [((), "no score"), ((0.5,), "one checkpoint only"), ((0.5,) * 4, "the scores are all equal")],
)
def test_a_curve_without_a_shape_says_why(values, problem):
    count = len(values)
    assert curve(STEPS_4[:count], [10, 20, 30, 40][:count], values, ()).problem == problem
