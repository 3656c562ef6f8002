"""What nothing needs goes; scores, rows, and what is waited for stay."""

import dataclasses
import os
import time

import pytest

from amuro_jax.config import EvalSet, FineTune, Role
from amuro_jax.errors import AmuroError
from amuro_jax.results.plan import read_plan
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study import cleanup
from amuro_jax.study.queue import claim_name
from tests.study import synthetic


@pytest.fixture
def workdir(tmp_path):
    """Four trained models with files; one of them has a score to come. One program is old."""
    synthetic.make_store(tmp_path, rows=8, steps=(16, 1600))
    storage = Storage.open(tmp_path)
    trained = [record.key for record in Store(storage).records("train")]
    for key in trained:
        storage.replace(f"models/{key}/params/a", b"12345")
        storage.replace(f"runs/{key}/state/a", b"123")
        storage.replace(f"runs/{key}/metrics.jsonl", b"{}")
    for name in ("old", "new"):
        storage.replace(f"programs/{name}", b"x")
    old = time.time() - 40 * cleanup.DAY
    os.utime(tmp_path / "programs" / "old", (old, old))
    tuned = next(cell for cell in read_plan(storage).cells if cell.model.tuned_on)
    storage.delete(f"cells/{tuned.key}")
    return tmp_path


def test_a_dry_run_says_what_would_go_and_removes_nothing(workdir):
    before = Storage.open(workdir).listing()
    found = cleanup.in_workdir(workdir, days=30, dry_run=True)
    assert Storage.open(workdir).listing().keys() >= before.keys()
    assert sorted(one.size for one in found) == [1, 3, 3, 3, 3, 5, 5, 5]


def test_finished_models_states_and_old_programs_go(workdir):
    cells = Storage.open(workdir).names("cells")
    cleanup.in_workdir(workdir, days=30, dry_run=False)
    storage = Storage.open(workdir)
    assert len(storage.names("models")) == 1  # a score waits for it
    assert [name for name in storage.names("runs") if "state" in name] == []
    assert len(storage.names("runs")) == 4 and storage.names("programs") == ["programs/new"]
    assert storage.names("cells") == cells
    assert cleanup.in_workdir(workdir, days=30, dry_run=False) == []


def test_models_of_an_average_that_is_not_scored_yet_stay(tmp_path):
    seeds = {"seeds": (1, 2), "average_seeds": True, "fine_tunes": (FineTune("lab_nli"),)}
    evals = (EvalSet("lab_nli", Role.IN_DOMAIN),)
    synthetic.make_store(tmp_path, rows=8, steps=(16, 1600), evals=evals, **seeds)
    store = Store.open(tmp_path)
    for record in store.records("train"):
        for seed in (1, 2):
            model = dataclasses.replace(record.model, seed=seed)
            one = dataclasses.replace(record, key=f"{record.key[:-1]}{seed}", model=model)
            store.commit(one)
            store.storage.replace(f"models/{one.key}/params/a", b"12345")
    average = next(
        cell
        for cell in read_plan(store.storage).cells
        if (cell.model.checkpoint, cell.model.variant) == ("step16", "average of 2 seeds")
    )
    store.storage.delete(f"cells/{average.key}")
    cleanup.in_workdir(tmp_path, days=30, dry_run=False)
    left = {name.split("/")[1] for name in store.storage.listing("models")}
    places = {Store.open(tmp_path).read(key).model.checkpoint for key in left}
    assert len(left) == 2 and places == {"step16"}


def test_a_folder_in_work_is_left_alone(workdir):
    with Storage.open(workdir).claim(claim_name("step1")):
        with pytest.raises(AmuroError, match="is at work here"):
            cleanup.in_workdir(workdir, days=0, dry_run=False)
        assert len(cleanup.in_workdir(workdir, days=30, dry_run=True)) == 8


def test_conversions_that_nothing_used_go(tmp_path):
    for name, days in (("fresh", 1), ("stale", 50)):
        file = tmp_path / "converted" / name / "model.json"
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        then = time.time() - days * cleanup.DAY
        os.utime(file, (then, then))
    (found,) = cleanup.in_cache(tmp_path, days=30, dry_run=True)
    assert found.where.endswith("stale") and (tmp_path / "converted" / "stale").exists()
    cleanup.in_cache(tmp_path, days=30, dry_run=False)
    assert sorted(path.name for path in (tmp_path / "converted").iterdir()) == ["fresh"]
