"""Files that are complete or absent: atomic writes, JSON and JSONL with the line in every error,
content keys.

Paths may be local or remote (gs://…): everything goes through `storage.py`.
"""

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator

from etils import epath

from amuro_jax.errors import AmuroError, DataError
from amuro_jax.storage import Storage


def write_bytes(path, data: bytes) -> None:
    """Writes `data` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        AmuroError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    storage, name = Storage.of_file(path)
    storage.replace(name, data)


def write_text(path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path, value) -> None:
    """Writes `value` as indented JSON, keys in insertion order, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_text(path) -> str:
    """The UTF-8 text in `path`.

    Raises:
        AmuroError: missing file, or not UTF-8.
    """
    storage, name = Storage.of_file(path)
    return storage.read_text(name)


def read_json(path):
    """The JSON value in `path`.

    Raises:
        AmuroError: missing file, or not JSON (with line and column).
    """
    storage, name = Storage.of_file(path)
    return storage.read_json(name)


def read_jsonl(path) -> Iterator[tuple[int, dict]]:
    """Yields (line number from 1, object) for each non-blank line of a JSONL file.

    Raises:
        DataError: a line that is not a JSON object, named as `file:line`.
    """
    storage, file = Storage.of_file(path)
    if not storage.exists(file):
        raise DataError("no such file", where=path)
    with io.TextIOWrapper(storage.stream(file), encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, json_object(line, f"{path}:{number}")


def json_object(line: str, where: str) -> dict:
    """The object that a line of a JSONL file holds.

    Raises:
        DataError: it holds none.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg} at column {error.colno}", where=where) from error
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object, got {type(row).__name__}", where=where)
    return row


@contextlib.contextmanager
def atomic_folder(path):
    """Yields a scratch folder; it becomes `path` when the block ends well, and is removed when not.

    An existing `path` is replaced. On a disk readers never see a half-written folder. For an object
    store the scratch folder is a local one that is uploaded; the last file at its top, by name, is
    written last, so that readers must ask for that one.
    """
    storage = Storage.open(path)
    making = _local_scratch if storage.local is not None else _uploaded_scratch
    try:
        with making(storage) as scratch:
            yield epath.Path(scratch)
    except OSError as error:
        raise AmuroError(
            f"cannot write: {error}",
            where=path,
            hint="free some disk space or choose another folder",
        ) from error


@contextlib.contextmanager
def _local_scratch(storage):
    path = storage.local
    scratch = path.parent / f".{path.name}.tmp-{uuid.uuid4().hex[:8]}"
    try:
        scratch.mkdir(parents=True)
        yield scratch
        if path.exists():
            old = path.parent / f".{path.name}.tmp-old-{uuid.uuid4().hex[:8]}"
            path.rename(old)
            scratch.rename(path)
            shutil.rmtree(old)
        else:
            scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _uploaded_scratch(storage):
    with tempfile.TemporaryDirectory() as scratch:
        yield scratch
        for name in sorted(storage.names(), key=lambda name: ("/" in name, name)):
            storage.delete(name)
        storage.upload(scratch)


def sha256_file(path, chunk: int = 1 << 22) -> str:
    """Hex SHA-256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    storage, name = Storage.of_file(path)
    with storage.stream(name) as stream:
        while block := stream.read(chunk):
            digest.update(block)
    return digest.hexdigest()


def content_key(value, length: int = 16) -> str:
    """A key that depends on the content of a JSON-able value alone, not on its fields' order."""
    canonical = json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:length]
