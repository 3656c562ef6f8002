"""Metrics (JSONL, TensorBoard), progress bars and timing."""

import hashlib
import os
import sys
import tempfile
import time

from tqdm import tqdm

from amuro_jax.errors import ConfigError
from amuro_jax.storage import Storage

METRICS = "metrics.jsonl"
# An object store takes about one write a second to one object, and its log's segment is written
# anew each time; a kill costs the lines of this many seconds.
_FLUSH_SECONDS = 10.0
LINE_SECONDS = 30.0  # between lines of progress in a log


class MetricsWriter:
    """Appends one JSON line per step to `<folder>/metrics.jsonl` and scalars to TensorBoard files
    beside it. The folder may be a URL.

    Lines of steps after `resume_step` (what a killed run wrote after its last saved state) are
    dropped first, so that each step is there once. In an object store the lines are written every
    ten seconds, and the TensorBoard files when the writer is closed (a killed run has none).
    """

    def __init__(
        self,
        folder,
        resume_step: int = 0,
        tensorboard: bool = True,
        wandb: str | None = None,
    ):
        """
        Args:
            wandb: project of Weights & Biases that gets the same numbers; None: none. A run that
                goes on after a kill is the same run there.

        Raises:
            ConfigError: the package `wandb` is not installed.
        """
        self._storage = Storage.open(folder)
        self._waiting, self._flushed = [], time.monotonic()
        self._started = time.time()
        lines = self._storage.read_log(METRICS)
        current = [line for line in lines if line["step"] <= resume_step]
        if len(current) < len(lines):
            self._storage.rewrite_log(METRICS, current)
        self._board = _Board(self._storage / "tensorboard", resume_step) if tensorboard else None
        self._wandb = _start_wandb(wandb, self._storage) if wandb else None

    def write(self, step: int, **values: float) -> None:
        """Records the scalars of one step."""
        now = time.time()
        seconds = round(now - self._started, 3)
        self._waiting.append({"time": round(now, 3), "step": step, **values, "seconds": seconds})
        if self._storage.local or time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()
        if self._board:
            self._board.add(step, values)
        if self._wandb:
            self._wandb.log(values, step=step)

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
        if self._wandb:
            self._wandb.finish()


def _start_wandb(project, storage):
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "Weights & Biases is not installed",
            where="config.run.wandb",
            hint="pip install 'amuro_jax[wandb]', or leave the field out",
        ) from error
    folder = str(storage.local) if storage.local else tempfile.gettempdir()
    return wandb.init(
        project=project,
        id=hashlib.sha256(str(storage).encode()).hexdigest()[:16],
        name=str(storage),
        resume="allow",
        dir=folder,
        settings=wandb.Settings(console="off", silent=True),
    )


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


def memory_in_use() -> dict[str, float]:
    """Bytes of this process and, where the backend counts them, of its fullest device."""
    import jax
    import psutil

    used = {"host_bytes": psutil.Process().memory_info().rss}
    counts = [device.memory_stats() or {} for device in jax.local_devices()]
    for name, key in (("device_bytes", "bytes_in_use"), ("device_peak_bytes", "peak_bytes_in_use")):
        if known := [count[key] for count in counts if key in count]:
            used[name] = max(known)
    return used


def progress_mode() -> str:
    """How progress is shown: `bar`, `lines` or `none`.

    As AMURO_PROGRESS says (`0` is `none`, `1` is `bar`); where it is not set, a bar on a terminal
    and lines elsewhere.
    """
    mode = os.environ.get("AMURO_PROGRESS", "")
    mode = {"0": "none", "1": "bar"}.get(mode, mode)
    if mode in ("bar", "lines", "none"):
        return mode
    return "bar" if sys.stderr.isatty() else "lines"


def note(line: str) -> None:
    """Prints a line where progress is shown as lines: what a bar shows by moving."""
    if progress_mode() == "lines":
        print(line, file=sys.stderr, flush=True)


def progress_bar(
    total: int,
    description: str,
    unit: str = "step",
    initial: int = 0,
    leave: bool = True,
    shown: bool = True,
):
    """Progress with time left, on stderr: a tqdm bar, or a line each 30 s (see `progress_mode`).

    Args:
        shown: False: nothing, whatever the mode.
    """
    mode = progress_mode() if shown else "none"
    if mode == "lines":
        return ProgressLines(total, description, unit, initial)
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        initial=initial,
        leave=leave,
        disable=mode == "none",
        dynamic_ncols=True,
        mininterval=0.5,
    )


class ProgressLines:
    """As much of tqdm's bar as is used here, as lines for a log."""

    def __init__(self, total: int, description: str, unit: str = "step", initial: int = 0):
        self.total, self.unit, self.n = total, unit, initial
        self._what, self._first, self._postfix = description.strip(), initial, ""
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *_):
        self.close()

    def update(self, count: int = 1) -> None:
        """So many more are done; prints a line where the last one is old."""
        self.n += count
        if time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def set_postfix_str(self, text: str) -> None:
        """What the next line ends with."""
        self._postfix = text

    def close(self) -> None:
        """Nothing is left open."""

    def _line(self):
        done, seconds = self.n - self._first, self._shown - self._began
        share = f" ({self.n / self.total:.0%})" if self.total else ""
        line = f"{self._what}: {self.unit} {self.n} of {self.total}{share}"
        if done:
            line += f", {(self.total - self.n) * seconds / done / 60:.1f} minutes left"
        return f"{line}, {self._postfix}" if self._postfix else line
