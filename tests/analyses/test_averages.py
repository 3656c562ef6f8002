"""Averages against their last checkpoint, by hand."""

import numpy as np
import pandas as pd
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


def of_seeds(spread):
    """`results_of(0.5, 0.7)` with tuned models that are means over three seeds; scores ± spread."""
    results = results_of(0.5, 0.7, 0.02)
    every, draws = [], dict(results.draws)
    for place, line in results.variants.iterrows():
        seeds = (-1, 0, 1) if line["tuned_on"] else (0,)
        keys = [f"{line['key']}/{seed}" for seed in seeds]
        for key, seed in zip(keys, seeds, strict=True):
            every.append(line.to_dict() | {"key": key, "value": line["value"] + seed * spread})
        draws["+".join(keys)] = draws[line["key"]]
        results.variants.loc[place, "key"] = "+".join(keys)
    results.draws, results.every = draws, pd.DataFrame(every)
    results.cells = results.variants[:2].copy()
    return averages.averages(results).set_index("tuned_on")


def test_the_spread_of_training_seeds_is_in_the_interval():
    narrow, wide = of_seeds(0.0), of_seeds(0.3)
    assert narrow.loc["nli", "p_holm"] < 0.05 < wide.loc["nli", "p_holm"]
    np.testing.assert_allclose(narrow["difference"], wide["difference"])
    # Two means over three seeds; draws of a variance with four degrees of freedom are wider.
    expected = np.hypot(narrow.loc["nli", "stderr"], 0.3 * np.sqrt(2 / 3 * 4 / 2))
    np.testing.assert_allclose(wide.loc["nli", "stderr"], expected, rtol=0.2)
    assert narrow.loc["", "stderr"] == wide.loc["", "stderr"]  # base models have no seeds


def test_an_average_stands_beside_a_model_of_its_own_way_and_format():
    nli = ("s30", "nli", "nli")
    cells = [
        cell("s30", "", "nli", 0.3),
        cell(*nli, 0.5),
        cell(*nli, 0.4, format="io"),
        cell("s30", "nli", "rte", 0.2, role="cross_task"),
        varied("low rate", *nli, 0.7),
        varied("low rate, average of 3", *nli, 0.72),
        varied("average of 3", *nli, 0.43, format="io"),
        varied("low rate, average of 2 seeds", *nli, 0.71),
        varied("average of 3", "s30", "nli", "rte", 0.25, role="cross_task"),
    ]
    results = made(cells)
    results.variants, results.cells = results.cells, results.cells[:4]
    table = averages.averages(results)
    assert list(table["averaged"]) == ["3 checkpoints"] * 2 + ["2 seeds", "3 checkpoints"]
    np.testing.assert_allclose(table["single"], [0.7, 0.4, 0.7, 0.2])
    np.testing.assert_allclose(table["difference"], [0.02, 0.03, 0.01, 0.05])
    assert "rte" not in set(averages.show_averages(table)["set"])


def test_it_is_said_of_which_models_and_against_what():
    lines = [
        ("3 checkpoints", "", 0.01, 0.001),
        ("3 checkpoints", "nli", -0.02, 0.001),
        ("2 seeds", "nli", 0.03, 0.06),  # clear alone, and not beside as many others
    ]
    table = pd.DataFrame(lines, columns=["averaged", "tuned_on", "difference", "p_holm"])
    table = table.assign(p=0.001, stderr=0.0005, task="nli", checkpoint="s30")
    table = table.assign(low=table["difference"] - 0.001, high=table["difference"] + 0.001)
    base, tuned, seeds = averages.say_averages(None, {"averages": table})
    assert base.text.startswith("Averages of 3 checkpoints against the last of them, base models")
    assert "better in 1 and worse in 0" in base.text and "+0.010" in base.text
    assert "fine-tuned models" in tuned.text and "worse in 1" in tuned.text and tuned.clear
    assert "2 seeds against the mean score of them" in seeds.text and not seeds.clear


def test_the_correction_is_over_all_scores_of_one_size():
    results = results_of(0.5, 0.6, spread=0.1)
    more = results.variants.assign(task="rte", key=results.variants["key"] + "rte")
    results.variants = pd.concat([results.variants, more], ignore_index=True)
    results.main["rte"] = results.main["nli"]
    results.draws |= {f"{key}rte": values for key, values in results.draws.items()}
    table = averages.averages(results)
    np.testing.assert_allclose(table["p_holm"], np.minimum(1, 2 * table["p"]))


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
    results.variants = results.variants[1:]
    line = averages.averages(results).iloc[0]
    assert np.isnan(line["difference"]) and line["value"] == pytest.approx(0.6)
