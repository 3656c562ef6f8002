"""Seconds and memory from many cells to findings: open, query, analyses' tables, merge, import.

    python benchmarks/findings.py --cells 100000 --folder /tmp/cells
    python benchmarks/findings.py --merge 50000
    python benchmarks/findings.py --import_file olmo_ladder.csv.gz

Cells are synthetic: 20 sets × 5 formats × (base and 9 fine-tuned models) × checkpoints of different
weights; half of the sets are learned along pre-training. Each measurement is a process of its own;
prints one JSON line per step.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROWS = 20  # test rows per cell
SETS, FORMATS, TUNED = 20, 5, 9
CONFLICTS = 1_000
LABELS = 3


def rows_of(right: int) -> list[dict]:
    """Rows of a classification set of which the first `right` are answered rightly, with the
    columns that analyses and auditor read.
    """
    answers = [(row + (row >= right)) % LABELS for row in range(ROWS)]
    return [
        {
            "row": row,
            "doc_id": str(row),
            "task": "set",
            "format": "format0",
            "shots": 4,
            "gold": row % LABELS,
            "predicted": answers[row],
            "correct": row < right,
            "score": float(row < right),
            "prediction": f"label{answers[row]}",
            "reference": f"label{row % LABELS}",
            "choice_logprobs": [-1.0 if at == answers[row] else -2.0 for at in range(LABELS)],
            "label_mass": 0.9,
            "prompt_sha256": str(row),
            "shot_rows": ["train:1"],
            "dropped_shots": 0,
            "cut_tokens": 0,
            "context_tokens": 50,
            "ended": None,
        }
        for row in range(ROWS)
    ]


def make_cells(folder: Path, start: int, end: int, changed: int = 0) -> None:
    """Writes cells as `Store.commit` does; of the first `changed` ones with another value."""
    from amuro_jax.config import Scoring
    from amuro_jax.records import ModelRef, Provenance, ScoreRecord, to_json
    from amuro_jax.results import sealed

    rows = [sealed.rows_bytes(rows_of(right)) for right in range(ROWS + 1)]
    for at in range(start, end):
        step, rest = divmod(at, SETS * FORMATS * (TUNED + 1))
        tuned, rest = divmod(rest, SETS * FORMATS)
        task, form = divmod(rest, FORMATS)
        model = ModelRef("suite", f"step{step}", step, step * 4096, f"set{tuned}" * (tuned > 0))
        level = 0.3 + 0.5 * (task % 2) * step / (step + 10) + 0.1 * (tuned == task)
        noise = 0.17 * (at * 7919 % 101 / 101 - 0.5)  # of the cell: two stores share cells
        right = int(np.clip(round(ROWS * (level + noise)), 0, ROWS))
        value = right / ROWS + (0.001 if at - start < changed else 0.0)
        provenance = Provenance(
            f"{step:016x}", {}, "t" * 64, {"test": "b" * 64}, "1.0", "0", "cpu", "2026"
        )
        record = ScoreRecord(
            f"{at:016x}", model, f"set{task}", f"format{form}", 4, "test", "raw", "token_prob",
            "strict", {}, Scoring(),
            {"metric": "accuracy", "value": value, "stderr": 0.1, "low": value - 0.2,
             "high": value + 0.2, "n": ROWS, "majority": 0.35, "chance": 1 / LABELS},
            provenance, 2048, 1.5,
        )  # fmt: skip
        cell = folder / sealed.CELLS / record.key
        cell.mkdir(parents=True, exist_ok=True)
        (cell / sealed.ROWS).write_bytes(rows[right])
        (cell / sealed.RECORD).write_text(sealed.seal(to_json(record), rows[right]))


def measured(step: str, work) -> None:
    """Runs `work` and prints its seconds, processor seconds and the peak memory so far."""
    started, busy = time.perf_counter(), time.process_time()
    more = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    line = {
        "step": step,
        "seconds": round(time.perf_counter() - started, 2),
        "cpu": round(time.process_time() - busy, 2),
        "peak_mb": round(peak),
    }
    print(json.dumps(line | (more or {})), flush=True)


def open_and_ask(folder: str, tables: str) -> None:
    """Open, query, and the tables of the named analyses (`all`: every one)."""
    from amuro_jax import load_results
    from amuro_jax.results import views
    from amuro_jax.results.store import Store

    found = {}

    def load():
        found["study"] = load_results(folder)
        return {"cells": len(found["study"].cells)}

    def query():
        parts = views.tables(Store.open(folder), "cells", "task == 'set3' and step == 7")
        return {"lines": sum(part.num_rows for part in parts)}

    measured("load_results", load)
    measured("query", query)
    names = list(found["study"].tables) if tables == "all" else tables.split(",")
    for name in filter(None, names):
        measured(name, lambda name=name: {"lines": len(found["study"].analysis(name))})


def merge_stores(count: int, scratch: Path) -> None:
    """Two stores of `count` cells, half of them shared, of which some have another value."""
    from amuro_jax.errors import DataError
    from amuro_jax.results import merge
    from amuro_jax.results.store import Store

    make_cells(scratch / "a", 0, count)
    make_cells(scratch / "b", count // 2, count // 2 + count, CONFLICTS)
    first, second, into = (Store.open(scratch / name) for name in ("a", "b", "into"))

    def refused():
        try:
            merge.merge(first, second, into)
        except DataError as error:
            return {"said": error.what.splitlines()[0]}

    measured("open both, name the conflicts", refused)
    measured("merge", lambda: {"gained": merge.merge(first, second, into, keep="a").gained})


def import_file(path: str, scratch: Path) -> None:
    """`amuro import --format=csv`, then `load_results` of what came in."""
    from amuro_jax import load_results
    from amuro_jax.interchange.columns import import_csv

    measured("import", lambda: {"cells": import_csv(path, scratch / "w").cells})
    measured("load_results", lambda: {"suites": len(load_results(scratch / "w").suites)})


def main() -> None:
    """Parses flags, makes what is missing, measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=0)
    parser.add_argument("--tables", default="all", help="analyses, comma-separated; all; or empty")
    parser.add_argument("--folder", help="kept for the next run; else a temporary one")
    parser.add_argument("--merge", type=int, default=0)
    parser.add_argument("--import_file", default="")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.folder or scratch)
        if options.measure:
            open_and_ask(str(folder), options.tables)
            return
        if options.cells:
            if not (folder / "cells").exists():
                measured("make", lambda: make_cells(folder, 0, options.cells))
            again = [sys.executable, __file__, "--measure", "--folder", str(folder), "--tables"]
            subprocess.run([*again, ""], check=True)  # reads every record, writes the index
            subprocess.run([*again, options.tables], check=True)
        if options.merge:
            merge_stores(options.merge, Path(scratch))
        if options.import_file:
            import_file(options.import_file, Path(scratch))


if __name__ == "__main__":
    main()
