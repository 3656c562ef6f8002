"""The other processes of this run: a failure of one ends all with its message. No jax.

`processes.join` starts it; where a process is alone, nothing here does anything. What is watched
and said between processes goes through `sentinel.py`.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback

from amuro_jax import sentinel
from amuro_jax.errors import AmuroError

TRY_AGAIN = sentinel.TRY_AGAIN  # exit status: another process died or hung; the command resumes
CAUSE_SECONDS = 5.0  # in which a process waits for the cause of an error that may be an effect
SETTLE_SECONDS = 60.0  # in which a failed process waits for the others to fail alike
MESSAGE_LIMIT = 3000  # characters of a message that travels: a write to the pipe is then atomic

current: "Peers | None" = None
_releases: list = []


class Peers:
    """Connection to the sentinel of this process.

    Attributes:
        number, count: which process this is, of how many.
        address: `host:port` of the hub as the first process knows it; "" elsewhere.
    """

    def __init__(self, number: int, count: int, token: str, address: str = ""):
        self.number, self.count = number, count
        self._process = subprocess.Popen(
            [sys.executable, "-I", sentinel.__file__, str(number), str(count), address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, sentinel.TOKEN: token},
            start_new_session=True,  # what is sent to the group of processes is not for it
        )
        self.port = json.loads(self._process.stdout.readline())["port"]
        self._changed, self._handlers = threading.Condition(), {"settled": self._note}
        self._settled, self._outcomes, self._own_verdict = 0, {}, threading.Event()
        self._left, self.verdict = False, None
        threading.Thread(target=self._listen, name="peers", daemon=True).start()

    def send(self, **message) -> None:
        """Sends a message to all processes (see `sentinel.py`); safe in a signal handler."""
        with contextlib.suppress(OSError):
            os.write(self._process.stdin.fileno(), json.dumps(message).encode() + b"\n")

    def handle(self, kind: str, handler) -> None:
        """`handler(message)` is called, in a thread, for each message that has a field `kind`; in
        the same order on all processes.
        """
        self._handlers[kind] = handler

    def _listen(self):
        for line in self._process.stdout:
            message = json.loads(line)
            if "verdict" in message:
                self._judged(message["verdict"])
            elif "unwatched" in message:
                print(f"amuro: not watched: {message['unwatched']}", file=sys.stderr, flush=True)
            for kind in message.keys() & self._handlers.keys():
                self._handlers[kind](message)

    def _judged(self, verdict):
        if self._left:  # it ends by itself
            self.verdict = verdict
            self._own_verdict.set()
        else:
            _leave(verdict["status"], sentinel.explanation(self.number, verdict))

    def settle(self, what: str, error: str | None) -> None:
        """All processes come here after each piece of work, with its error or None.

        Raises:
            AmuroError: it failed on some processes and not on others, which therefore wait for them
                where nobody will come: the run cannot go on.
        """
        self._settled += 1
        number = self._settled
        self.send(settled=number, error=error and error[:MESSAGE_LIMIT])
        with self._changed:
            outcomes = self._outcomes.setdefault(number, {})
            limit = None if error is None else SETTLE_SECONDS
            complete = self._changed.wait_for(lambda: len(outcomes) == self.count, limit)
            del self._outcomes[number]
        failed = {process: text for process, text in sorted(outcomes.items()) if text is not None}
        if complete and len(failed) in (0, self.count):
            return
        process, text = next(iter(failed.items()), (self.number, error))
        raise AmuroError(f"process {process} of {self.count} failed: {text}", where=what)

    def _note(self, message):
        with self._changed:
            outcomes = self._outcomes.setdefault(message["settled"], {})
            outcomes[message["from"]] = message["error"]
            self._changed.notify_all()

    def fail(self, message: str, status: int, **details) -> None:
        """Says that this process ends the run; returns when the others know."""
        self._left = True
        self.send(failed={"message": message[:MESSAGE_LIMIT], "status": status, **details})
        self._own_verdict.wait(CAUSE_SECONDS)

    def leave(self) -> None:
        """Says that this process is about to end as it should."""
        self._left = True
        self.send(left=True)


def start(number: int, count: int, token: str, address: str = "") -> Peers:
    """Watches this process from now on; the others' sentinels are at `address`."""
    global current
    current = Peers(number, count, token, address)
    before = sys.excepthook

    def unexpected(kind, error, trace):
        before(kind, error, trace)
        end(error, 1)

    sys.excepthook = unexpected
    return current


@contextlib.contextmanager
def released(callback):
    """`callback()` is called where the process is ended from outside within the block, which then
    does not leave it in any other way.
    """
    _releases.append(callback)
    try:
        yield
    finally:
        _releases.remove(callback)


def end(error: BaseException, status: int) -> None:
    """Ends this process and, with its message, all others; does nothing where it is alone.

    An error that is not an `AmuroError` may be an effect of another process's end, which is waited
    for and then named instead.
    """
    if current is None:
        return
    cause = isinstance(error, AmuroError)
    if not cause:
        time.sleep(CAUSE_SECONDS)  # the verdict ends this process
    text = str(error) if cause else "".join(traceback.format_exception_only(error)).strip()
    current.fail(text, status, cause=cause)
    _leave(status)


def end_stuck(seconds: float, of: str) -> None:
    """Ends all processes because this one has finished no `of` (a training step, …) for so long."""
    message = f"no {of} was finished for {seconds:.0f} s"
    if current is not None:
        current.fail(message, TRY_AGAIN, stuck=True)
        if current.verdict is not None:
            message = current.verdict["message"]
    _leave(TRY_AGAIN, f"amuro: {message}; the stacks of all threads are above")


def _leave(status, line=""):
    """Ends the process at once: its main thread may wait for others that will not come."""
    for callback in reversed(_releases):
        with contextlib.suppress(Exception):
            callback()
    if line:
        print(line, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def settle(what: str, error: str | None = None) -> None:
    """See `Peers.settle`; nothing where this process is alone."""
    if current is not None:
        current.settle(what, error)


def step(number: int) -> None:
    """Notes that a step was finished, for the message about a process that hangs."""
    if current is not None:
        current.send(step=number)
