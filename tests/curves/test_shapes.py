"""Shapes with a known answer: planted turns are recovered, and none is found where none is."""

import numpy as np
import pytest

from amuro_jax.curves import shapes
from amuro_jax.curves.curve import make_curve

U = np.linspace(np.log(2e9), np.log(3e11), 27)  # as Pythia: 2 B to 300 B tokens
NOISE = 0.01


def fitted(values, u=U, seed=0, **options):
    names = [str(place) for place in range(len(u))]
    curve = make_curve(names, np.exp(u), np.exp(u), values, np.full(len(u), NOISE))
    return shapes.fit_shape(curve, 300, seed, **options)


def turned(turn, before, after, rng):
    line = 0.3 + before * (U - U[0]) + (after - before) * np.maximum(U - turn, 0)
    return line + rng.normal(0, NOISE, len(U))


@pytest.mark.parametrize("before,after", [(0.05, 0.0), (0.0, 0.05), (0.05, -0.05)])
def test_the_interval_covers_a_planted_turn(before, after):
    rng, covered, found = np.random.default_rng(3), 0, 0
    for seed in range(120):
        turn = rng.uniform(U[8], U[18])
        shape = fitted(turned(turn, before, after, rng), seed=seed)
        if shape.kind == shapes.TURN:
            found += 1
            covered += shape.low * 0.999 <= np.exp(turn) <= shape.high * 1.001
    assert found > 90
    assert covered / found >= 0.90  # 95 % nominal; docs/benchmarks.md has 1,000 draws


@pytest.mark.parametrize("slope", [0.0, 0.03])
def test_a_curve_without_a_turn_has_none(slope):
    rng = np.random.default_rng(4)
    kinds = [fitted(slope * U + rng.normal(0, NOISE, len(U))).kind for _ in range(200)]
    assert kinds.count(shapes.TURN) <= 16  # 5 % of 200, and two standard errors


def test_a_smooth_rise_is_logistic_and_its_middle_is_found():
    middle = np.log(3e10)
    values = 0.25 + 0.4 / (1 + np.exp(-3 * (U - middle)))
    shape = fitted(values + np.random.default_rng(5).normal(0, NOISE, len(U)))
    assert shape.kind == shapes.LOGISTIC and shape.why == "none found: a smooth rise"
    assert np.log(shape.middle) == pytest.approx(middle, abs=0.15)
    done = np.exp(middle + np.log(9) / 3)
    assert shape.mostly_low < done < shape.mostly_high


@pytest.mark.parametrize(
    "before,after,name",
    [
        (0.05, 0.0, "rises, then is flat"),
        (0.05, -0.05, "rises, then falls"),
        (0.08, 0.02, "rises, then rises more slowly"),
    ],
)
def test_slopes_are_named_by_their_intervals(before, after, name):
    rng = np.random.default_rng(6)
    found = [fitted(turned(U[13], before, after, rng)) for _ in range(60)]
    names = [shape.why for shape in found if shape.kind == shapes.TURN]
    assert len(names) > 40 and names.count(name) / len(names) > 0.85


def test_test_rows_widen_the_interval():
    values = turned(U[13], 0.05, 0.0, np.random.default_rng(7))
    alone = fitted(values)
    rows = values[:, None] + np.random.default_rng(8).normal(0, 0.04, (len(U), 200))
    both = fitted(values, row_values=rows)
    assert both.low < alone.low and both.high > alone.high


@pytest.mark.parametrize(
    "values,why",
    [
        ([0.5], "one checkpoint only"),
        ([0.5] * 27, "the scores are all equal"),
        (list(range(5)), "5 checkpoints, 7 are needed"),
    ],
)
def test_what_cannot_be_said_is_not_said(values, why):
    shape = fitted(values, U[: len(values)])
    assert shape.kind == "" and why in shape.why and np.isnan(shape.turn)


def test_the_untrained_model_has_no_place_on_the_axis():
    values = turned(U[13], 0.05, 0.0, np.random.default_rng(9))
    tokens = np.concatenate([[0.0], np.exp(U)])
    curve = make_curve(range(28), tokens, tokens, np.concatenate([[0.9], values]))
    assert shapes.fit_shape(curve).turn == pytest.approx(fitted(values).turn)
