"""Metrics (JSONL, TensorBoard), progress bars and timing."""

import json
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm


class MetricsWriter:
    """Appends one JSON line per step to `<folder>/metrics.jsonl` and scalars to TensorBoard files
    beside it.

    Lines of steps after `resume_step` (what a killed run wrote after its last saved state) are
    dropped first, so that each
    step stands once.
    """

    def __init__(self, folder, resume_step: int = 0, tensorboard: bool = True):
        from tensorboardX import SummaryWriter

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        _drop_after(self.path, resume_step)
        self._board = (
            SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1)
            if tensorboard
            else None
        )
        self._started = time.time()

    def write(self, step: int, **values: float) -> None:
        """Records the scalars of one step."""
        line = {"step": step, **values, "seconds": round(time.time() - self._started, 3)}
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        for name, value in values.items() if self._board else ():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes TensorBoard."""
        if self._board:
            self._board.close()


def read_metrics(path) -> list[dict]:
    """The lines of a metrics file; a last line cut off by a kill is ignored."""
    path, rows = Path(path), []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _drop_after(path, step):
    if not path.exists():
        return
    kept = [json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= step]
    scratch = path.with_suffix(".tmp")
    scratch.write_text("".join(kept))
    os.replace(scratch, path)


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
