"""Probes of a study's base models: what they measure, that they are measured once, and that the
predictor is told.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from amuro_jax.analyses import prediction
from amuro_jax.config import EvalSet, FineTune, Loss, Probe, Role
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import ConfigError
from amuro_jax.models.derived import matrix_scale
from amuro_jax.opened import open_checkpoint
from amuro_jax.records import PROBE, PROBED, from_json, to_json
from amuro_jax.results import loading
from amuro_jax.results.plan import read_plan
from amuro_jax.results.store import Store
from amuro_jax.study import executor, grid, plan
from amuro_jax.study.status import read_status
from amuro_jax.train import held_out
from amuro_jax.train.probe import probe
from amuro_jax.train.run import TrainingData, TrainJob, train
from tests.analyses.hand import cell, made
from tests.results.made import score
from tests.study.conftest import study_of

ASKED = Probe(steps=2, held_out_rows=6, learning_rate=3e-3)


def run(config):
    """The probes alone: no rows of any cell are wanted."""
    return executor.run(config, list_revisions(config.suite, config.select), parts={})


@pytest.fixture(scope="module")
def done(series, tmp_path_factory):
    config = study_of(
        series,
        tmp_path_factory.mktemp("probe"),
        formats=("default",),
        evals=(EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)),),
        probe=ASKED,
    )
    assert run(config) == []
    return config


def test_it_is_a_training_of_few_steps_whose_model_is_not_kept(done, tmp_path):
    probes = Store.open(done.workdir).records(PROBE)
    assert [one.model.checkpoint for one in probes] == ["step1-tokens1K", "step10-tokens10K"]
    for one in probes:
        opened = open_checkpoint(f"{done.suite}@{one.model.checkpoint}")
        job = TrainJob(opened, one.recipe, one.model, f"{tmp_path}/run", f"{tmp_path}/model",
                       done.data_root)  # fmt: skip
        trained = train(job)
        metrics = dict(one.metrics)
        norm, before, scale = (metrics.pop(name) for name in PROBED)
        assert metrics == pytest.approx(trained.record.metrics) and metrics["steps"] == 2
        assert one.key != trained.record.key and one.model.tuned_on == "lab_nli"
        kept_out = held_out.split(TrainingData().of(job).examples, 6)[1]
        start = opened.load_params(None, jnp.float32)
        assert before == pytest.approx(held_out.loss_of(start, opened.config, kept_out, one.recipe))
        assert metrics["held_out_loss"] < before and norm > 0
        assert scale == pytest.approx(matrix_scale(start))
        assert from_json(to_json(one)) == one
    found = read_status(done.workdir)
    assert (found.models, found.models_done) == (2, 0)  # probes are no fine-tunings


def test_it_is_done_once_and_listed(done):
    before = Store.open(done.workdir).read_log()
    assert run(done) == [] and len(Store.open(done.workdir).read_log()) == len(before)
    text = plan.describe(done, list_revisions(done.suite, done.select))
    assert "done   probe  step1-tokens1K + lab_nli (probe)" in text and "to do: 2 fine" in text
    more = dataclasses.replace(done, fine_tunes=(*done.fine_tunes, FineTune("lab_paraphrase")))
    text = plan.describe(more, list_revisions(done.suite, done.select))
    assert (
        "to do  probe  step10-tokens10K + lab_paraphrase (probe)" in text and ", 2 probes" in text
    )
    longer = dataclasses.replace(done, probe=dataclasses.replace(ASKED, steps=3))
    assert "to do  probe  step1-" in plan.describe(longer, list_revisions(done.suite, done.select))


def test_results_have_the_probes_that_the_study_asks_for(done):
    store = Store.open(done.workdir)
    key = next(one.key for one in read_plan(store.storage).cells if one.key)
    store.commit(score(key))  # a store without any score has no results
    table = loading.load(done.workdir).probes()
    assert list(table["checkpoint"]) == ["step1-tokens1K", "step10-tokens10K"]
    assert (table["steps"] == 2).all() and np.isfinite(table["gradient_norm"]).all()
    for other in (dict(steps=3), dict(held_out_rows=5), dict(learning_rate=1e-3), dict(steps=None),
                  dict(lora_rank=2)):  # fmt: skip
        asked = dataclasses.replace(done, probe=dataclasses.replace(ASKED, **other))
        assert loading.probes_of(store, asked).empty, other


def test_an_adapter_is_probed_from_the_same_start(done):
    whole = Store.open(done.workdir).records(PROBE)[0]
    recipe = dataclasses.replace(whole.recipe, lora_rank=2)
    opened = open_checkpoint(f"{done.suite}@{whole.model.checkpoint}")
    adapter = probe(TrainJob(opened, recipe, whole.model, "", "", done.data_root))
    for name in PROBED:
        assert adapter.metrics[name] == pytest.approx(whole.metrics[name])
    assert adapter.metrics["held_out_loss"] != whole.metrics["held_out_loss"]
    assert adapter.key != whole.key


def test_what_cannot_be_meant_is_refused(series, tmp_path):
    config = study_of(series, tmp_path)
    for asked, changes, where in (
        (Probe(steps=-1), {}, "config.probe.steps"),
        (Probe(steps=2, held_out_rows=0), {}, "config.probe.held_out_rows"),
        (Probe(steps=2, learning_rate=0.0), {}, "config.probe.learning_rate"),
        (Probe(steps=2), {"fine_tunes": ()}, "config.probe.steps"),
    ):
        asked = dataclasses.replace(config, probe=asked, **changes)
        if not asked.fine_tunes:
            evals = (dataclasses.replace(one, of=()) for one in asked.evals)
            asked = dataclasses.replace(asked, evals=tuple(evals))
        with pytest.raises(ConfigError) as refused:
            grid.validate(asked)
        assert refused.value.where == where
    pairs = FineTune("tulu_preferences", loss=Loss.DPO)
    assert grid.probed(dataclasses.replace(config, probe=ASKED, fine_tunes=(pairs,))) == []


def test_the_predictor_is_told_of_the_set_that_was_probed():
    cells = [
        cell(f"s{at}", on, task, 0.5) for at in range(1, 6) for task in ("lab_nli", "lab_summary")
        for on in ("", "lab_nli")
    ]  # fmt: skip
    results = made(cells)
    lines = [
        {"checkpoint": f"s{at}", "tuned_on": "lab_nli", "gradient_norm": np.exp(at),
         "held_out_loss_before": 3.0, "held_out_loss": 3.0 - at}
        for at in range(1, 5)
    ]  # fmt: skip
    results.probes = lambda: pd.DataFrame(lines)
    table = prediction.lines_of(results).set_index("checkpoint")
    for name in ("gradient", "probe"):
        assert table.loc["s3", name].tolist() == pytest.approx([3.0, 3.0])  # of both scored sets
    assert table["loss"].dropna().eq(3.0).all() and table.loc["s5", "loss"].isna().all()
    features = prediction.grid_of(table.reset_index()).features
    assert np.isfinite(features).sum() == 4 * 2 * 3
