"""Turns, sensitivity and forgetting on made-up rows whose truth is written here."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import overtraining, sensitivity
from amuro_jax.analyses.registry import tables_of
from amuro_jax.variants import Noise
from tests.analyses.hand import cell, made

ROWS, STEPS = 200, (10, 20, 40, 80, 160, 320)
FALLING = (0.5, 0.7, 0.9, 0.9, 0.7, 0.5)
RISING = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)


def rows_of(level, shift=0):
    """Scores of rows of which the first `level` are right, counted from `shift` on."""
    scores = np.arange(ROWS) < round(level * ROWS)
    return pd.Series(np.roll(scores, shift).astype(float))


def results_of(tuned, noise=None, seeds=None):
    """Base models at 0.5 and fine-tuned ones at `tuned`; `noise`: sigma → draws → levels."""
    cells, rows = [], {}

    def add(level, *arguments, shift=0, **fields):
        one = cell(*arguments, level, **fields.pop("place", {})) | fields
        one["key"] += one["variant"] + str(one["seed"] or "")
        rows[one["key"]] = rows_of(level, shift)
        cells.append(one | {"stderr": rows[one["key"]].std() / np.sqrt(ROWS)})
        return cells[-1]

    for step, level in zip(STEPS, tuned, strict=True):
        add(0.5, f"s{step}", "", "nli", shift=ROWS // 2)
        add(level, f"s{step}", "nli", "nli")
        choice = {"place": {"role": "multiple_choice", "of": ()}}
        add(0.8, f"s{step}", "", "arc", **choice)
        add(0.6, f"s{step}", "nli", "arc", **choice)
    noisy = []
    for sigma, draws in (noise or {}).items():
        for number, levels in enumerate(draws):
            for step, level in zip(STEPS, levels, strict=True):
                noisy.append(
                    add(level, f"s{step}", "", "arc", variant=Noise(sigma, number).variant)
                )
    plain = [one for one in cells if one not in noisy]
    results = made(cells, rows, resamples=500)
    results.cells, results.checkpoints = pd.DataFrame(plain), [f"s{step}" for step in STEPS]
    results.scores, results.noise = rows.get, pd.DataFrame(noisy)
    return results


def test_a_fall_is_said_with_where_it_may_begin():
    results = results_of(FALLING)
    tables = tables_of(results)
    table = tables["overtraining"].set_index("model")
    for model in ("fine-tuned", "gain"):
        line = table.loc[model]
        assert line["verdict"] == "falls" and line["fall"] == pytest.approx(0.4)
        assert (line["turn_from"], line["turn_to"]) == ("s40", "s80")
        assert 0.2 < line["fall_low"] < 0.4 < line["fall_high"]
    (said, *_) = overtraining.say_overtraining(results, tables)
    assert said.clear and "between s40 and s80" in said.text
    overtraining.show_overtraining(tables["overtraining"])
    (panel,) = overtraining.draw_overtraining(results, tables).panels
    assert panel.series[0].y == FALLING


def test_no_fall_is_claimed_of_a_curve_that_rises():
    results = results_of(RISING)
    tables = tables_of(results)
    assert set(tables["overtraining"]["verdict"]) == {"no fall found"}
    (said,) = overtraining.say_overtraining(results, tables)
    assert not said.clear and said.text.startswith("No fall of the fine-tuned score")
    assert set(tables["overtraining"]["turn_to"]) == {"s320"}


def test_the_spread_of_seeds_takes_the_claim_away():
    """A fall that the rows alone call clear, within what another seed does."""
    results = results_of((0.5, 0.7, 0.72, 0.8, 0.72, 0.7))
    results.every = results.cells
    alone = overtraining.overtraining(results).set_index("model").loc["fine-tuned"]
    assert alone["verdict"] == "falls" and alone["seeds"] == 1
    spread = np.random.default_rng(0).normal(0, 0.1, (len(results.cells), 3))
    parts = []
    for place, line in enumerate(results.cells.to_dict("records")):
        for seed in range(3):
            key = f"{line['key']}/{seed}"
            parts.append(line | {"key": key, "value": line["value"] + spread[place, seed]})
    keys = {one: "+".join(f"{one}/{seed}" for seed in range(3)) for one in results.cells["key"]}
    draws = {keys.get(one, one): results.draws[one] for one in results.cells["key"]}
    scores = {key: results.scores(one) for one, key in keys.items()}
    results = results_of((0.5, 0.7, 0.72, 0.8, 0.72, 0.7))
    results.cells["key"] = results.cells["key"].map(keys)
    results.draws, results.scores = draws, scores.get
    results.every = pd.DataFrame(parts)
    table = overtraining.overtraining(results).set_index("model")
    assert table.loc["fine-tuned", "seeds"] == 3
    assert table.loc["fine-tuned", "verdict"] == "no fall found"


def test_growing_sensitivity_is_found_and_a_constant_one_is_not():
    growing = {0.3: [(0.8, 0.75, 0.7, 0.6, 0.5, 0.4), (0.78, 0.73, 0.7, 0.62, 0.5, 0.42)]}
    constant = {0.3: [(0.7,) * 6, (0.72,) * 6]}
    for noise, clear in ((growing, True), (constant, False)):
        results = results_of(RISING, noise)
        tables = tables_of(results)
        table = tables["sensitivity"]
        assert len(table) == len(STEPS) and set(table["draws"]) == {2}
        expected = np.mean(noise[0.3], axis=0) - 0.8
        np.testing.assert_allclose(table["change"], expected, atol=1e-9)
        assert (table["low"] < table["change"]).all()
        (said,) = sensitivity.say_sensitivity(results, tables)
        assert said.clear == clear and ("loses more" in said.text) == clear
        sensitivity.show_sensitivity(table)
        (panel,) = sensitivity.draw_sensitivity(results, tables).panels
        assert panel.series[0].label == "σ 0.3" and len(panel.series[0].y) == len(STEPS)


def test_what_fine_tuning_costs_the_multiple_choice():
    results = results_of(RISING)
    tables = tables_of(results)
    table = tables["forgetting"]
    np.testing.assert_allclose(table["change"], -0.2)
    (said,) = sensitivity.say_forgetting(results, tables)
    assert (
        said.clear and "worse after fine-tuning in 1 of 1 score; lowest change −0.200" in said.text
    )
    sensitivity.show_forgetting(table)


def test_a_study_without_noise_or_tuning_says_nothing():
    results = made([cell("s30", "", "nli", 0.5)])
    tables = tables_of(results)
    for one in (overtraining.OVERTRAINING, sensitivity.SENSITIVITY, sensitivity.FORGETTING):
        assert tables[one.name].empty
        assert not list(one.sentences(results, tables)) and not (
            one.figure and one.figure(results, tables)
        )
        one.shown(tables[one.name])
