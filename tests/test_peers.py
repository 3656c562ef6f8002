"""Real processes without jax: who ends whom, with which message and status, and where all stop."""

import re
import subprocess
import sys
import time

import pytest

from amuro_jax.peers import TRY_AGAIN
from amuro_jax.preemption import PREEMPTED

BEGIN = """
import os, signal, sys, threading, time
from amuro_jax import peers, preemption
from amuro_jax.errors import AmuroError
number, count, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
me = peers.start(number, count, "secret", address)
if number == 0:
    print(me.port, flush=True)
def released():
    print("released", flush=True)
peers._releases.append(released)
me.settle("start", None)  # all are there
"""


def run(root, script, count=2):
    """(status, standard output, standard error) of each process."""
    started, hub = [], ""
    for number in range(count):
        command = [sys.executable, "-c", BEGIN + script, str(number), str(count), hub]
        process = subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        if number == 0:
            hub = f"127.0.0.1:{int(process.stdout.readline())}"
    try:
        ended = [process.communicate(timeout=60) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, ended, strict=True)]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_all_by_name(root, victim):
    ended = run(
        root,
        f"""
if number == {victim}:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
""",
        count=3,
    )
    for number, (status, out, said) in enumerate(ended):
        if number == victim:
            continue
        assert status == TRY_AGAIN and "released" in out
        assert re.search(rf"process {number} ends because of process {victim} of 3 \(pid", said)
        assert "it died: killed" in said


def test_an_error_ends_all_with_its_message_and_status(root):
    ended = run(
        root,
        """
if number == 1:
    peers.end(AmuroError("row 7 is not text", where="rows.jsonl:7"), 2)
time.sleep(60)
""",
    )
    assert [status for status, *_ in ended] == [2, 2]
    assert "process 0 ends because of process 1 of 2" in ended[0][2]
    assert "row 7 is not text" in ended[0][2] and "rows.jsonl:7" in ended[0][2]


def test_an_effect_is_not_taken_for_the_cause(root):
    """Process 0 meets a broken connection before the death of process 1 is reported."""
    ended = run(
        root,
        """
if number == 0:
    raise OSError("connection closed by peer")
time.sleep(1)
os._exit(9)
""",
    )
    assert ended[0][0] == TRY_AGAIN
    assert "OSError: connection closed" in ended[0][2]  # its own trace is there too
    assert "process 0 ends because of process 1 of 2" in ended[0][2]


def test_the_process_that_hangs_is_named(root):
    ended = run(
        root,
        """
peers.step(8 - (number == 2))
if number == 2:
    time.sleep(60)
peers.end_stuck(5.0, "training step")
""",
        count=3,
    )
    assert [status for status, *_ in ended] == [TRY_AGAIN] * 3
    for _, _, said in ended:
        assert "no training step was finished for 5 s" in said
        assert re.search(r"the one behind is process 2 \(pid \d+ on .*at step 7", said)


def test_all_leave_as_they_should(root):
    ended = run(root, "me.leave(); time.sleep(0.5 * number)")
    assert [status for status, *_ in ended] == [0, 0]
    assert all(said == "" for _, _, said in ended)


def test_a_failure_of_all_is_none_of_the_run(root):
    ended = run(
        root,
        """
for work in range(3):
    me.settle("work", "bad row" if work == 1 else None)
print("went on")
me.leave()
""",
    )
    assert all(status == 0 and "went on" in out for status, out, _ in ended)


def test_a_failure_of_some_ends_the_run(root):
    ended = run(
        root,
        """
try:
    me.settle("paws default", "no such row" if number else None)
except AmuroError as error:
    print(error)
me.leave()
""",
    )
    for _, out, _ in ended:
        assert "process 1 of 2 failed: no such row" in out and "paws default" in out


LOOP = """
preemption.watch()
stop = preemption._shared
stop.begin(0)
limit = 400
for done in range(1, limit + 1):
    time.sleep(0.005)
    if number == 1 and done == 50:
        os.kill(os.getpid(), signal.SIGTERM)
    if number == 0:
        time.sleep(0.001)  # they are not at the same step
    if stop.reached(done, done == limit):
        print("stopped at", done)
        break
me.leave()
"""


def test_all_stop_behind_the_same_step(root):
    ended = run(root, LOOP, count=3)
    stops = [re.search(r"stopped at (\d+)", out)[1] for _, out, _ in ended]
    assert len(set(stops)) == 1 and 50 <= int(stops[0]) < 400


def test_a_signal_while_nothing_is_trained_ends_all_and_releases(root):
    ended = run(
        root,
        """
preemption.watch()
me.settle("watching", None)
if number == 1:
    os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
""",
    )
    assert [status for status, *_ in ended] == [PREEMPTED] * 2
    assert all("released" in out for _, out, _ in ended)
    assert "got SIGTERM" in ended[0][2] + ended[1][2]


def test_a_stranger_is_not_listened_to(root):
    """A sentinel with another secret: the run goes on without it."""
    alone = BEGIN.replace('me.settle("start", None)', "")
    first = subprocess.Popen(
        [sys.executable, "-c", alone + "input()", "0", "1", ""],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    port = first.stdout.readline().strip()
    stranger = alone.replace('"secret"', '"guess"') + "peers.end(AmuroError('stop'), 2)"
    other = [sys.executable, "-c", stranger, "1", "2", f"127.0.0.1:{port}"]
    subprocess.run(other, cwd=root, capture_output=True, timeout=60)
    time.sleep(2)  # longer than a verdict takes
    assert first.poll() is None
    _, said = first.communicate("\n", timeout=60)
    assert "stop" not in said
