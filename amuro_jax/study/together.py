"""A study by several processes that work as one program: the first one takes checkpoints, decides
and writes; all compute.
"""

from collections.abc import Iterator

from amuro_jax import convert, peers, processes
from amuro_jax.convert.prefetch import Prefetcher
from amuro_jax.errors import AmuroError
from amuro_jax.study.queue import CheckpointQueue


class Checkpoints:
    """The checkpoints of a study in turn, the same on all processes; a process alone is the first.

    Attributes:
        name: what `open_checkpoint` takes, of the newest one.
    """

    def __init__(self, queue: CheckpointQueue | None, folders: Prefetcher | None):
        """Both None in processes that follow."""
        self._queue, self._folders, self.name = queue, folders, ""

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        """The converted folder of the next checkpoint.

        Raises:
            AmuroError: it cannot be opened, on any process; where some can, the run cannot go on.
        """
        folder = error = None
        if self._folders is not None:
            try:
                folder = next(self._folders)
            except StopIteration:
                processes.share("")
                raise
            except AmuroError as fault:
                error = fault
            self.name = processes.share(self._folders.name)
        else:
            self.name = processes.share("")
            if not self.name:
                raise StopIteration
            try:
                folder = convert.open_checkpoint(self.name)
            except AmuroError as fault:
                error = fault
        peers.settle(f"opening {self.name}", error and str(error))
        if error:
            raise error
        return folder

    def claim(self):
        """The claim of the newest checkpoint; None where a process of another run was faster."""
        claim = NoClaim() if self._queue is None else self._queue.claim(self.name)
        return claim if processes.decide(claim is not None) else None

    def is_ready(self, seconds: float) -> bool:
        """Whether the next checkpoint, or the end, is known within some seconds."""
        return self._folders is not None and self._folders.is_ready(seconds)

    def release(self, name: str) -> None:
        """Gives a checkpoint back."""
        if self._queue is not None:
            self._queue.release(name)


class NoClaim:
    """In place of a claim, in processes that follow: the first one holds it."""

    def check(self) -> None:
        """Says nothing: the first one ends the run where its claim is lost."""


class NoStore:
    """In place of a `Store`, in processes that follow: nothing is read or written."""

    def log(self, *_, **__) -> None:
        """Writes nothing."""

    def commit(self, *_, **__) -> None:
        """Writes nothing."""

    def is_done(self, _) -> bool:
        """Not looked at: the first one says (`processes.decide`)."""
        return False
