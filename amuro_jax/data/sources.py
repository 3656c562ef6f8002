"""Rows of a data set: from local files under `data_root`, or from the Hub.

Validated one by one, with file and line in every error.
"""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np

from amuro_jax import files
from amuro_jax.data import hub_cache, readers
from amuro_jax.data.protocols import STRICT, Protocol
from amuro_jax.data.task import Task
from amuro_jax.data.types import Example
from amuro_jax.errors import DataError

PARQUET_BRANCH = "refs/convert/parquet"
SUFFIXES = ("jsonl", "parquet", "arrow", "json")


@dataclasses.dataclass(frozen=True)
class Split:
    """A split that was found: its name and file (None: on the Hub)."""

    name: str
    path: Path | None


def split_path(task: Task, split: str, data_root: str) -> Path | None:
    """File of a split under `data_root`, None where there is none."""
    for folder in (task.source.folder, *task.source.also):
        for suffix in SUFFIXES:
            path = Path(data_root) / folder / f"{split}.{suffix}"
            if path.is_file():
                return path
    return None


def find_split(task: Task, splits: tuple[str, ...], data_root: str) -> Split:
    """The first of `splits` that exists; without `data_root`, the first is taken to be on the Hub.

    Raises:
        DataError: none of them under `data_root`, with the places looked at.
    """
    if not data_root and splits:
        if not task.source.hub:
            raise DataError(
                f"{task.name} is a local set",
                where="data_root",
                hint="give its folder: --config.data_root=…",
            )
        return Split(splits[0], None)
    for split in splits:
        if path := split_path(task, split, data_root):
            return Split(split, path)
    if not splits:
        raise DataError(f"{task.name} is trained on, not scored", where="task")
    looked = ", ".join(
        f"{folder}/{split}.{{jsonl,parquet,arrow}}"
        for folder in (task.source.folder, *task.source.also)
        for split in splits
    )
    raise DataError(
        f"no rows of {task.name}: looked for {looked}",
        where=data_root,
        hint="put the Hub's rows there, or leave data_root empty to download",
    )


def test_split(task: Task, protocol: Protocol, data_root: str) -> Split:
    """The split that is scored under a protocol (quirk 14)."""
    return find_split(task, task.under(protocol).source.test, data_root)


def train_split(task: Task, data_root: str) -> Split:
    """The split that is fine-tuned on.

    Raises:
        DataError: the set has none.
    """
    if not task.source.train:
        raise DataError(
            f"{task.name} has no training split", where="task", hint="it is scored only"
        )
    return find_split(task, (task.source.train,), data_root)


def raw_rows(task: Task, split: Split) -> tuple[tuple[str, dict], ...]:
    """((where, row), …): native rows of a split, each with its file and line.

    Read again only when the file has changed.
    """
    status = os.stat(split.path) if split.path else None
    rows = _read_rows(task.source, split, status and (status.st_mtime_ns, status.st_size))
    if task.source.order_seed is None:
        return rows
    order = np.random.default_rng(task.source.order_seed).permutation(len(rows))
    return tuple(rows[index] for index in order)


@functools.lru_cache(maxsize=64)
def _read_rows(source, split, _changed):
    if split.path is None:
        return tuple(
            (f"{source.hub}:{split.name}[{number}]", row)
            for number, row in enumerate(_hub_rows(source, split.name))
        )
    if split.path.suffix == ".jsonl":
        return tuple((f"{split.path}:{line}", row) for line, row in files.read_jsonl(split.path))
    return tuple(
        (f"{split.path}[{number}]", row) for number, row in enumerate(_table_rows(split.path))
    )


def _table_rows(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".json":
        rows = files.read_json(path)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError("expected a list of objects", where=path)
        return rows
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path).to_pylist()
        with pa.memory_map(str(path)) as source:
            try:
                return pa.ipc.open_file(source).read_all().to_pylist()
            except pa.ArrowInvalid:
                return pa.ipc.open_stream(source).read_all().to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"cannot be read: {error}", where=path) from error


def _hub_rows(source, split):
    name, config = source.hub, source.config
    try:
        try:
            return hub_cache.load(name, config or None, split=split)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            # Sets published as a script have a parquet mirror on a branch of their own, one folder
            # per configuration and split.
            found = {split: f"{config or 'default'}/*{split}/*.parquet"}
            return hub_cache.load(name, data_files=found, revision=PARQUET_BRANCH, split=split)
    except Exception as error:  # the library raises many kinds
        hint = "check the network, or give local rows: --config.data_root=…"
        raise DataError(
            f"cannot load: {type(error).__name__}: {str(error)[:300]}",
            where=f"{name}:{split}",
            hint=hint,
        ) from error


def load_examples(task: Task, split: Split, protocol: Protocol = STRICT) -> list[Example]:
    """Validated examples of a split.

    Raises:
        DataError: a missing column, a value of the wrong type, an unlabelled row: named by file and
            line.
    """
    task = task.under(protocol)
    read, examples = getattr(readers, task.reader), []
    for index, (where, row) in enumerate(raw_rows(task, split)):
        if missing := [
            column for column in task.columns if not any(name in row for name in column.split("|"))
        ]:
            raise DataError(
                f"column {missing[0]!r} is missing; the row has {sorted(row)}",
                where=where,
                hint=f"{task.name} needs {list(task.columns)}",
            )
        try:
            examples.append(read(task, row, index))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{task.name}: {error}", where=where) from error
    if not examples:
        raise DataError(f"{task.name} has no rows", where=split.path or task.source.hub)
    return examples


def dataset_checksum(task: Task, split: Split) -> str:
    """SHA-256 of a local file; of the rows' canonical JSON for the Hub."""
    if split.path is not None:
        return _file_hash(split.path, os.path.getmtime(split.path))
    return files.content_key([row for _, row in raw_rows(task, split)], length=64)


@functools.lru_cache(maxsize=256)
def _file_hash(path, _changed):
    return files.sha256_file(path)
