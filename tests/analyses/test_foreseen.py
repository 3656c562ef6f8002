"""Falls that base models foretell, on made-up rows whose truth is written here."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import foreseen as analysis
from amuro_jax.analyses.registry import tables_of
from amuro_jax.curves import foreseen
from amuro_jax.results.pooled import SEPARATOR
from amuro_jax.variants import Noise
from tests.analyses.hand import cell, made

STEPS = (10, 20, 40, 80, 160)
BASE = np.array([-9.0, -7.0, -5.0, -4.0, -3.5])
COST = np.array([10.0, 20.0, 50.0, 150.0, 400.0])  # of noise of 1, which goes with its square
SIGMAS, STEPS_OF_TUNING, SCALE = (0.05, 0.2), 75, 0.25
RATES = {"slow": 1e-3, "fast": 1e-2}  # moves by 0.02 and 0.2
ROWS = np.linspace(-0.5, 0.5, 60)  # what the rows' log-probabilities differ from the mean by


def results_of(ways=("slow", "fast"), seeds=(0.0, 0.1), scale=SCALE):
    """Base models, noise of two sizes, and models tuned in two ways that lose what noise of their
    displacement takes.
    """
    cells, noise, levels = [], [], {}

    def add(step, tuned_on, variant, score, seed=None):
        one = cell(f"s{step}", tuned_on, "arc", 0.5, role="multiple_choice", of=())
        one |= {"variant": variant, "seed": seed}
        one["key"] = f"s{step} {tuned_on} {variant} {seed}"
        levels[one["key"]] = score
        return one

    for step, score, height in zip(STEPS, BASE, COST, strict=True):
        cells.append(add(step, "", "", score))
        for sigma in SIGMAS:
            for draw, luck in enumerate((-0.01, 0.01)):
                changed = score - height * sigma**2 + luck
                noise.append(add(step, "", Noise(sigma, draw).variant, changed))
        for way in ways:
            moved = RATES[way] * np.sqrt(STEPS_OF_TUNING / 3) / SCALE
            keys = [
                add(step, "nli", way, score - height * moved**2 + luck, seed)["key"]
                for seed, luck in enumerate(seeds)
            ]
            cells.append(add(step, "nli", way, None) | {"key": SEPARATOR.join(keys)})

    def rows(key, columns=()):
        logprobs = [[levels[key] + one, -99.0] for one in ROWS]
        return pd.DataFrame(
            {"row": range(len(ROWS)), "score": 1.0, "gold": 0, "choice_logprobs": logprobs}
        )

    results = made(cells)
    results.checkpoints, results.rows = [f"s{step}" for step in STEPS], rows
    results.noise = pd.DataFrame(noise)
    results.probes = lambda: pd.DataFrame(
        {"checkpoint": results.checkpoints, "tuned_on": "nli", "weight_scale": scale}
    )
    results.tunings = lambda: pd.DataFrame(
        [("nli", way, RATES[way], STEPS_OF_TUNING) for way in RATES],
        columns=["tuned_on", "variant", "learning_rate", "steps"],
    )
    return results


def test_the_forecast_stands_beside_what_the_tuned_models_did():
    results = results_of()
    tables = tables_of(results)
    table = tables["foreseen"].set_index("variant")
    assert list(table["found"]) == ["no fall found", "falls"]
    assert list(table["checkpoints"]) == [5, 5]
    np.testing.assert_allclose(table["moved"], [0.02, 0.2])
    # −9 − 10 m² at the first and −3.5 − 400 m² at the last checkpoint, and those between
    m = np.geomspace(1e-3, 10, 20001)
    after = BASE[:, None] - COST[:, None] * m**2
    least = m[(after[-1] < after[:-1].max(axis=0)).argmax()]
    np.testing.assert_allclose(table["critical"], [least / 0.02, least / 0.2], rtol=0.05)
    assert table.loc["slow", "critical"] > 1 > table.loc["fast", "critical"]
    assert table.loc["slow", "probability"] < 0.5 < table.loc["fast", "probability"]
    tuned = BASE - COST * 0.2**2
    assert table.loc["fast", "fall"] == pytest.approx(tuned.max() - tuned[-1])
    assert table.loc["fast", "expected_fall"] == pytest.approx(table.loc["fast", "fall"], rel=0.05)


def test_a_call_is_said_and_what_is_left_open(monkeypatch):
    results = results_of()
    monkeypatch.setattr(foreseen, "probability", lambda base: 0.95 if base.displacement[0] > 0.1
                        else 0.3)  # fmt: skip
    tables = tables_of(results)
    assert list(tables["foreseen"]["call"]) == ["unsure", "falls"]
    called, left = analysis.say_foreseen(results, tables)
    assert called.clear and "arc after nli (fast) is expected to get worse" in called.text
    assert called.text.endswith("found: falls.")
    assert not left.clear and left.text.endswith("in 1 curve.")
    shown = analysis.show_foreseen(tables["foreseen"])
    assert list(shown["call"]) == ["unsure", "falls"]
    spec = analysis.draw_foreseen(results, tables)
    assert [one.title for one in spec.panels] == ["arc after nli, slow", "arc after nli, fast"]
    base, expected, tuned = spec.panels[1].series
    np.testing.assert_allclose(base.y, BASE)
    np.testing.assert_allclose(tuned.y, BASE - COST * 0.2**2 + 0.05)
    np.testing.assert_allclose(expected.y, BASE - COST * 0.2**2, rtol=0.01)


def test_what_nobody_has_tuned_is_foreseen_too():
    results = results_of(ways=("slow",))
    table = tables_of(results)["foreseen"].set_index("variant")
    assert table.loc["fast", "found"] == "not every checkpoint is tuned and scored"
    assert table.loc["fast", "probability"] > 0.5
    assert len(analysis.draw_foreseen(results, {}).panels) == 1


def test_the_spread_of_seeds_takes_the_fall_away():
    results = results_of(seeds=(-40.0, 40.0))
    assert set(tables_of(results)["foreseen"]["found"]) == {"no fall found"}


@pytest.mark.parametrize("lost", ["noise", "probes", "scale", "tunings"])
def test_a_study_that_lacks_something_says_nothing(lost):
    results = results_of(scale=np.nan if lost == "scale" else SCALE)
    if lost == "noise":
        results.noise = None
    if lost == "probes":
        results.probes = pd.DataFrame
    if lost == "tunings":
        results.tunings = pd.DataFrame
    tables = tables_of(results)
    assert tables["foreseen"].empty
    assert not list(analysis.say_foreseen(results, tables))
    assert analysis.draw_foreseen(results, tables) is None
    analysis.show_foreseen(tables["foreseen"])


def test_the_tuned_set_itself_is_left_out():
    results = results_of()
    ways = results.tunings()
    results.tunings = lambda: ways.assign(tuned_on=["nli", "arc"])
    assert list(tables_of(results)["foreseen"]["variant"]) == ["slow"]
