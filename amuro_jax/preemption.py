"""SIGTERM, as a machine that is taken away sends it: when to stop, the same on all processes."""

import contextlib
import signal
import sys
import threading

from amuro_jax import peers
from amuro_jax.errors import AmuroError

PREEMPTED = 143  # 128 + SIGTERM, what a shell and the schedulers report for it


class Preempted(SystemExit):
    """SIGTERM came: what can be saved was saved, and the process is to end.

    Not an AmuroError: a study that goes on after a failed cell must not go on after this.
    """

    def __init__(self, step: int = 0, saved: bool = False):
        super().__init__(PREEMPTED)
        self.step, self.saved = step, saved


class Stop:
    """Says to a loop of steps whether it is to stop.

    Of several processes any one may get the signal, and all must stop behind the same step, since
    they save together. So each tells the last step that it may have begun, and all go on to the
    largest of these. A process that is in no loop, or in another one, ends the run at once.
    """

    def __init__(self):
        self._lock, self.wanted = threading.Condition(), threading.Event()
        self._limits, self._limit, self._run, self._at = {}, None, 0, None

    def begin(self, start: int) -> None:
        """A loop begins; `start` steps are done."""
        with self._lock:
            self._run += 1
            self._limit = start + 1

    def reached(self, done: int, last: bool = False) -> bool:
        """Whether to stop now that `done` steps are begun; else the next one may begin.

        Args:
            last: there is no next one.
        """
        if peers.current is None:
            return self.wanted.is_set()
        with self._lock:
            if self.wanted.is_set():
                self._lock.wait_for(lambda: self._at is not None)
                return done >= self._at
            self._limit = None if last else done + 1
            return False

    def request(self, *_) -> None:
        """This process got the signal."""
        if peers.current is None:
            self.wanted.set()
        else:
            peers.current.send(stop=True)

    def on_stop(self, message: dict) -> None:
        """Some process got the signal."""
        with self._lock:
            if not self.wanted.is_set():
                self.wanted.set()
                peers.current.send(stop_at=[self._run, self._limit], process=message["from"])

    def on_stop_at(self, message: dict) -> None:
        """A process says how far it may have come."""
        self._limits[message["from"]] = tuple(message["stop_at"])
        if len(self._limits) < peers.current.count:
            return
        runs, limits = zip(*self._limits.values(), strict=True)
        if len(set(runs)) > 1 or None in limits:
            text = f"process {message['process']} got SIGTERM; nothing was being trained"
            threading.Thread(target=_end, args=(text,), daemon=True).start()
            return
        with self._lock:
            self._at = max(limits)
            self._lock.notify_all()


def _end(text):
    print(f"amuro: {text}; exit status {PREEMPTED}", file=sys.stderr, flush=True)
    peers.end(AmuroError(text), PREEMPTED)


_shared = Stop()


def watch() -> None:
    """SIGTERM to any process of this run stops all of them from now on."""
    peers.current.handle("stop", _shared.on_stop)
    peers.current.handle("stop_at", _shared.on_stop_at)
    signal.signal(signal.SIGTERM, _shared.request)


@contextlib.contextmanager
def stopping():
    """The `Stop` of a training run. A second SIGTERM ends the process as it would without us.

    Other threads than the main one cannot catch signals: there it never stops.
    """
    if peers.current is not None:
        yield _shared
        return
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGTERM)

    def caught(*_):
        stop.request()
        signal.signal(signal.SIGTERM, before)

    signal.signal(signal.SIGTERM, caught)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
    if stop.wanted.is_set():  # it came after the last step: nobody has answered it yet
        signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def ends_the_block():
    """SIGTERM outside training leaves the block with `Preempted`: what it holds is released.

    Of several processes, the run's own handler ends them and releases what they hold.
    """
    own = threading.current_thread() is threading.main_thread() and peers.current is None
    if not own:
        yield
        return

    def caught(*_):
        raise Preempted

    before = signal.signal(signal.SIGTERM, caught)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
