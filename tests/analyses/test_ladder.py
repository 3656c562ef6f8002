"""The published ladder is reproduced; a table without what a ladder needs says so."""

import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import ladder
from amuro_jax.analyses.registry import tables_of
from tests.analyses import imported
from tests.analyses.hand import made
from tests.analyses.test_change_points import curve_cells
from tests.curves.test_ladder import rungs
from tests.test_cli import amuro

FIT = [f"{size}-{length}xC" for size in ("190M", "370M", "760M", "1B") for length in (1, 2, 5, 10)]
TARGETS = ["peteish13_eval_final"]
# arXiv 2412.04403, in the authors' repository: figures/{chained,step1}_main.csv, variance.csv.
CHAINED = {"mmlu_test": 0.512680, "hellaswag_val": 0.853036, "csqa_val": 0.776089}
LOSS = {"mmlu_test": 0.750156, "hellaswag_val": 0.653177, "csqa_val": 0.661728}
RELATIVE_SD = {"mmlu_test": 0.00259257, "hellaswag_val": 0.000915150, "csqa_val": 0.00555956}


@pytest.fixture(scope="module")
def pairs(shared, tmp_path_factory):
    """The sets that are compared, of the runs that the paper fits."""
    table = pd.read_csv(shared / "olmo_ladder.csv.gz")
    table = table[table["run"].isin([*FIT, *TARGETS])]
    table = table[table["task"].str.contains("^mmlu_.*test_rc|hellaswag_val_rc|csqa_val_rc")]
    table = table[table["kind"].isin(["downstream", "downstream_bpb"])]
    return ladder.pairs_of(imported.made(tmp_path_factory.mktemp("ladder"), table))


def test_the_published_predictions(pairs):
    table = ladder.predictions(pairs, FIT, TARGETS, draws=4).set_index("task")
    for task, value in CHAINED.items():
        line = table.loc[f"{task}_rc_5shot"]
        assert line["predicted"] == pytest.approx(value, abs=2e-6)
        assert line["loss_predicted"] == pytest.approx(LOSS[task], abs=2e-6)
    assert "E ran into zero" in table.loc["csqa_val_rc_5shot", "failed"]
    assert table.loc["mmlu_test_rc_5shot", "failed"] == ""


def test_the_published_variance(pairs):
    table = ladder.variances(pairs, "1B-10xC").set_index("task")
    for task, value in RELATIVE_SD.items():
        assert table.loc[f"{task}_rc_5shot", "loss_relative_sd"] == pytest.approx(value, rel=1e-5)


def lines(runs, **names):
    kinds = {"bits_per_byte": "loss", "accuracy": "score"}
    return pd.DataFrame(
        [
            {
                "suite": names.get(run.name, run.name),
                "step": int(tokens / 1e6),
                "tokens": int(tokens),
            }
            | {"task": "made_up", "metric": metric, "value": value}
            for run in runs
            for metric, attribute in kinds.items()
            for tokens, value in zip(run.tokens, getattr(run, attribute), strict=True)
        ]
    )


def test_parameters_that_no_name_tells_are_asked_for(tmp_path):
    runs = rungs(np.random.default_rng(1))
    results = imported.made(tmp_path, lines(runs))
    names = [run.name for run in runs]
    table = ladder.predictions(ladder.pairs_of(results), names[:-1], names[-1:], 4)
    assert "parameters unknown of" in table["failed"].item() and table["predicted"].isna().all()
    sizes = {run.name: run.parameters for run in runs}
    table = ladder.predictions(ladder.pairs_of(results, sizes), names[:-1], names[-1:], 4)
    assert table["error"].abs().item() < 0.02 and table["failed"].item() == ""


def test_a_series_alone_predicts_its_end_from_its_first_half(tmp_path):
    run = rungs(np.random.default_rng(2), count=60)[-1]
    tables = tables_of(imported.made(tmp_path, lines([run])))
    (line,) = tables["model_ladder"].to_dict("records")
    assert line["from"] == "its first half" and abs(line["error"]) < 0.02
    assert list(ladder.say_ladder(tables.results, tables))
    ladder.show_ladder(tables["model_ladder"])


@pytest.mark.parametrize("values", [[0.5], [0.5] * 12, [np.nan] * 12, np.linspace(0.3, 0.6, 12)])
def test_a_table_without_a_loss_has_no_ladder(values):
    tables = tables_of(made(curve_cells(values)))
    assert tables["model_ladder"].empty and not list(ladder.say_ladder(tables.results, tables))


def test_the_verb_predicts_and_names_what_it_cannot_find(tmp_path, root):
    runs = rungs(np.random.default_rng(3))
    imported.made(tmp_path, lines(runs))
    verb = ["ladder", f"--workdir={tmp_path}/store", "--fit=190000000-.*|370000000-.*"]
    verb += [f"--parameters={run.name}={run.parameters:.0f}" for run in runs]
    target = runs[-1].name
    done = amuro(root, *verb, f"--target={target}", "--draws=2", f"--out={tmp_path}/p.csv")
    assert done.returncode == 0 and "made_up" in done.stdout
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["target"].tolist() == [target] and table["error"].abs().item() < 0.05
    assert "no such series" in amuro(root, *verb, "--target=nobody").stderr
