"""Turns of a study's curves: from rows, from imported tables, and of faulty input."""

import numpy as np
import pytest

from amuro_jax.analyses import change_points, series
from amuro_jax.analyses.registry import tables_of
from amuro_jax.curves import shapes
from tests.analyses import imported
from tests.analyses.hand import cell, made

COUNT, TURN = 12, 6


def names():
    return [f"s{place:02d}" for place in range(1, COUNT + 1)]


def curve_cells(values, tuned_on="", task="lab_nli", **more):
    steps = (100 * np.exp(0.5 * np.arange(COUNT))).astype(int)
    return [
        cell(name, tuned_on, task, value) | {"step": int(step), "tokens": int(step) * 1000} | more
        for name, step, value in zip(names(), steps, values, strict=False)
    ]


def rising(height):
    noise = np.random.default_rng(1).normal(0, 0.004, COUNT)
    return 0.3 + height * np.minimum(np.arange(COUNT), TURN) + noise


def test_base_fine_tuned_and_gain_have_a_line_each():
    tuned = rising(0.08)
    results = made([*curve_cells(rising(0.05)), *curve_cells(tuned, "lab_nli")])
    table = change_points.change_points(results).set_index("model")
    assert list(table.index) == [series.BASE, series.TUNED, series.GAIN]
    step = 100 * np.exp(0.5 * TURN) * 1000
    for model in (series.BASE, series.TUNED):
        assert table.loc[model, "shape"] == shapes.TURN
        assert table.loc[model, "low"] < step < table.loc[model, "high"]
        assert table.loc[model, "verdict"] == "rises, then is flat"


@pytest.mark.parametrize(
    "values,note",
    [
        ([0.5], "one checkpoint only"),
        ([0.5] * COUNT, "the scores are all equal"),
        ([np.nan] * COUNT, "no score"),
    ],
)
def test_faulty_curves_are_answered_in_words(values, note):
    results = made(curve_cells(values))
    tables = tables_of(results)
    (line,) = tables["change_points"].to_dict("records")
    assert note in line["verdict"] and line["shape"] == "" and np.isnan(line["turn"])
    assert not list(change_points.say_change_points(results, tables))
    change_points.draw_change_points(results, tables)
    change_points.show_change_points(tables["change_points"])


def test_pythias_curves(shared):
    table = imported.pythia_tables(shared)["change_points"]
    assert len(table) == 476
    of_12b = table[(table["suite"] == "pythia-12b") & (table["shots"] == 0)]
    of_12b = of_12b[of_12b["metric"] == "accuracy"].set_index("task")
    assert of_12b.loc["arc_easy", "verdict"] == "is flat, then rises"
    assert of_12b.loc["arc_easy", "low"] < 1e9 < of_12b.loc["arc_easy", "high"]
    assert of_12b.loc["lambada_openai", "shape"] == shapes.LOGISTIC
