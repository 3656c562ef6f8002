"""Trainings of a study in one program: what goes together, each model's own record and metrics, one
that fails.
"""

import dataclasses
import types

import pytest

from amuro_jax.config import EvalSet, FineTune, Loss, Recipe, Role, TrainRun
from amuro_jax.convert.revisions import list_revisions
from amuro_jax.errors import ConfigError, TrainingError
from amuro_jax.logs import read_metrics
from amuro_jax.records import ModelRef
from amuro_jax.results.store import Store
from amuro_jax.study import executor, groups, trainings
from amuro_jax.train import run as train_run
from tests.study.conftest import study_of


@pytest.mark.parametrize(
    "count,most,shards,sizes",
    [
        (7, 4, 1, [4, 3]),
        (7, 4, 2, [4, 2]),
        (7, 3, 2, [2, 2, 2]),
        (5, 4, 1, [4]),  # one is left over, and is no group
        (8, 1, 1, []),
        (3, 8, 4, []),
        (1, 8, 1, []),
    ],
)
def test_groups_are_full_and_shared_evenly(count, most, shards, sizes):
    found = groups.groups(list(range(count)), most, shards)
    assert [len(group) for group in found] == sizes
    members = [one for group in found for one in group]
    assert members == list(range(len(members)))


def job(config="one shape", **recipe):
    opened = types.SimpleNamespace(config=config, tokenizer=types.SimpleNamespace(fingerprint="t"))
    return train_run.TrainJob(opened, Recipe(task="lab_nli", **recipe), ModelRef("", "x"), "", "")


def test_what_differs_by_more_than_its_rate_is_trained_by_itself():
    one, fast = job(), job(learning_rate=1e-3)
    assert groups.alike([one, fast]) == [[one, fast]]
    others = [job(config="another shape"), job(seed=1), job(epochs=1), job(lora_rank=2)]
    assert [len(found) for found in groups.alike([one, *others])] == [1] * 5
    assert groups.alike([job(loss=Loss.DPO)]) == []
    with pytest.raises(ConfigError, match="(?s)several recipes or shapes.*x base, x base"):
        train_run.train_stacked([one, others[0]], [None, None])


@pytest.fixture(scope="module")
def pair(series, tmp_path_factory):
    """A study of two checkpoints whose trainings are done in one program, and the calls for it."""
    config = study_of(
        series,
        tmp_path_factory.mktemp("groups"),
        formats=("default",),
        fine_tunes=(FineTune("lab_nli"),),
        evals=(EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)),),
        train_run=TrainRun(mesh="data:2,fsdp:4", stack=None, log_every=1),
    )
    calls, stacked = [], trainings.train_stacked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "train_stacked", lambda *a: calls.append(a[0]) or stacked(*a))
        patch.setattr(trainings, "train", None)
        failures = executor.run(config, list_revisions(config.suite))
    return config, calls, failures


def test_one_program_trains_both(pair):
    config, calls, failures = pair
    assert failures == []
    assert [len(group) for group in calls] == [2]
    store = Store.open(config.workdir)
    trained = {one.model.checkpoint: one for one in store.records("train")}
    assert set(trained) == {"step1-tokens1K", "step10-tokens10K"}
    losses = [one.metrics["loss"] for one in trained.values()]
    assert losses[0] != losses[1] and all(one.metrics["steps"] == 8 for one in trained.values())
    assert len(store.frame()) == 4


def test_each_has_metrics_of_its_own_and_no_state_is_left(pair):
    config, (group,), _ = pair
    folder = Store.open(config.workdir).storage.child("runs").epath()
    (together,) = (path for path in folder.iterdir() if path.name.startswith("stack-"))
    assert not (together / "state").exists()
    for one, record in zip(group, Store.open(config.workdir).records("train"), strict=True):
        assert one.key() == record.key
        rows = read_metrics(together / record.key / "metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(1, 9))
        assert rows[-1]["loss"] == pytest.approx(record.metrics["loss"])


def test_each_is_what_it_is_alone(pair, series):
    """The same training by itself, on the same mesh."""
    config, (group,), _ = pair
    store = Store.open(config.workdir)
    run = dataclasses.replace(config.train_run, stack=1)
    folder = store.storage.child("alone").epath()
    alone = dataclasses.replace(
        group[0], run=run, workdir=str(folder / "work"), out=str(folder / "model")
    )
    record = train_run.train(alone).record
    assert record.key == group[0].key()
    assert record.metrics["loss"] == pytest.approx(store.read(record.key).metrics["loss"], abs=1e-4)


def test_one_that_fails_is_named_and_the_other_goes_on(series, tmp_path, monkeypatch):
    """The members' results are those of a group in which the second's loss was not finite."""
    config = study_of(
        series,
        tmp_path,
        formats=("default",),
        fine_tunes=(FineTune("lab_nli"),),
        evals=(EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)),),
        train_run=TrainRun(mesh="data:2,fsdp:4", stack=2),
    )

    def stacked(jobs, params, data, description):
        one = dataclasses.replace(jobs[0], run=dataclasses.replace(jobs[0].run, stack=1))
        error = TrainingError("loss is nan at step 2, on rows 3, 7", where="training of it")
        return {
            jobs[0].key(): train_run.train(one, params[0], data),
            jobs[1].key(): error,
        }

    monkeypatch.setattr(trainings, "train_stacked", stacked)
    monkeypatch.setattr(trainings, "train", None)
    (failure,) = executor.run(config, list_revisions(config.suite))
    assert "step10-tokens10K + lab_nli" in failure and "loss is nan at step 2" in failure
    store = Store.open(config.workdir)
    assert [one.model.checkpoint for one in store.records("train")] == ["step1-tokens1K"]
    assert len(store.frame()) == 3  # both base models, one tuned
