"""Rows of a data set: from files under `data_root` (a folder or an object store), or from the Hub.

Validated one by one, with file and line in every error.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from amuro_jax import files
from amuro_jax.data import hub_cache, readers
from amuro_jax.data.protocols import STRICT, Protocol
from amuro_jax.data.registry import get_task
from amuro_jax.data.rows import JsonlRows, TableRows
from amuro_jax.data.task import Kind, Task
from amuro_jax.data.types import Example
from amuro_jax.errors import AmuroError, DataError
from amuro_jax.storage import Storage

PARQUET_BRANCH = "refs/convert/parquet"
SUFFIXES = ("jsonl", "parquet", "arrow", "json")
CHECKED_ROWS = 50  # of a file, before a run: enough to see its columns and its labels' form


@dataclasses.dataclass(frozen=True)
class Split:
    """A split that exists: its name, and the path or URL of its file (None: on the Hub)."""

    name: str
    path: str | None


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something about a set's rows that a run would meet.

    Attributes:
        is_fault: the run would fail; else it would download what is named.
        what, where, hint: as in an error.
    """

    is_fault: bool
    what: str
    where: str
    hint: str = ""


def split_path(task: Task, split: str, data_root: str) -> str | None:
    """Path or URL of a split's file under `data_root`, None where there is none."""
    root = Storage.open(data_root)
    for folder in (task.source.folder, *task.source.also):
        for suffix in SUFFIXES:
            name = f"{folder}/{split}.{suffix}"
            if root.exists(name):
                return root.where(name)
    return None


def find_split(task: Task, splits: tuple[str, ...], data_root: str) -> Split:
    """The first of `splits` that exists; without `data_root`, the first is assumed to be on the
    Hub.

    Raises:
        DataError: none of them under `data_root`, with the paths that were tried.
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
    rows = _read_rows(task.source, split, split.path and _version(split.path))
    if task.source.order_seed is None:
        return rows
    order = np.random.default_rng(task.source.order_seed).permutation(len(rows))
    return tuple(rows[index] for index in order)


def _version(path):
    """Another value once the file is written anew."""
    storage, name = Storage.of_file(path)
    return storage.listing().get(name)


@functools.lru_cache(maxsize=64)
def _read_rows(source, split, _changed):
    if split.path is not None:
        return tuple(_file_rows(split.path))
    return tuple(
        (f"{source.hub}:{split.name}[{number}]", row)
        for number, row in enumerate(_hub_rows(source, split.name))
    )


def _file_rows(path: str) -> Iterator[tuple[str, dict]]:
    """(where, row) of a file, reading no more of it than is consumed, where its form allows."""
    if path.endswith(".jsonl"):
        for line, row in files.read_jsonl(path):
            yield f"{path}:{line}", row
    else:
        for number, row in enumerate(_table_rows(path)):
            yield f"{path}[{number}]", row


def _table_rows(path):
    import pyarrow as pa

    from amuro_jax import parquet

    storage, name = Storage.of_file(path)
    if path.endswith(".json"):
        rows = storage.read_json(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError("expected a list of objects", where=path)
        yield from rows
        return
    try:
        if path.endswith(".parquet"):
            with storage.stream(name) as stream:
                for batch in parquet.batches(stream):
                    yield from batch.to_pylist()
            return
        content = pa.py_buffer(storage.read_bytes(name))
        try:
            table = pa.ipc.open_file(content).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_stream(content).read_all()
        yield from table.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"cannot be read: {error}", where=path) from error


def rows_by_number(task: Task, split: Split) -> Sequence[tuple[str, dict]]:
    """`raw_rows` without all of them in memory, where the file's form allows: local JSONL, Parquet
    and Arrow.
    """
    local = split.path is not None and Storage.of_file(split.path)[0].local
    if not local or task.source.order_seed is not None or split.path.endswith(".json"):
        return raw_rows(task, split)
    if split.path.endswith(".jsonl"):
        return JsonlRows(split.path)
    return TableRows(split.path, _table(split.path))


def _table(path):
    """The Arrow table of a local file; one in Arrow's own form stays on the disk."""
    import pyarrow as pa

    from amuro_jax import parquet

    try:
        if path.endswith(".parquet"):
            return parquet.read(path)
        mapped = pa.memory_map(path)
        try:
            return pa.ipc.open_file(mapped).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_stream(mapped).read_all()
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
            files = {split: f"{config or 'default'}/*{split}/*.parquet"}
            return hub_cache.load(name, data_files=files, revision=PARQUET_BRANCH, split=split)
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
    examples = _examples(task, raw_rows(task, split))
    if not examples:
        raise DataError(f"{task.name} has no rows", where=split.path or task.source.hub)
    return examples


def _examples(task, rows):
    return [example(task, where, row, index) for index, (where, row) in enumerate(rows)]


def example(task: Task, where: str, row: dict, index: int) -> Example:
    """The validated example of a native row.

    Args:
        task: under its protocol.

    Raises:
        DataError: as `load_examples`.
    """
    missing = [
        column for column in task.columns if not any(name in row for name in column.split("|"))
    ]
    if missing:
        raise DataError(
            f"column {missing[0]!r} is missing; the row has {sorted(row)}",
            where=where,
            hint=f"{task.name} needs {list(task.columns)}",
        )
    try:
        return getattr(readers, task.reader)(task, row, index)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{task.name}: {error}", where=where) from error


def check(
    task: Task, protocol: Protocol, data_root: str, *, train: bool = False, shots: int = 0
) -> list[Problem]:
    """What a run would meet in a set's rows: a folder, split, column or label that is not there or
    not of the right form, by the first rows of each file; and what it would download.

    Args:
        train: the set is fine-tuned on; else it is scored, after `shots` shots.
    """
    task = task.under(protocol)
    if train and not task.source.train:
        return [Problem(True, f"{task.name} has no training split", task.name)]
    problems = []
    for owner, splits in _needed(task, protocol, data_root, train, shots):
        try:
            split = find_split(owner, splits, data_root)
            if split.path is None:
                source = " ".join(filter(None, (owner.source.hub, owner.source.config)))
                what = f"downloads {source}, split {split.name}, unless it is cached"
                problems.append(Problem(False, what, owner.name))
                continue
            rows = itertools.islice(_file_rows(split.path), CHECKED_ROWS)
            if not _examples(owner, rows):
                problems.append(Problem(True, f"{owner.name} has no rows", split.path))
        except AmuroError as error:
            problems.append(Problem(True, error.what, str(error.where), error.hint or ""))
    return problems


def _needed(task, protocol, data_root, train, shots):
    """(task, splits) whose rows a run reads."""
    if train:
        return [(task, (task.source.train,))]
    needed = [(task, task.source.test)]
    of_test = protocol.shots_from_test and task.kind != Kind.MULTIPLE_CHOICE
    if shots and not of_test:
        owner = get_task(task.source.shots_from) if task.source.shots_from else task
        owner, split = owner.under(protocol), owner.source.train
        # Without a training split under `data_root` the shots are rows of the scored split.
        if split and (not data_root or split_path(owner, split, data_root)):
            needed.append((owner, (split,)))
    return needed


def dataset_checksum(task: Task, split: Split) -> str:
    """SHA-256 of a local file; of the rows' canonical JSON for the Hub."""
    if split.path is not None:
        return _file_hash(split.path, _version(split.path))
    return files.content_key([row for _, row in raw_rows(task, split)], length=64)


@functools.lru_cache(maxsize=256)
def _file_hash(path, _changed):
    return files.sha256_file(path)
