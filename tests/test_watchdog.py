"""Processes without jax: one that makes no step is ended, one that is slow or stopped is not."""

import signal
import subprocess
import sys
import time

from amuro_jax.peers import TRY_AGAIN

BEGIN = """
import sys, time
from amuro_jax import watchdog
print("begun", flush=True)
"""


def start(root, script):
    command = [sys.executable, "-c", BEGIN + script]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    return process


def test_a_run_without_steps_is_ended_with_the_stacks_of_its_threads(root):
    process = start(root, "with watchdog.Watchdog(1.0) as w:\n  w.step(1)\n  time.sleep(60)")
    _, said = process.communicate(timeout=50)
    assert process.returncode == TRY_AGAIN
    assert "no training step was finished for 1 s" in said
    assert 'File "<string>", line 7 in <module>' in said


def test_the_first_step_has_the_time_to_compile(root):
    script = "with watchdog.Watchdog(2.0) as w:\n  time.sleep(4)\n  w.step(1)\nprint('done')"
    out, said = start(root, script).communicate(timeout=50)
    assert out == "done\n" and said == ""


def test_a_process_that_was_stopped_is_not_ended_for_it(root):
    # A step is ten naps: after the stop there is time to notice before the next one is finished.
    step = "    for _ in range(10):\n      time.sleep(0.1)\n    w.step(n)\n"
    script = "with watchdog.Watchdog(3.0) as w:\n  w.step(0)\n"
    script += f"  print('at work', flush=True)\n  for n in (1, 2):\n{step}"
    process = start(root, script + "print('done')")
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGCONT)
    out, said = process.communicate(timeout=50)
    assert out == "done\n" and said == ""


def test_one_within_another_has_its_time_and_its_name(root):
    script = "with watchdog.Watchdog(2.0) as w:\n  w.step(1)\n"
    script += "  with watchdog.Watchdog(60.0, of='batch') as inner:\n    inner.step(1)\n"
    script += "    time.sleep(4)\n    watchdog.progress()\n  time.sleep(1)\n  watchdog.progress()\n"
    script += "  print('inner done', flush=True)\n  time.sleep(60)"
    process = start(root, script)
    out, said = process.communicate(timeout=50)
    assert out == "inner done\n" and process.returncode == TRY_AGAIN
    assert "no training step was finished for 2 s" in said
