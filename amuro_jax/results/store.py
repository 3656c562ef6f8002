"""Finished cells on disk: `<workdir>/cells/<key>/{cell.json, rows.parquet}`, each whole or absent.

And the log of cells.
"""

import json
import os
import time
from pathlib import Path

import pandas as pd

from amuro_jax import files
from amuro_jax.errors import AmuroError, DataError


def cell_folder(workdir, key: str) -> Path:
    """Folder of a cell."""
    return Path(workdir) / "cells" / key


def is_done(workdir, key: str) -> bool:
    """Whether a cell is finished and can be read."""
    path = cell_folder(workdir, key) / "cell.json"
    if not path.exists():
        return False
    try:
        return files.read_json(path).get("key") == key
    except AmuroError:
        return False  # damaged by hand or by the disk: it is computed again


def write_cell(workdir, record: dict, rows: list[dict] | None = None) -> None:
    """Commits a cell: the record, with its key, and the rows behind its number."""
    with files.atomic_folder(cell_folder(workdir, record["key"])) as scratch:
        if rows is not None:
            pd.DataFrame(rows).to_parquet(str(scratch / "rows.parquet"), index=False)
        files.write_json(scratch / "cell.json", record)


def read_cell(workdir, key: str) -> dict:
    """The record of a cell."""
    return files.read_json(cell_folder(workdir, key) / "cell.json")


def read_rows(workdir, key: str) -> pd.DataFrame:
    """The rows of a score cell.

    Raises:
        DataError: they are missing or damaged.
    """
    path = cell_folder(workdir, key) / "rows.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read: {error}",
            where=path,
            hint="delete the cell's folder and run the study again",
        ) from error


def log(workdir, event: str, key: str, label: str, **more) -> None:
    """Appends one line to `<workdir>/cells.log`: event is started, finished, failed, or compiled
    (of a whole run).
    """
    line = {
        "time": round(time.time(), 3),
        "pid": os.getpid(),
        "event": event,
        "key": key,
        "cell": label,
        **more,
    }
    with (Path(workdir) / "cells.log").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def read_log(workdir) -> list[dict]:
    """Lines of the log; a last one cut off by a kill is left out."""
    path, lines = Path(workdir) / "cells.log", []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def records(workdir, kind: str = "score") -> list[dict]:
    """Records of all finished cells of a kind (score, train), by folder name.

    Raises:
        AmuroError: a damaged record, by name.
    """
    paths = sorted((Path(workdir) / "cells").glob("[0-9a-f]*/cell.json"))
    return [record for record in map(files.read_json, paths) if record["kind"] == kind]


COLUMNS = (
    "key",
    "checkpoint",
    "step",
    "tokens",
    "tuned_on",
    "task",
    "role",
    "format",
    "shots",
    "protocol",
    "method",
    "metric",
    "value",
    "stderr",
    "low",
    "high",
    "n",
    "majority",
    "chance",
    "seconds",
)


def frame(workdir) -> pd.DataFrame:
    """One line per finished score cell, columns COLUMNS; `tuned_on` is "" for base models."""
    lines = []
    for record in records(workdir):
        flat = {
            **record["specification"],
            **record["model"],
            **record["metrics"],
            "key": record["key"],
            "seconds": record["seconds"],
        }
        flat |= {"protocol": record["protocol"]["name"], "method": record["method"]}
        lines.append({name: flat.get(name) for name in COLUMNS})
    return pd.DataFrame(lines, columns=list(COLUMNS)).sort_values(
        ["step", "tuned_on", "task", "format", "shots"], ignore_index=True
    )
