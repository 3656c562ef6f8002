"""Which checkpoint a process takes next, where several processes work in one folder."""

import random
import threading
from collections.abc import Iterator
from urllib.parse import quote

from amuro_jax import claims
from amuro_jax.claims import Claim, ClaimHeldError
from amuro_jax.results.plan import Progress, read_progress
from amuro_jax.storage import Storage

CLAIMS = "claims"
# Between two looks at checkpoints that others hold: a little random, so that processes that wait
# for the same one do not ask at the same time.
WAIT_SECONDS = 5.0


class CheckpointQueue:
    """Iterates over the names of checkpoints that no other process holds; each is then claimed, or
    comes again where another process was faster.

    A checkpoint that another process holds is passed over and looked at again when the others are
    done: it is taken where that process has died, and left where that process has finished it. The
    iteration may run ahead in a thread of its own, so that a checkpoint is fetched before it is
    claimed and two processes can share two checkpoints.

    Attributes:
        elsewhere: what other processes finished while this one was at work.
    """

    def __init__(self, storage: Storage, config_key: str, names: dict[str, str], report):
        """
        Args:
            names: what `open_checkpoint` takes → the name within the series.
            report: gets a line when only checkpoints of other processes are left.
        """
        self.elsewhere: list[Progress] = []
        self._storage, self._key, self._names, self._report = storage, config_key, names, report
        self._left = list(names)
        self._undecided: set[str] = set()  # given by the iteration, and not yet claimed
        self._claims: dict[str, Claim] = {}
        self._stopped, self._changed = False, threading.Condition()
        self._before = {one.checkpoint: one.run for one in self._progress(self._left)}

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        reported = False
        while True:
            with self._changed:
                if self._stopped or not (self._left or self._undecided):
                    raise StopIteration
                left = list(self._left)
            self._forget_finished(left)
            free = (
                name for name in left if claims.holder(self._storage, self._claim(name)) is None
            )
            name = next(free, None)
            with self._changed:
                if self._stopped:
                    raise StopIteration
                if name in self._left:
                    self._left.remove(name)
                    self._undecided.add(name)
                    return name
                if self._left and not self._undecided and not reported:
                    reported = True
                    names = ", ".join(self._names[name] for name in self._left[:5])
                    self._report(f"waiting for other processes at work on {names}")
                if self._left or self._undecided:
                    self._changed.wait(WAIT_SECONDS * random.uniform(0.5, 1.5))

    def claim(self, name: str) -> Claim | None:
        """Claims a checkpoint that the iteration gave; None where another process was faster."""
        try:
            claim = self._storage.claim(self._claim(name))
        except ClaimHeldError:
            self._decide(name, again=True)
            return None
        if self._forget_finished([name]):  # between the look and the claim
            claim.release()
            self._decide(name)
            return None
        self._claims[name] = claim
        self._decide(name)
        return claim

    def release(self, name: str) -> None:
        """Gives a checkpoint back; one that was lost to another process is looked at again."""
        claim = self._claims.pop(name)
        if claim.lost:
            self._decide(name, again=True)
        claim.release()

    def close(self) -> None:
        """Ends the iteration, and gives back whatever is still claimed."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for name in list(self._claims):
            self._claims.pop(name).release()

    def _decide(self, name, again=False):
        with self._changed:
            self._undecided.discard(name)
            if again:
                self._left.append(name)
            self._changed.notify_all()

    def _forget_finished(self, names):
        """Forgets what other processes finished since this one started; returns their names.

        What was finished before is opened again: its data may have changed.
        """
        news = {
            one.checkpoint: one
            for one in self._progress(names)
            if one.finished and one.run != self._before.get(one.checkpoint)
        }
        finished = [name for name in names if self._names[name] in news]
        with self._changed:
            self._left = [name for name in self._left if name not in finished]
            self.elsewhere += [news[self._names[name]] for name in finished]
        return finished

    def _is_free(self, name):
        return claims.holder(self._storage, self._claim(name)) is None

    def _progress(self, names):
        return read_progress(self._storage, self._key, [self._names[name] for name in names])

    def _claim(self, name):
        return claim_name(self._names[name])


def claim_name(checkpoint: str) -> str:
    """Name of the claim of a checkpoint."""
    return f"{CLAIMS}/{quote(checkpoint, safe='')}"


def holders(storage: Storage) -> dict[str, dict]:
    """Claims of checkpoints that live processes hold → who holds them (`claims.holder`)."""
    names = sorted({name.rpartition("/")[0] for name in storage.names(CLAIMS)})
    owners = {name: claims.holder(storage, name) for name in names}
    return {name: owner for name, owner in owners.items() if owner is not None}
