"""One owner at a time, and nothing written by a process that has lost its claim (fault 1)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from amuro_jax import claims
from amuro_jax.errors import AmuroError
from amuro_jax.storage import Storage

OWNER = """
import sys, time
from amuro_jax.errors import AmuroError
from amuro_jax.storage import Storage
storage = Storage.open(sys.argv[1])
claim = storage.claim("claim", renew_seconds=0.05, stale_seconds=float(sys.argv[2]))
print("held", flush=True)
sys.stdin.readline()
try:
    storage.commit({"cell.json": "{}"}, marker="cell.json", claim=claim)
except AmuroError as error:
    print(error.what, flush=True)
"""


@pytest.fixture
def storage(storage_url):
    """An empty storage."""
    return Storage.open(storage_url)


def records(storage):
    """The generations of the claim that are there."""
    return [storage.read_json(name) for name in storage.names("claim")]


def change(storage, **fields):
    """Writes fields of the newest generation, as another host would have written them."""
    name = storage.names("claim")[-1]
    storage.write_json(name, storage.read_json(name) | fields)


def wait_for(condition, seconds=10.0):
    """Waits until `condition()` holds."""
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "it never came"
        time.sleep(0.01)


def test_a_claim_is_held_checked_released_and_taken_again(storage):
    with storage.claim() as claim:
        claim.check()
        with pytest.raises(AmuroError, match=f"process {os.getpid()} on") as caught:
            storage.claim()
        assert caught.value.where == f"{storage.url}/claim"
        storage.claim("other").release()
    with pytest.raises(AmuroError, match="released"):
        claim.check()
    with storage.claim() as again:
        assert again.generation == 2 and len(records(storage)) == 1


def test_a_long_quiet_spell_is_renewed_by_the_thread(storage):
    """Training or a download says nothing for longer than the lease: the claim stays."""
    with storage.claim(renew_seconds=0.05, stale_seconds=0.5) as claim:
        time.sleep(1.2)
        with pytest.raises(AmuroError, match="is at work"):
            storage.claim(stale_seconds=0.5)
        claim.check()


def test_another_hosts_claim_holds_until_it_is_stale(storage):
    first = storage.claim()
    change(storage, host="elsewhere", pid=1)
    with pytest.raises(AmuroError, match="on elsewhere"):
        storage.claim()
    change(storage, renewed=time.time() - 601)
    with storage.claim() as second:
        second.check()
        with pytest.raises(AmuroError, match="taken it over"):
            first.check()
    first.release()
    assert records(storage)[-1]["token"] == second.token


def test_a_renewal_notes_the_loss_and_changes_nothing(storage):
    first = storage.claim(renew_seconds=0.02, stale_seconds=600)
    storage.write_json("claim/00000002.json", records(storage)[0] | {"token": "t", "host": "h"})
    wait_for(lambda: first.lost)
    time.sleep(0.1)
    assert "on h has taken it over" in first.lost
    assert storage.read_json("claim/00000002.json")["token"] == "t"
    assert not first._thread.is_alive()


def test_nothing_is_committed_without_the_claim(storage):
    claim = storage.claim()
    change(storage, token="another")
    before = storage.names()
    with pytest.raises(AmuroError, match="claim was lost"):
        storage.child("cell").commit({"rows": b"1", "cell.json": "{}"}, "cell.json", claim)
    assert storage.names() == before


def test_a_claim_lost_between_two_files_leaves_no_marker(storage, monkeypatch):
    claim, replace = storage.claim(), type(storage).replace

    def lose(self, name, data):
        replace(self, name, data)
        if name == "rows":
            storage.write_json("claim/00000009.json", records(storage)[0] | {"token": "t"})

    monkeypatch.setattr(type(storage), "replace", lose)
    with pytest.raises(AmuroError, match="claim was lost"):
        storage.child("cell").commit({"rows": b"1", "cell.json": "{}"}, "cell.json", claim)
    assert storage.exists("cell/rows") and not storage.exists("cell/cell.json")


def test_of_several_takers_one_wins(storage):
    storage.claim().release()
    held, refused, gate = [], [], threading.Barrier(6)

    def take():
        gate.wait()
        try:
            held.append(storage.claim())
        except AmuroError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(held) == 1 and len(refused) == 5
    held[0].check()


def test_an_owner_that_wakes_up_during_the_takeover_keeps_its_claim(storage, monkeypatch):
    first = storage.claim(stale_seconds=600)
    change(storage, host="elsewhere", renewed=time.time() - 601)
    write_once = type(storage).write_once

    def woken(self, name, data):
        change(storage, renewed=time.time())
        return write_once(self, name, data)

    monkeypatch.setattr(type(storage), "write_once", woken)
    with pytest.raises(AmuroError, match="on elsewhere"):
        storage.claim()
    first.check()


def test_a_late_taker_of_an_old_generation_steps_back(storage, monkeypatch):
    storage.claim().release()
    write_once = type(storage).write_once

    def overtaken(self, name, data):
        if name == "claim/00000002.json":
            monkeypatch.setattr(type(storage), "write_once", write_once)
            for _ in range(2):
                storage.claim().release()
            self.delete("claim/00000002.json")
            other.append(storage.claim())
        return write_once(self, name, data)

    other = []
    monkeypatch.setattr(type(storage), "write_once", overtaken)
    with pytest.raises(AmuroError, match="is at work"):
        storage.claim()
    other[0].check()
    assert storage.names("claim") == ["claim/00000004.json"]


def test_a_store_that_is_away_is_waited_for_and_then_given_up(storage, monkeypatch):
    claim = storage.claim(renew_seconds=0.02, stale_seconds=0.4)

    def away(*_):
        raise AmuroError("cannot list: 503", where=storage.url)

    monkeypatch.setattr(type(storage), "listing", away)
    time.sleep(0.1)
    assert claim.lost is None
    with pytest.raises(AmuroError, match="503"):
        claim.check()
    with pytest.raises(AmuroError, match="503"):  # not taken for "no one holds it"
        storage.claim()
    wait_for(lambda: claim.lost)
    assert "503" in claim.lost


def test_a_dead_process_of_this_host_is_followed_at_once(tmp_path):
    owner = start(tmp_path, 600)
    with pytest.raises(AmuroError, match=f"process {owner.pid} on"):
        Storage.open(tmp_path).claim()
    owner.kill()
    wait_for(lambda: claims._start_of(owner.pid) is None)  # a zombie: it has not been waited for
    Storage.open(tmp_path).claim().release()
    owner.wait()


def test_a_process_number_used_again_is_not_the_owner(storage):
    storage.claim()
    change(storage, started=claims._start_of(os.getpid()) - 3600)
    storage.claim().release()


def test_a_stopped_owner_that_goes_on_after_its_lease_is_refused(tmp_path):
    storage, owner = Storage.open(tmp_path), start(tmp_path, 0.5)
    try:
        os.kill(owner.pid, signal.SIGSTOP)
        with pytest.raises(AmuroError, match="is at work"):
            storage.claim(stale_seconds=30)
        time.sleep(0.7)
        with storage.claim(stale_seconds=0.5, renew_seconds=0.05) as claim:
            os.kill(owner.pid, signal.SIGCONT)
            said = owner.communicate("commit\n", timeout=30)[0]
            assert "the claim was lost" in said and "taken it over" in said
            claim.check()
        assert not storage.exists("cell.json")
    finally:
        owner.kill()


def test_a_stopped_owner_that_no_one_followed_goes_on(tmp_path):
    owner = start(tmp_path, 0.3)
    os.kill(owner.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(owner.pid, signal.SIGCONT)
    assert owner.communicate("commit\n", timeout=30)[0] == ""
    assert json.loads((tmp_path / "cell.json").read_text()) == {}


def start(folder, stale):
    """A process that holds the claim of a folder and commits on request."""
    command = [sys.executable, "-c", OWNER, str(folder), str(stale)]
    owner = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert owner.stdout.readline() == "held\n"
    return owner
