"""How far a study is, from its plan, cells and log."""

import pytest

from amuro_jax.errors import AmuroError
from amuro_jax.results.parts import Parts
from amuro_jax.results.plan import read_plan
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study.queue import claim_name
from amuro_jax.study.status import read_status
from tests.study import synthetic


@pytest.fixture
def study(tmp_path):
    """A study with two scores that are not there."""
    synthetic.make_store(tmp_path, rows=8, steps=(16, 1600))
    plan = read_plan(Storage.open(tmp_path))
    lost = plan.cells[:2]
    for cell in lost:
        Store.open(tmp_path).storage.delete(f"cells/{cell.key}")
    return tmp_path, plan, lost


def test_done_running_failed_and_time_left(study):
    workdir, plan, (first, second) = study
    storage = Storage.open(workdir)
    store = Store(storage)
    for cell in plan.cells[2:]:
        store.log("started", cell.key, cell.label())
        store.log("finished", cell.key, cell.label(), seconds=3.0, compiles={"seconds": 1.0})
    store.log("started", "t", "train x")
    store.log("finished", "t", "train x", seconds=9.0)
    store.log("started", first.key, first.label())
    store.log("started", second.key, second.label())
    store.log("failed", second.key, second.label(), error="no rows\n  where: x")
    found = read_status(workdir)
    assert (found.scores, found.scores_done) == (len(plan.cells), len(plan.cells) - 2)
    assert found.models == found.models_done == 4 and found.seconds_left == pytest.approx(4.0)
    (running,) = found.running
    assert running.label == first.label() and not running.alive
    assert found.failed == {second.label(): "no rows"}
    text = "\n".join(found.lines())
    assert "interrupted" in text and f"failed: {second.label()}: no rows" in text
    assert "time left: about 4 s" in text
    with storage.claim(claim_name("step1")):
        assert read_status(workdir).running[0].alive
    assert not read_status(workdir).running[0].alive  # it was released


def test_rows_of_scores_that_are_not_finished_count(study):
    workdir, plan, (first, second) = study
    storage = Storage.open(workdir)
    store, parts = Store(storage), Parts(storage)
    store.log("finished", plan.cells[2].key, plan.cells[2].label(), seconds=4.0)
    assert read_status(workdir).begun == 0 and "begun" not in "".join(read_status(workdir).lines())
    rows = [{"row": place, "score": 1.0} for place in range(8)]
    parts.add(first.key, 0, 8, rows[:2], 1.0)
    parts.add(first.key, 2, 8, rows[:4], 1.0)
    parts.add(second.key, 0, 1000, rows[:2], 1.0)
    parts.add("of another study", 0, 8, rows[:1], 1.0)
    parts.add(plan.cells[2].key, 0, 8, rows[:1], 1.0)  # finished; its part was not removed yet
    found = read_status(workdir)
    assert (found.begun, found.rows_done, found.rows) == (2, 8, 1008)
    assert found.scores_done == len(plan.cells) - 2, "a part is no score"
    assert found.seconds_left == pytest.approx(4.0 * (0.25 + 0.998))
    text = "\n".join(found.lines())
    assert "  begun: 2 more scores, with 8 of 1,008 rows" in text
    assert "time left for all rows of all scores: about 5 s of work" in text


def test_a_failure_that_was_repaired_is_none_and_nothing_left_says_so(study):
    workdir, plan, lost = study
    store = Store.open(workdir)
    store.log("failed", lost[0].key, lost[0].label(), error="x")
    store.log("finished", lost[0].key, lost[0].label(), seconds=1.0)
    found = read_status(workdir)
    assert found.failed == {} and found.running == ()
    with pytest.raises(AmuroError, match="no study here"):
        read_status(workdir / "none")


def test_a_damaged_cell_is_named(study):
    workdir, plan, _ = study
    Store.open(workdir).cell(plan.cells[-1].key).replace("cell.json", "")
    found = read_status(workdir)
    assert list(found.damaged) == [plan.cells[-1].key] and "damaged" in "\n".join(found.lines())
