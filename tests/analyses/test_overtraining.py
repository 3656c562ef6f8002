"""Turns, sensitivity and forgetting on made-up rows whose truth is written here."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import late_falls, overtraining, sensitivity
from amuro_jax.analyses.registry import tables_of
from amuro_jax.curves.turn import Turn
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
        assert line["peak_at"] in ("s40", "s80") and line["peak"] - line["end"] == line["fall"]
        assert 0.2 < line["fall_low"] < 0.4 < line["fall_high"]
    assert (table.loc["fine-tuned", "peak"], table.loc["fine-tuned", "end"]) == (0.9, 0.5)
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
    assert tables["overtraining"].set_index("model").loc["fine-tuned", "end"] == 0.9


def test_sets_out_of_the_domain_are_judged_and_losses_are_not():
    results = results_of(FALLING)
    results.cells.loc[results.cells["task"] == "arc", "role"] = "out_of_domain"
    assert set(overtraining.overtraining(results)["task"]) == {"nli", "arc"}
    results = results_of(FALLING)
    results.cells["metric"] = "bits_per_byte"
    assert overtraining.overtraining(results).empty


def test_a_short_curve_says_why_it_is_not_judged():
    results = results_of(FALLING)
    results.checkpoints = ["s10", "s20"]
    results.cells = results.cells[results.cells["checkpoint"].isin(results.checkpoints)]
    table = overtraining.overtraining(results)
    assert set(table["verdict"]) == {"2 checkpoints, 3 are needed"}
    assert set(overtraining.show_overtraining(table)["fall"]) == {"–"}


def test_a_fall_is_clear_beside_all_other_curves(monkeypatch):
    found = Turn(best=2, first=1, last=3, fall=0.1, fall_low=0.01, fall_high=0.2, p=0.03)
    monkeypatch.setattr(overtraining, "find_turn", lambda *_: found)
    table = overtraining.overtraining(results_of(FALLING))
    assert len(table) == 2 and set(table["p_holm"]) == {0.06}
    assert set(table["verdict"]) == {overtraining.NONE}
    tuned = table.iloc[[0, 0]].reset_index().assign(task=["nli", "rte"], fall_high=[0.2, 0.3])
    (said,) = overtraining.say_overtraining(None, {"overtraining": tuned})
    assert "of rte, excludes falls of more than 0.300" in said.text


def of_seeds(tuned, deviation):
    """(`results_of(tuned)`, the same with fine-tuned models that are means over three seeds whose
    scores have this standard deviation, the scores' differences from their mean [cells, 3]).
    """
    alone, results = results_of(tuned), results_of(tuned)
    alone.every = alone.cells
    spread = np.random.default_rng(0).normal(0, deviation, (len(results.cells), 3))
    parts, keys = [], {}
    for place, line in enumerate(results.cells.to_dict("records")):
        own = [f"{line['key']}/{seed}" for seed in range(3)] if line["tuned_on"] else [line["key"]]
        keys[line["key"]] = "+".join(own)
        for seed, key in enumerate(own):
            more = spread[place, seed] if line["tuned_on"] else 0.0  # a base model has no seeds
            parts.append(line | {"key": key, "value": line["value"] + more})
    results.draws = {key: alone.draws[one] for one, key in keys.items()}
    results.scores = {key: alone.scores(one) for one, key in keys.items()}.get
    results.cells["key"] = results.cells["key"].map(keys)
    results.every = pd.DataFrame(parts)
    return alone, results, spread[(results.cells["tuned_on"] != "").to_numpy()]


def test_the_spread_of_seeds_takes_the_claim_away():
    """A fall that the rows alone call clear, within what another seed does."""
    alone, seeded, spread = of_seeds((0.5, 0.7, 0.72, 0.8, 0.72, 0.7), 0.1)
    line = overtraining.overtraining(alone).set_index("model").loc["fine-tuned"]
    assert line["verdict"] == "falls" and line["seeds"] == 1
    table = overtraining.overtraining(seeded).set_index("model")
    assert set(table["seeds"]) == {3}
    assert table.loc["fine-tuned", "verdict"] == "no fall found"
    np.testing.assert_allclose(band_of(alone), 2 * 1.96 * 0.032, rtol=0.1)  # √(0.72 · 0.28 / 200)
    error = np.hypot(0.032, np.sqrt(spread.var(axis=1, ddof=1).mean() / 3))
    np.testing.assert_allclose(band_of(seeded), 2 * 1.96 * error, rtol=0.2)


def test_the_spread_of_seeds_is_in_the_noise_of_late_falls():
    alone, seeded, _ = of_seeds((0.5, 0.7, 0.85, 0.9, 0.75, 0.6), 0.25)
    assert verdict_of_late_falls(alone) == "gets worse"
    assert verdict_of_late_falls(seeded) == "no fall found"


def verdict_of_late_falls(results):
    table = late_falls.late_falls(results)
    return table[(table["tuned_on"] == "nli") & (table["task"] == "nli")]["verdict"].item()


def band_of(results):
    """Width of the figure's band around the third checkpoint's fine-tuned score."""
    drawn = overtraining.draw_overtraining(results, {})
    (one,) = [line for panel in drawn.panels for line in panel.series]
    return one.high[2] - one.low[2]


def test_growing_sensitivity_is_found_and_a_constant_one_is_not():
    growing = {0.3: [(0.8, 0.75, 0.7, 0.6, 0.5, 0.4), (0.78, 0.73, 0.7, 0.62, 0.5, 0.42)]}
    constant = {0.3: [(0.7, 0.7, 0.7, 0.7, 0.7, 0.69), (0.72,) * 6]}
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
        (line,) = panel.series
        assert line.label == "σ 0.3" and line.y == tuple(table["change"])
        assert line.low == tuple(table["low"]) and line.high == tuple(table["high"])


def test_the_largest_noise_is_said_and_what_the_right_answer_loses():
    results = results_of(RISING, {0.1: [(0.8,) * 6] * 2, 0.3: [(0.6,) * 6] * 2})
    levels = {key: -1.0 for key in results.cells["key"]}
    for line in results.noise.itertuples():  # the draws of a size take 1 and 3 nats
        levels[line.key] = -2.0 if line.variant.endswith("seed 0") else -4.0

    def rows(key, columns=()):
        logprobs = [[levels[key], -9.0]] * 3
        return pd.DataFrame({"score": 1.0, "gold": 0, "choice_logprobs": logprobs})

    results.rows = rows
    tables = tables_of(results)
    assert set(tables["sensitivity"]["gold_change"]) == {-2.0}
    (said,) = sensitivity.say_sensitivity(results, tables)
    assert said.text.startswith("Noise of 0.3 on the weights changes arc by")


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


def test_every_way_and_format_is_set_beside_its_own_base():
    arc = {"role": "multiple_choice", "of": ()}
    cells = [
        cell("s10", "", "arc", 0.5, **arc),
        cell("s10", "nli", "arc", 0.1, **arc),
        cell("s30", "", "arc", 0.8, **arc),
        cell("s30", "nli", "arc", 0.7, **arc),
        cell("s30", "", "arc", 0.4, format="io", **arc),
        cell("s30", "nli", "arc", 0.3, format="io", **arc),
        cell("s30", "nli", "nli", 0.1),
        cell("s30", "nli", "arc", 0.79, **arc) | {"variant": "lora", "key": "lora"},
        cell("s30", "nli", "arc", 0.1, **arc) | {"variant": "average of 2", "key": "average"},
    ]
    results = made(cells)
    results.variants, results.cells = results.cells, results.cells[:7]
    results.draws["lora"] = np.linspace(0.69, 0.89, 200)  # within the noise
    table = sensitivity.forgetting(results)
    assert list(table["variant"]) == ["", "", "", "lora"]
    np.testing.assert_allclose(table["base"], [0.5, 0.8, 0.4, 0.8])
    np.testing.assert_allclose(table["change"], [-0.4, -0.1, -0.1, -0.01])
    (said,) = sensitivity.say_forgetting(results, {"forgetting": table})
    assert "at s30 is clearly worse after fine-tuning in 2 of 3 scores" in said.text
    assert "lowest change −0.100" in said.text


def test_a_study_without_noise_or_tuning_says_nothing():
    results = made([cell("s30", "", "nli", 0.5)])
    tables = tables_of(results)
    for one in (overtraining.OVERTRAINING, sensitivity.SENSITIVITY, sensitivity.FORGETTING):
        assert tables[one.name].empty
        assert not list(one.sentences(results, tables)) and not (
            one.figure and one.figure(results, tables)
        )
        one.shown(tables[one.name])
