"""Several processes in one folder: each checkpoint is one process's, and none is forgotten."""

import threading

import pytest

from amuro_jax.claims import STALE_SECONDS
from amuro_jax.results.plan import Progress
from amuro_jax.storage import Storage
from amuro_jax.study import queue
from amuro_jax.study.queue import CheckpointQueue

NAMES = {"a/b@step1": "step1", "a/b@step2": "step2", "a/b@main/x": "main/x"}


@pytest.fixture
def storage(storage_url):
    """An empty storage."""
    return Storage.open(storage_url)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(queue, "WAIT_SECONDS", 0.01)


def make(storage, said=None, names=NAMES):
    return CheckpointQueue(storage, "config", names, (said if said is not None else []).append)


def finish(storage, checkpoint, run="another", failures=()):
    Progress(checkpoint, "w" + checkpoint, {}, run, True, failures).write(storage, "config")


def test_alone_it_gives_every_name_in_order(storage):
    todo = make(storage)
    for name in NAMES:
        assert next(todo) == name and todo.claim(name)
    assert list(todo) == []
    assert set(queue.holders(storage)) == {queue.claim_name(name) for name in NAMES.values()}
    for name in NAMES:
        todo.release(name)
    assert queue.holders(storage) == {}


def in_a_thread(todo):
    """(names that the iteration gives, event of its end); each name is claimed at once."""
    names, ended = [], threading.Event()

    def work():
        for name in todo:
            if todo.claim(name):
                names.append(name)
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    return names, ended


def test_two_share_the_names_and_the_second_waits_for_the_last(storage):
    said, first = [], make(storage)
    mine = [name for name in (next(first), next(first)) if first.claim(name)]
    second = make(storage, said)
    theirs, ended = in_a_thread(second)
    assert not ended.wait(0.3)  # the first one still holds two
    assert [*mine, *theirs] == list(NAMES)
    for name in mine:
        finish(storage, NAMES[name], failures=("one failed",) if name == mine[1] else ())
        first.release(name)
    assert ended.wait(10) and len(theirs) == 1
    assert [one.failures for one in second.elsewhere] == [(), ("one failed",)]
    assert len(said) == 1 and "step1, step2" in said[0]


def test_fetched_ahead_by_both_it_is_claimed_by_one(storage):
    """The slower one looks at it again, and leaves it when it is finished."""
    first, second = make(storage), make(storage)
    name = next(first)
    assert next(second) == name
    assert second.claim(name) and first.claim(name) is None
    finish(storage, NAMES[name])
    second.release(name)
    names, ended = in_a_thread(first)
    assert ended.wait(10) and names == list(NAMES)[1:]


def test_finished_between_the_look_and_the_claim(storage):
    todo = make(storage)
    name = next(todo)
    finish(storage, NAMES[name])
    assert todo.claim(name) is None and queue.holders(storage) == {}
    assert [one.checkpoint for one in todo.elsewhere] == [NAMES[name]]


def test_what_a_dead_process_held_is_taken(storage):
    other = make(storage)
    claim = other.claim(next(other))
    claim._end.set()  # no sign of life any more
    claim._thread.join()
    storage.replace(claim._file(), claim._record(renewed=claim._renewed - STALE_SECONDS - 1))
    names, ended = in_a_thread(make(storage))
    assert ended.wait(10) and names == list(NAMES)


def test_finished_in_an_earlier_run_is_looked_at_again(storage):
    """Its data may have changed: only the keys tell."""
    for name in NAMES.values():
        finish(storage, name)
    names, ended = in_a_thread(make(storage))
    assert ended.wait(10) and names == list(NAMES)


def test_lost_to_another_process_it_is_looked_at_again(storage):
    todo = make(storage, names={"a/b@step1": "step1"})
    name = next(todo)
    todo.claim(name).lost = "taken over"
    todo.release(name)
    finish(storage, "step1")
    assert list(todo) == [] and [one.run for one in todo.elsewhere] == ["another"]


def test_closed_it_ends_a_wait_and_gives_all_back(storage, monkeypatch):
    monkeypatch.setattr(queue, "WAIT_SECONDS", 60.0)
    holder = make(storage)
    assert all(holder.claim(next(holder)) for _ in NAMES)
    todo = make(storage)
    names, ended = in_a_thread(todo)
    assert not ended.wait(0.2)
    todo.close()
    assert ended.wait(10) and names == []
    holder.close()
    assert queue.holders(storage) == {}
