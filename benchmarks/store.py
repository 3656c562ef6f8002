"""Seconds and memory of a results store with many cells.

    python benchmarks/store.py --cells 100000

Makes synthetic cells in a folder that must be new or its own, then measures in processes of their
own: the first open, which reads every cell and writes the index; an open with the index; an open
after 100 more cells; a query of one set. Prints a table.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 4  # rows per cell: the store reads none of them when it is opened
SETS, FORMATS, TUNED = 20, 5, 9


def make_cells(folder: Path, start: int, end: int) -> None:
    """Writes cells as `Store.commit` does, with one rows file for all."""
    from amuro_jax.config import Scoring
    from amuro_jax.records import ModelRef, Provenance, ScoreRecord, to_json
    from amuro_jax.results import sealed

    rows = sealed.rows_bytes([{"row": row, "score": 0.5, "prediction": ""} for row in range(ROWS)])
    provenance = Provenance(
        "m" * 16, {"source": "suite", "files": {"model.safetensors": "f" * 64}}, "t" * 64,
        {"train": "a" * 64, "test": "b" * 64}, "1.0", "0.10.2", "8 × cpu", "2026-01-01T00:00:00Z",
    )  # fmt: skip
    for at in range(start, end):
        key = f"{at:016x}"
        step, rest = divmod(at, SETS * FORMATS * (TUNED + 1))
        tuned, rest = divmod(rest, SETS * FORMATS)
        task, form = divmod(rest, FORMATS)
        model = ModelRef("suite", f"step{step}", step, step * 4096, f"set{tuned}" * (tuned > 0))
        record = ScoreRecord(
            key, model, f"set{task}", f"format{form}", 4, "test", "raw", "token_prob", "strict",
            {"no_stop": False}, Scoring(),
            {"metric": "accuracy", "value": at % 97 / 97, "stderr": 0.01, "low": 0.1, "high": 0.9,
             "n": ROWS, "majority": 0.3, "chance": 0.25, "prior": 0.2},
            provenance, 2048, 1.5,
        )  # fmt: skip
        cell = folder / sealed.CELLS / key
        cell.mkdir(parents=True, exist_ok=True)
        (cell / sealed.ROWS).write_bytes(rows)
        (cell / sealed.RECORD).write_text(sealed.seal(to_json(record), rows))


def measure(folder: str) -> dict:
    """Opens the store, reads its frame and one query; seconds and peak memory of this process."""
    started = time.perf_counter()
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    from amuro_jax.results.store import Store

    imported, busy = time.perf_counter(), time.process_time()
    store = Store.open(folder)
    frame = store.frame()
    opened = time.perf_counter()
    cpu = time.process_time() - busy
    found = store.query({"task": "set3", "tuned_on": ["", "set3"]}, ["step", "value"])
    queried = time.perf_counter()
    return {
        "cells": len(frame),
        "import s": imported - started,
        "open s": opened - imported,
        "cpu s": cpu,
        "query s": queried - opened,
        "lines": len(found),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def main() -> None:
    """Parses flags, makes the cells, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--folder", help="kept for the next run; else a temporary one")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.folder or scratch)
        if not (folder / "cells").exists():
            started = time.perf_counter()
            make_cells(folder, 0, options.cells)
            print(f"made {options.cells} cells in {time.perf_counter() - started:.1f} s")
        (folder / "cells.parquet").unlink(missing_ok=True)
        command = [sys.executable, __file__, "--measure", "--folder", str(folder)]
        for label in ("no index", "index", "100 more cells"):
            if label == "100 more cells":
                make_cells(folder, options.cells, options.cells + 100)
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            values = json.loads(out)
            if label == "no index":
                print(" | ".join([f"{'':14}", *(f"{name:>8}" for name in values)]))
            shown = (f"{v:8.2f}" if isinstance(v, float) else f"{v:8}" for v in values.values())
            print(" | ".join([f"{label:14}", *shown]))


if __name__ == "__main__":
    main()
