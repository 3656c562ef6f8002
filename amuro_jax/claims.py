"""One process at a time: a claim with an owner's token and a heartbeat, in a storage.

A claim is a folder of generations, `<name>/00000007.json`. The highest generation holds it. Who
takes over creates the next generation, exclusively, so that one of several wins; an owner writes to
its own generation only, so that a renewal can never undo a takeover, and sees at its next check
that a higher one exists. A release leaves its generation behind, marked, so that numbers are not
used twice.

What remains: an owner that is stopped between `check()` and the write after it, for longer than the
lease, and continued after a takeover, still makes that one write. Writes that follow a check are
therefore short (one file), and what they write depends on its name alone. The clocks of hosts must
agree to within the time of the lease.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid

import psutil

from amuro_jax.errors import AmuroError

RENEW_SECONDS = 30.0  # between two signs of life: 20 may be lost before the lease ends
STALE_SECONDS = 600.0  # without a sign of life after which another process takes over
_ATTEMPTS = 5  # of taking a claim that changes hands at the same time
_SAME_START = 1.0  # seconds by which two looks at one process's start may differ


class ClaimHeldError(AmuroError):
    """Another living process holds a claim."""


class ClaimLostError(AmuroError):
    """A claim that this process held is another's, or cannot be renewed."""


class Claim:
    """A claim that this process holds, renewed by a thread until it is released or lost.

    A context manager; `check()` belongs before every commit.
    """

    def __init__(self, storage, name, generation, token, renew_seconds, stale_seconds):
        self.storage, self.name, self.token = storage, name, token
        self.generation = generation
        self.renew_seconds, self.stale_seconds = renew_seconds, stale_seconds
        self.lost: str | None = None  # why, once it is
        self._renewed = time.time()
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"claim {name}", daemon=True)

    @classmethod
    def take(
        cls,
        storage,
        name: str,
        *,
        renew_seconds: float = RENEW_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> "Claim":
        """Claims `name` in a storage.

        A claim whose owner is a dead process of this host is taken over at once, any other one
        after `stale_seconds` without a sign of life.

        Raises:
            ClaimHeldError: another process holds it.
            AmuroError: it changes hands again and again.
        """
        token = uuid.uuid4().hex
        for _ in range(_ATTEMPTS):
            last = _highest(storage, name)
            holder = _read(storage, name, last)
            if _holds(holder, stale_seconds):
                raise ClaimHeldError(
                    f"process {holder['pid']} on {holder['host']} is at work here",
                    where=storage.where(name),
                    hint="wait for it, or end it",
                )
            claim = cls(storage, name, last + 1, token, renew_seconds, stale_seconds)
            if claim._created():
                claim._thread.start()
                return claim
        raise AmuroError("the claim keeps changing hands", where=storage.where(name))

    def _created(self):
        """Creates this generation; False where another was faster or the last owner woke up."""
        self._renewed = time.time()
        self.storage.write_once(self._file(), self._record())
        mine = _read(self.storage, self.name, self.generation)
        # Asked by its token: a store's own retry may say "exists" of what it has just written.
        if mine is None or mine["token"] != self.token:
            return False
        woken = _holds(_read(self.storage, self.name, self.generation - 1), self.stale_seconds)
        if woken or _highest(self.storage, self.name) != self.generation:
            self.storage.delete(self._file())
            return False
        for generation in _generations(self.storage, self.name):
            if generation < self.generation:
                self.storage.delete(_file(self.name, generation))
        return True

    def check(self) -> None:
        """Raises where the claim is no longer this process's; renews it where the last sign of
        life is old.

        Raises:
            ClaimLostError: another process has taken it over.
            AmuroError: the storage cannot be asked.
        """
        with self._lock:
            if self.lost is None and time.time() - self._renewed > self.stale_seconds / 2:
                self._renew()
            self.lost = self.lost or self._reason()
        if self.lost:
            raise ClaimLostError(
                f"the claim was lost: {self.lost}",
                where=self.storage.where(self.name),
                hint="another process goes on with this work; nothing more is written here",
            )

    def release(self) -> None:
        """Gives the claim back, if it is still this process's."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock, contextlib.suppress(AmuroError):
            if self.lost is None and self._reason() is None:
                self.storage.replace(self._file(), self._record(released=True))
            self.lost = self.lost or "it was released"

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_):
        self.release()

    def _beat(self):
        while not self._end.wait(self.renew_seconds):
            with self._lock:
                try:
                    self._renew()
                except AmuroError as error:  # the network is away: the lease still runs
                    if time.time() - self._renewed > self.stale_seconds:
                        self.lost = f"it could not be renewed: {error.what}"
                if self.lost:
                    return

    def _renew(self):
        """Writes a sign of life, or notes that the claim is lost."""
        self.lost = self.lost or self._reason()
        if self.lost is None:
            now = time.time()
            self.storage.replace(self._file(), self._record(renewed=now))
            self._renewed = now

    def _reason(self):
        """Why the claim is lost; None where this process holds it."""
        highest = _highest(self.storage, self.name)
        holder = _read(self.storage, self.name, highest)
        if highest == self.generation and holder and holder.get("token") == self.token:
            return None
        if highest > self.generation and holder:
            return f"process {holder['pid']} on {holder['host']} has taken it over"
        return "its file is gone or was replaced"

    def _file(self):
        return _file(self.name, self.generation)

    def _record(self, renewed: float | None = None, released: bool = False):
        return json.dumps(
            {
                "token": self.token,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": _start_of(os.getpid()),
                "renewed": self._renewed if renewed is None else renewed,
                "released": released,
            }
        )


def holder(storage, name: str, stale_seconds: float = STALE_SECONDS) -> dict | None:
    """Who holds a claim now: host, pid, started and renewed (seconds since the epoch); None where
    no live process does.
    """
    record = _read(storage, name, _highest(storage, name))
    return record if _holds(record, stale_seconds) else None


def _file(name, generation):
    return f"{name}/{generation:08d}.json"


def _generations(storage, name):
    names = (path.rpartition("/")[2].removesuffix(".json") for path in storage.names(name))
    return sorted(int(number) for number in names if number.isdigit())


def _highest(storage, name):
    return max(_generations(storage, name), default=0)


def _read(storage, name, generation):
    """The record of a generation; None where there is none, or a damaged one.

    Taking over from a damaged one is safe: its owner sees the higher generation.
    """
    data = storage.get(_file(name, generation)) if generation else None
    try:
        record = json.loads(data) if data else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and "token" in record else None


def _holds(record, stale_seconds):
    if record is None or record["released"]:
        return False
    if record["host"] == socket.gethostname() and not _is_same(record["pid"], record["started"]):
        return False
    return time.time() - record["renewed"] <= stale_seconds


def _is_same(pid, started):
    now = _start_of(pid)
    return now is not None and abs(now - started) <= _SAME_START


def _start_of(pid):
    """When a process started (seconds since the epoch), so that a reused process id is not mistaken
    for it; None where it has ended.
    """
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
