"""A learning rate chosen for each checkpoint: by rows that are kept out of training; the fixed and
the chosen one are both scored and shown.
"""

import dataclasses

import numpy as np
import pytest

from amuro_jax.analyses.registry import tables_of
from amuro_jax.config import EvalSet, FineTune, Role
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import ConfigError, TrainingError
from amuro_jax.results import loading
from amuro_jax.results.store import Store
from amuro_jax.study import executor, grid, plan, trainings
from amuro_jax.study.status import read_status
from tests.study.conftest import study_of

RATES = (1e-6, 1e-2, 1e-3)  # 1e-6 learns nothing in a few steps; 1e-2 is the fixed one


def config_of(series, workdir, **changes):
    made = study_of(
        series,
        workdir,
        select="log:1",
        formats=("default",),
        fine_tunes=(FineTune("lab_nli", learning_rates=RATES, held_out_rows=4),),
        evals=(EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)),),
    )
    return dataclasses.replace(made, **changes)


def run(config):
    return executor.run(config, list_revisions(config.suite, config.select))


@pytest.fixture(scope="module")
def done(series, tmp_path_factory):
    config = config_of(series, tmp_path_factory.mktemp("rates"))
    assert run(config) == []
    return config


def losses(config):
    """Rate → loss on the held-out rows."""
    return {
        one.recipe.learning_rate: one.metrics["held_out_loss"]
        for one in Store.open(config.workdir).records("train")
    }


def test_a_finished_study_has_no_fine_tuning_to_come(done):
    found = read_status(done.workdir)
    assert found.scores_done == found.scores and found.models_done == found.models == 2


def test_every_rate_is_trained_and_judged_by_rows_it_has_not_seen(done):
    found = losses(done)
    assert set(found) == set(RATES) and len(set(found.values())) == 3
    assert found[1e-6] > min(found.values())
    for one in Store.open(done.workdir).records("train"):
        assert one.metrics["rows"] == 12 and one.metrics["steps"] == 6


def test_the_fixed_and_the_chosen_model_are_scored(done):
    store = Store.open(done.workdir)
    best = min(losses(done), key=losses(done).get)
    trained = {one.recipe.learning_rate: one.key for one in store.records("train")}
    stored = plan.read_plan(store.storage)
    keys = {cell.model.variant: cell.key for cell in stored.cells if cell.model.tuned_on}
    assert set(keys) == {"", grid.BEST_RATE}
    model = {variant: store.read(key).provenance.model for variant, key in keys.items()}
    assert model == {"": trained[1e-2], grid.BEST_RATE: trained[best]}
    assert not list(store.storage.child("models").epath().iterdir()), "nothing waits for them"


def test_both_are_shown(done):
    found = loading.load(done.workdir, 50)
    tables = tables_of(found)
    rates = tables["rates"].set_index("learning_rate")
    assert list(rates.index) == sorted(RATES) and rates["best"].sum() == 1
    assert rates.loc[rates["best"], "held_out_loss"].item() == min(losses(done).values())
    (line,) = tables["variants"].to_dict("records")
    assert line["variant"] == grid.BEST_RATE and not np.isnan(line["difference"])


def test_a_second_run_does_nothing(done):
    before = Store.open(done.workdir).read_log()
    assert run(done) == [] and Store.open(done.workdir).read_log() == before
    assert "to do: 0 fine-tunings, 0 scores" in plan.describe(
        done, list_revisions(done.suite, done.select)
    )


def test_a_rate_that_fails_is_left_out_by_name(series, tmp_path, monkeypatch):
    train = trainings.train

    def failing(job, *rest, **named):
        if job.recipe.learning_rate == 1e-3:
            raise TrainingError("loss is nan at step 2", where="training")
        return train(job, *rest, **named)

    monkeypatch.setattr(trainings, "train", failing)
    config = config_of(series, tmp_path)
    (failure,) = run(config)
    assert "rate 0.001" in failure and "loss is nan" in failure
    assert set(losses(config)) == {1e-6, 1e-2}
    assert len(loading.load(config.workdir, 50).variants) == 3


@pytest.mark.parametrize(
    "entry,message",
    [
        ({"learning_rates": (1e-3,), "held_out_rows": 4}, "two or more different positive rates"),
        ({"learning_rates": (1e-3, 1e-3), "held_out_rows": 4}, "two or more different positive"),
        ({"learning_rates": (0.0, 1e-3), "held_out_rows": 4}, "two or more different positive"),
        ({"learning_rates": (1e-4, 1e-3)}, "(?s)nothing to choose a rate by.*held_out_rows"),
        ({"held_out_rows": 16}, "16 of 16 rows held out"),
        ({"held_out_rows": 0}, "held_out_rows must be positive"),
    ],
)
def test_what_cannot_be_chosen_among_is_refused(series, tmp_path, entry, message):
    config = config_of(series, tmp_path, fine_tunes=(FineTune("lab_nli", **entry),))
    with pytest.raises(ConfigError, match=message):
        run(config)
    assert not list(tmp_path.iterdir())
