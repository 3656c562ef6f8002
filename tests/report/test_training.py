"""Fine-tuning's losses and costs, from records and logs."""

import json

import pytest

from amuro_jax.report import page, training
from amuro_jax.results import loading
from amuro_jax.results.store import Store
from tests.study import synthetic


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two checkpoints, two fine-tuning sets; the log of one run is whole, that of another cut."""
    folder = tmp_path_factory.mktemp("training")
    synthetic.make_store(folder, rows=10, steps=(16, 1600), formats=("default",))
    found = Store.open(folder)
    first, second = (record.key for record in found.records("train")[:2])
    lines = [{"step": step, "loss": 2 / step, "time": 1.0} for step in (10, 20)]
    log = "".join(json.dumps(line) + "\n" for line in lines)
    found.storage.child("runs", first).replace("metrics.jsonl", log)
    found.storage.child("runs", second).replace("metrics.jsonl", log[:-9])
    return found


def test_a_line_per_fine_tuned_model(store):
    table = training.training(loading.load(store.storage, 20), store)
    assert list(table["tuned_on"]) == ["lab_nli"] * 2 + ["lab_summary"] * 2
    assert list(table["checkpoint"]) == ["step16", "step1600"] * 2
    assert set(table["examples"]) == {100} and set(table["seconds"]) == {2.0}
    assert set(table.columns) == set(training.COLUMNS)


def test_losses_are_those_of_the_log_and_a_cut_line_is_left_out(store):
    found = loading.load(store.storage, 20)
    spec = training.draw(found, training.training(found, store), store)
    drawn = [line for panel in spec.panels for line in panel.series]
    assert sorted((line.x, line.y) for line in drawn) == [
        ((10.0,), (0.2,)),
        ((10.0, 20.0), (0.2, 0.1)),
    ]


def test_the_page_says_what_it_cost(store):
    found = loading.load(store.storage, 20)
    sections = page.sections(training.with_training(found, store), {})
    (part,) = [part for one in sections for part in one["parts"] if part["id"] == training.NAME]
    assert part["rows"][0][:3] == ["lab_nli", "2", "100 × 3"] and part["rows"][0][-1] == "0.1"
    assert part["question"] == "What does fine-tuning cost"


def test_without_logs_there_is_no_figure(tmp_path):
    synthetic.make_store(tmp_path, rows=5, steps=(16,), formats=("default",))
    bare = Store.open(tmp_path)
    found = loading.load(tmp_path, 20)
    assert training.draw(found, training.training(found, bare), bare) is None
