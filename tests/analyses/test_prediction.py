"""The predictor on stores: the published tables, a series by hand, and the verb."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import prediction
from amuro_jax.analyses.registry import tables_of
from amuro_jax.results import loading
from tests.analyses import published
from tests.analyses.hand import cell, made
from tests.study import synthetic

NLI = "lab_nli"


def series(untuned=(), tasks=(NLI, "lab_paraphrase")):
    """Six checkpoints; the fine-tuned score rises by 0.05 from each to the next."""
    cells = []
    for at in range(1, 7):
        for shift, task in enumerate(tasks):
            cells.append(cell(f"s{at}", "", task, 0.4 + 0.01 * (at % 2)))
            if at not in untuned:
                cells.append(cell(f"s{at}", task, task, 0.4 + 0.1 * shift + 0.05 * at))
    return made(cells)


def test_a_checkpoint_that_was_not_fine_tuned_gets_a_gain_with_its_interval():
    table = tables_of(series(untuned=(4,)))["predicted_gains"]
    assert set(table["task"]) == {NLI, "lab_paraphrase"} and set(table["checkpoint"]) == {"s4"}
    expected = np.array([0.6, 0.7])
    assert table["expected"].to_numpy() == pytest.approx(expected, abs=0.03)
    assert ((table["expected_low"] < expected) & (expected < table["expected_high"])).all()
    for end in ("", "_low", "_high"):
        gain = table[f"expected{end}"] - table["base"]
        assert table[f"gain{end}"].to_numpy() == pytest.approx(gain)
    assert tables_of(series())["predicted_gains"].empty  # nothing is left to predict


def test_the_base_score_is_of_the_view_that_was_fine_tuned():
    cells = []
    for at in range(1, 6):
        cells += [cell(f"s{at}", "", NLI, 0.4), cell(f"s{at}", "", NLI, 0.3, format="io")]
        cells.append(cell(f"s{at}", NLI, NLI, 0.5, format="io"))
    lines = prediction.lines_of(made(cells))
    assert set(lines["format"]) == {"io"} and set(lines["base"]) == {0.3}


def test_few_checkpoints_are_not_judged():
    few = [cell(f"s{at}", on, NLI, 0.5 + at / 10) for at in (1, 2, 3) for on in ("", NLI)]
    tables = tables_of(made(few))
    assert tables["prediction"].empty and tables["predicted_gains"].empty
    assert list(tables["prediction"].columns)[:3] == ["held_out", "which", "method"]


def test_of_a_large_store_curves_are_drawn_the_unknown_ones_first(monkeypatch):
    monkeypatch.setattr(prediction, "MOST_LINES", 6)
    results = series(untuned=(4,))
    results.cells = results.cells[
        (results.cells["task"] == NLI)
        | (results.cells["tuned_on"] == "")
        | (results.cells["checkpoint"] != "s4")
    ]
    kept = prediction.usable(results)
    assert len(kept) == 6 and kept["tuned"].isna().any()


def test_published_scores_are_predicted_better_than_by_any_baseline(shared, tmp_path):
    """Within a pair: a line on log step has 0.31 on these cells, the base score's order 70.6 %."""
    table = tables_of(published.imported(shared, tmp_path))["prediction"]
    together = table[(table["held_out"] == "checkpoint") & (table["which"] == "all")]
    rows = together.set_index("method")
    ours = rows.loc["predictor"]
    assert ours["scores"] == 283 and ours["curves"] == 36
    assert ours["r2"] > 0.4 > rows["r2"].drop("predictor").max()
    assert ours["right"] > 0.72 > rows["right"].drop("predictor").max()
    assert 0.85 <= ours["coverage"] <= 0.95
    # What a new fine-tuning set gives is not foreseen: no method is better than its mean.
    sets = table[(table["held_out"] == "set") & (table["which"] == "all")].set_index("method")
    assert (sets["r2"].dropna() < 0).all()


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory):
    """Two studies of series that are called alike; what fine-tuning gives grows faster in one."""
    folder = tmp_path_factory.mktemp("stores")
    for name, factor in (("a", 1.0), ("b", 1.2)):
        synthetic.make_store(
            folder / name,
            rows=24,
            truth=lambda task, on, at, f=factor: synthetic.level(task, on, at * f),
        )
    return folder


def test_a_series_is_predicted_from_those_of_other_stores(two_stores):
    alone = loading.load(two_stores / "a")
    together = loading.load_several([two_stores / "a", two_stores / "b", two_stores / "a"])
    names = [f"nowhere ({two_stores / name})" for name in "ab"]
    assert list(together.suites) == names and together.suite == names[0]
    assert together.cells["key"].tolist() == alone.cells["key"].tolist()
    assert together.measurements["suite"].value_counts().to_dict() == dict.fromkeys(
        names, len(alone.measurements)
    )
    table = prediction.prediction_table(together)
    assert set(table[table["held_out"] == "series"]["which"]) == {"all", *names}
    judged = table[(table["held_out"] == "series") & (table["which"] == names[0])]
    scores = judged.set_index("method")["r2"]
    assert scores["predictor"] > 0 and scores["other series"] > 0
    assert "series" not in set(prediction.prediction_table(alone)["held_out"])


def test_the_verb_takes_several_stores_and_writes_what_it_judged(two_stores, root, tmp_path):
    where = {**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "amuro_jax", "predict"]
    named = [str(two_stores / "a"), str(two_stores / "b"), "--judged=judged.csv"]
    named += ["--where=role != 'multiple_choice'"]
    done = subprocess.run(command + named, env=where, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Every checkpoint" in done.stdout, done
    written = pd.read_csv(tmp_path / "judged.csv")
    assert written["curves"].iloc[0] == 2 * 5  # without the multiple choice
    series = written[(written["held_out"] == "series") & (written["method"] == "predictor")]
    assert list(series["which"]) == ["all", *(f"nowhere ({name})" for name in named[:2])]
    done = subprocess.run(command, env=where, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "or name the folders of several stores" in done.stderr


@pytest.mark.slow  # a process that loads jax, for the plan of the study
def test_the_verb_prints_gains_and_what_it_costs_to_find_out(shared, tmp_path, root):
    published.imported(shared, tmp_path / "store")
    config = f"--config={root / 'configs/study/paper_olmo1b.py'}"
    flags = ("--workdir=store", "--nocheck", "--topology=v5p:2x2x1", config, "--out=gains.csv")
    command = [sys.executable, "-m", "amuro_jax", "predict", *flags]
    environment = {**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": ""}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "llmbar_natural" in done.stdout and "chip_hours" in done.stdout
    assert (tmp_path / "gains.csv").read_text().startswith("suite,tuned_on,task")
