"""Averages against their last checkpoint, by hand."""

import numpy as np
import pytest

from amuro_jax.analyses import averages
from amuro_jax.analyses.registry import tables_of
from tests.analyses.hand import cell, made


def varied(variant, *arguments, **fields):
    one = cell(*arguments, **fields)
    return one | {"variant": variant, "key": one["key"] + variant}


def results_of(single, average, spread=0.0):
    """A base and a tuned model, each alone and as an average of 3, at one checkpoint."""
    cells = [
        cell("s30", "", "nli", single),
        cell("s30", "nli", "nli", single + 0.1),
        varied("average of 3", "s30", "", "nli", average),
        varied("average of 3", "s30", "nli", "nli", average + 0.1),
    ]
    results = made(cells)
    results.variants, results.cells = results.cells, results.cells[:2]
    for key in results.draws:
        results.draws[key] = results.draws[key] + spread * np.random.default_rng(
            len(key)
        ).standard_normal(200)
    return results


def test_each_average_stands_beside_its_last_checkpoint():
    table = averages.averages(results_of(0.5, 0.6))
    assert list(table["tuned_on"]) == ["", "nli"] and set(table["averaged"]) == {"3 checkpoints"}
    np.testing.assert_allclose(table["difference"], 0.1)
    np.testing.assert_allclose(table["single"], [0.5, 0.6])
    averages.show_averages(table)


def test_clear_differences_are_counted_and_others_are_not_said_to_be_clear():
    for spread, counted in ((0.01, "better in 1 and worse in 0"), (0.5, "better in 0")):
        results = results_of(0.5, 0.6, spread)
        sentences = list(averages.say_averages(results, tables_of(results)))
        assert [one.clear for one in sentences] == [spread < 0.1] * 2
        assert all(counted in one.text for one in sentences)


def test_a_study_without_averages_says_nothing():
    results = made([cell("s30", "", "nli", 0.5)])
    tables = tables_of(results)
    assert tables["averages"].empty and not list(averages.say_averages(results, tables))
    averages.show_averages(tables["averages"])


def test_a_missing_single_score_leaves_the_difference_open():
    results = results_of(0.5, 0.6)
    results.cells = results.cells[1:]
    results.__dict__.pop("_at", None)
    line = averages.averages(results).iloc[0]
    assert np.isnan(line["difference"]) and line["value"] == pytest.approx(0.6)
