"""Ends a run that gets no further: a process hangs, or waits for one that does."""

import contextlib
import faulthandler
import sys
import threading

from amuro_jax import peers

STEP_SECONDS = 1800.0  # of one step, compilation included
_SPARE_SECONDS = 60.0  # for which a thread of Python may be kept from running, before C steps in
_TICK_SECONDS = 0.5


class Watchdog:
    """Expects `step()` at least every `limit` seconds within its `with` block; the first one, for
    which programs are compiled, within STEP_SECONDS or `limit`, whichever is longer.

    Time is counted in ticks of a thread, so that a process that was stopped and continued (or a
    machine that slept) is not ended for it. On expiry the stacks of all threads are written to
    stderr and the process ends, with all others of the run.

    One may lie within another, which waits meanwhile: scores within a training.
    """

    def __init__(self, limit: float | None = None, of: str = "training step"):
        """`of` says in messages what is finished at each step."""
        self._of, self._outer, self._count = of, None, 0
        self._later = STEP_SECONDS if limit is None else limit
        self.limit = max(STEP_SECONDS, self._later)
        self._quiet, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        global _newest
        self._outer, _newest = _newest, self
        self._arm()
        self._thread.start()
        return self

    def __exit__(self, *_):
        global _newest
        _newest = self._outer
        self._done.set()
        with contextlib.suppress(RuntimeError):
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        if self._outer is not None:
            self._outer.resume()

    def resume(self) -> None:
        """Waits anew, without a step."""
        self._quiet = 0.0
        self._arm()

    def step(self, number: int) -> None:
        """Step `number` was finished."""
        self._count, self.limit = number, self._later
        self.resume()
        peers.step(number)

    def one_more(self) -> None:
        """The step after the newest was finished."""
        self.step(self._count + 1)

    def _arm(self):
        # For a thread that holds the interpreter: then no thread of Python can speak up.
        faulthandler.dump_traceback_later(self.limit + _SPARE_SECONDS, exit=True, file=_stderr())

    def _watch(self):
        while not self._done.wait(_TICK_SECONDS):
            if _newest is not self:
                continue
            self._quiet += _TICK_SECONDS
            if self._quiet >= self.limit:
                faulthandler.dump_traceback(all_threads=True, file=_stderr())
                peers.end_stuck(self.limit, self._of)


_newest: Watchdog | None = None  # the innermost that is on


def progress() -> None:
    """A part of the work is finished: the watchdog that is on, if one is, waits anew."""
    if _newest is not None:
        _newest.one_more()


def _stderr():
    """A real file: what a test or a notebook puts in its place has no descriptor."""
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return sys.__stderr__
    return sys.stderr
