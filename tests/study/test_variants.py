"""A study that tunes in several ways and with several seeds: every model by itself in the store,
the first way as the mean over seeds in the analyses, the others and the spread in tables of their
own.
"""

import dataclasses
import json

import numpy as np
import pytest

from amuro_jax import checkpoint
from amuro_jax import config as configuration
from amuro_jax.analyses.registry import tables_of
from amuro_jax.cli.configure import load_config
from amuro_jax.config import EvalSet, FineTune, Role, StudyConfig
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import ConfigError
from amuro_jax.report import report
from amuro_jax.results import loading
from amuro_jax.results.store import Store
from amuro_jax.study import executor, grid, plan


@pytest.fixture(scope="module")
def done(series, root, tmp_path_factory):
    """`configs/study/lora_vs_full.py:tiny`, carried out."""
    config = load_config(f"{root}/configs/study/lora_vs_full.py:tiny", StudyConfig)
    config = dataclasses.replace(
        config,
        workdir=str(tmp_path_factory.mktemp("study")),
        suite=str(series.checkpoints),
        data_root=str(series.data),
        keep_models=True,
    )
    assert executor.run(config, list_revisions(config.suite, config.select)) == []
    return config


def test_every_model_is_in_the_store_by_itself(done):
    store = Store.open(done.workdir)
    trained = {(one.model.variant, one.model.seed): one for one in store.records("train")}
    assert set(trained) == {(way, seed) for way in ("", "lora") for seed in (42, 43)}
    assert len({one.key for one in trained.values()}) == 4
    assert trained["lora", 42].recipe.lora_rank == 8 and trained["", 42].recipe.lora_rank is None
    assert trained["lora", 43].recipe.seed == 43
    frame = store.frame()
    assert len(frame) == 5 and set(frame["seed"].dropna()) == {42, 43}
    labels = {record.model.label().partition(" ")[2] for record in store.records()}
    assert "+ lab_nli (lora, seed 42)" in labels and "+ lab_nli (seed 43)" in labels


def test_adapters_are_kept_as_adapters(done):
    """A few kilobytes beside a model of some hundred."""
    store, kinds = Store.open(done.workdir), {}
    for one in store.records("train"):
        folder = store.storage.child("models", one.key).epath()
        kinds[one.model.variant] = checkpoint.is_adapter(folder)
    assert kinds == {"": False, "lora": True}


def test_analyses_see_the_mean_over_seeds(done):
    found = loading.load(done.workdir, 50)
    assert len(found.every) == 5 and len(found.variants) == 3 and len(found.cells) == 2
    (tuned,) = found.cells[found.cells["tuned_on"] != ""].to_dict("records")
    alone = found.every[(found.every["tuned_on"] != "") & (found.every["variant"] == "")]
    assert tuned["value"] == pytest.approx(alone["value"].mean()) and len(alone) == 2
    scores = [found.scores(key) for key in alone["key"]]
    np.testing.assert_allclose(found.scores(tuned["key"]), (scores[0] + scores[1]) / 2)
    assert found.draws[tuned["key"]].mean() == pytest.approx(tuned["value"], abs=0.1)


def test_seeds_and_variants_have_tables(done):
    found = loading.load(done.workdir, 50)
    tables = tables_of(found)
    table = tables["seeds"].set_index("variant")
    for variant in ("", "lora"):
        values = found.every[(found.every["tuned_on"] != "") & (found.every["variant"] == variant)][
            "value"
        ]
        assert table.loc[variant, "mean"] == pytest.approx(values.mean())
        assert table.loc[variant, "seed_sd"] == pytest.approx(values.std(ddof=1))
        assert table.loc[variant, "seeds"] == 2
    (line,) = tables["variants"].to_dict("records")
    assert line["variant"] == "lora"
    assert line["difference"] == pytest.approx(line["value"] - line["first"])
    page = report.write_report(done.workdir)
    text = open(page).read()
    assert "Spread over training seeds" in text and "Ways of tuning on one set" in text
    assert "means over 2 training seeds" in text


def test_a_second_run_does_nothing(done):
    before = Store.open(done.workdir).read_log()
    assert executor.run(done, list_revisions(done.suite, done.select)) == []
    assert Store.open(done.workdir).read_log() == before


def test_the_plan_names_every_model(done):
    text = plan.describe(done, list_revisions(done.suite, done.select))
    assert "1 checkpoints × 5 models, 5 scores; to do: 0 fine-tunings, 0 scores" in text
    assert "(lora, seed 43)" in text


def tuned_twice(**changes):
    return StudyConfig(
        workdir="w",
        suite="s",
        fine_tunes=(FineTune("lab_nli"), FineTune("lab_nli", **changes)),
        evals=(EvalSet("lab_nli", Role.IN_DOMAIN),),
    )


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ConfigError, match="(?s)lab_nli is named twice.*variant='lora'"):
        grid.validate(tuned_twice())
    grid.validate(tuned_twice(variant="lora", lora_rank=2))
    with pytest.raises(ConfigError, match="lab_nli:lora is named twice"):
        one = tuned_twice(variant="lora", lora_rank=2)
        grid.validate(dataclasses.replace(one, fine_tunes=one.fine_tunes[1:] * 2))
    with pytest.raises(ConfigError, match="a seed is named twice: 1, 1"):
        grid.validate(dataclasses.replace(tuned_twice(variant="b"), seeds=(1, 1)))
    with pytest.raises(ConfigError, match="lora_rank must be positive, got 0"):
        grid.validate(tuned_twice(variant="lora", lora_rank=0))


def test_entries_are_selected_by_task_or_variant():
    config = tuned_twice(variant="lora", lora_rank=2)
    both = configuration.override(config, "fine_tunes", "lab_nli")
    assert both == config
    (one,) = configuration.override(config, "fine_tunes", "lab_nli:lora").fine_tunes
    assert one.variant == "lora"
    with pytest.raises(
        ConfigError, match="(?s)task 'lab'.*entries of the file: lab_nli, lab_nli:lora"
    ):
        configuration.override(config, "fine_tunes", "lab")


def test_a_seed_moves_the_key_and_a_stored_plan_comes_back(done):
    stored = json.loads(Store.open(done.workdir).storage.read_text("study.json"))
    assert {cell["model"]["seed"] for cell in stored["cells"]} == {None, 42, 43}
    assert len({cell["key"] for cell in stored["cells"]}) == 5
