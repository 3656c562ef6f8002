"""Components of variance are those that were put in."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses.registry import tables_of
from amuro_jax.analyses.variance import say_counted, variance
from tests.analyses.hand import cell, made

NLI = "lab_nli"


def results(deviations, checkpoints=12, formats=10, seeds=1, rest=0.01):
    """Scores of one set with a deviation per format and per seed."""
    rng, cells = np.random.default_rng(3), []
    by_format = rng.normal(0, deviations["format"], formats)
    by_seed = rng.normal(0, deviations.get("seed", 0), seeds)
    for place in range(checkpoints):
        for at, offset in enumerate(by_format):
            for seed, other in enumerate(by_seed):
                value = 0.4 + 0.02 * place + offset + other + rng.normal(0, rest)
                line = cell(f"s{place + 1}", "", NLI, value, format=f"f{at}")
                cells.append(line | {"seed": seed, "key": f"{line['key']} {seed}"})
    found = made(cells)
    return found, np.std(by_format, ddof=1), np.std(by_seed, ddof=1) if seeds > 1 else np.nan


def test_the_deviation_between_formats_is_recovered():
    found, format_deviation, _ = results({"format": 0.05})
    (line,) = variance(found).to_dict("records")
    assert line["format"] == pytest.approx(format_deviation, rel=0.05)
    assert line["rest"] == pytest.approx(0.01, rel=0.2) and line["rows"] == pytest.approx(0.01)
    total = (format_deviation**2 + 0.01**2 + 0.01**2) ** 0.5
    assert line["one_score"] == pytest.approx(total, rel=0.1)
    assert np.isnan(line["shots"]) and np.isnan(line["seed"]) and line["format_levels"] == 10


def test_formats_and_seeds_are_separated():
    found, format_deviation, seed_deviation = results(
        {"format": 0.02, "seed": 0.06}, formats=6, seeds=6, checkpoints=6
    )
    (line,) = variance(found).to_dict("records")
    assert line["format"] == pytest.approx(format_deviation, rel=0.1)
    assert line["seed"] == pytest.approx(seed_deviation, rel=0.1)


def test_what_cannot_be_estimated_says_why():
    one = made([cell("s1", "", NLI, 0.5), cell("s2", "", NLI, 0.6)])
    assert variance(one).empty  # one format, one number of shots, one seed
    few = made(
        [cell(f"s{at}", "", NLI, 0.5 + at, format=name) for at in (1, 2) for name in ("a", "b")]
    )
    (line,) = variance(few).to_dict("records")
    assert pd.isna(line["format"]) and line["note"] == "too few scores to separate the sources"
    same = made(
        [cell(f"s{at}", "", NLI, 0.5, format=name) for at in range(1, 6) for name in ("a", "b")]
    )
    (line,) = variance(same).to_dict("records")
    assert line["format"] == 0 and line["note"] == "all scores are the same"


def test_deviations_have_intervals_and_a_seed_is_a_training_of_one_checkpoint():
    found, format_deviation, seed_deviation = results(
        {"format": 0.02, "seed": 0.06}, formats=4, seeds=3, checkpoints=4
    )
    (line,) = variance(found).to_dict("records")
    assert line["format_low"] < format_deviation < line["format_high"]
    assert line["seed_low"] < seed_deviation < line["seed_high"]
    assert line["note"] == "a seed is a training of one checkpoint" and line["seed_levels"] == 3
    assert np.isnan(line["checkpoint"])  # not told from its trainings
    one_seed, _, _ = results({"format": 0.02}, formats=4, checkpoints=4)
    (line,) = variance(one_seed).to_dict("records")
    assert line["checkpoint"] == pytest.approx(np.std([0, 0.02, 0.04, 0.06], ddof=1), rel=0.3)


def test_a_finding_that_hangs_on_the_format_does_not_survive():
    rng, cells = np.random.default_rng(4), []
    for task, gain in ((NLI, 0.05), ("lab_paraphrase", 0.5)):
        for name in ("default", "b", "c", "d", "e"):
            offset = 0.05 * rng.normal()
            for at in range(1, 5):
                for tuned_on, more in (("", 0.0), (task, gain)):
                    value = 0.3 + offset + more + 0.002 * rng.normal()
                    cells.append(cell(f"s{at}", tuned_on, task, value, format=name))
    tables = tables_of(made(cells))
    table = tables["findings_counted"].set_index(["finding", "task"])
    gains = table.loc["gain at the last checkpoint"]
    assert gains["clear_over_rows"].all() and set(gains["counted"]) == {"rows, format"}
    assert not gains.loc[NLI, "clear"] and gains.loc["lab_paraphrase", "clear"]
    assert set(gains["unknown"]) == {"shots, shot_seed, seed"}
    texts = [one.text for one in say_counted(None, tables)]
    said = "1 (50%) stay clear when rows and format are counted"
    assert any(said in text for text in texts), texts
