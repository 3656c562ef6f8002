"""Metrics (JSONL, TensorBoard), progress bars and timing."""

import os
import sys
import tempfile
import time

from tqdm import tqdm

from amuro_jax.storage import Storage

METRICS = "metrics.jsonl"
# An object store takes about one write a second to one object, and its log's segment is written
# anew each time; a kill costs the lines of this many seconds.
_FLUSH_SECONDS = 10.0


class MetricsWriter:
    """Appends one JSON line per step to `<folder>/metrics.jsonl` and scalars to TensorBoard files
    beside it. The folder may be a URL.

    Lines of steps after `resume_step` (what a killed run wrote after its last saved state) are
    dropped first, so that each step is there once. In an object store the lines are written every
    ten seconds, and the TensorBoard files when the writer is closed (a killed run has none).
    """

    def __init__(self, folder, resume_step: int = 0, tensorboard: bool = True):
        self._storage = Storage.open(folder)
        self._waiting, self._flushed = [], time.monotonic()
        self._started = time.time()
        lines = self._storage.read_log(METRICS)
        kept = [line for line in lines if line["step"] <= resume_step]
        if len(kept) < len(lines):
            self._storage.rewrite_log(METRICS, kept)
        self._board = _Board(self._storage / "tensorboard", resume_step) if tensorboard else None

    def write(self, step: int, **values: float) -> None:
        """Records the scalars of one step."""
        now = time.time()
        seconds = round(now - self._started, 3)
        self._waiting.append({"time": round(now, 3), "step": step, **values, "seconds": seconds})
        if self._storage.local or time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()
        if self._board:
            self._board.add(step, values)

    def flush(self) -> None:
        """Writes the lines that wait."""
        if self._waiting:
            self._storage.append(METRICS, *self._waiting)
        self._waiting, self._flushed = [], time.monotonic()

    def close(self) -> None:
        """Writes what waits, and TensorBoard's files."""
        self.flush()
        if self._board:
            self._board.close()


class _Board:
    """TensorBoard files of a storage; for an object store they are written on the disk first."""

    def __init__(self, storage, resume_step):
        from tensorboardX import SummaryWriter  # slow to import

        self._storage = storage
        self._scratch = None if storage.local else tempfile.TemporaryDirectory()
        folder = self._scratch.name if self._scratch else str(storage.local)
        self._writer = SummaryWriter(folder, purge_step=resume_step + 1)

    def add(self, step, values):
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self):
        self._writer.close()
        if self._scratch:
            self._storage.upload(self._scratch.name)
            self._scratch.cleanup()


def read_metrics(path) -> list[dict]:
    """The lines of a metrics file; one that a kill cut off is left out."""
    storage, name = Storage.of_file(path)
    return storage.read_log(name)


def progress_bar(
    total: int, description: str, unit: str = "step", initial: int = 0, leave: bool = True
):
    """A tqdm bar on stderr with time left.

    Silent where stderr is no terminal and AMURO_PROGRESS is not set.
    """
    quiet = os.environ.get("AMURO_PROGRESS") == "0" or (
        not sys.stderr.isatty() and not os.environ.get("AMURO_PROGRESS")
    )
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        initial=initial,
        leave=leave,
        disable=quiet,
        dynamic_ncols=True,
        mininterval=0.5,
    )
