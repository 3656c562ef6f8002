"""The operations of every storage, and what the two kinds of storage share."""

import abc
import contextlib
import json
import os
import re
import time
import typing
from collections.abc import Mapping
from pathlib import Path

from amuro_jax.claims import RENEW_SECONDS, STALE_SECONDS, Claim
from amuro_jax.errors import AmuroError

# Two letters at least, so that a Windows drive is no scheme.
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
# What `pathlib.Path("gs://bucket/x")` makes of a URL: it would become a local folder `gs:`.
_BROKEN_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")


class Storage(abc.ABC):
    """A folder of files, on a disk or in an object store. Names are relative, with `/` between
    their parts.

    Every fault is an `AmuroError` that names the URL.
    """

    def __init__(self, url: str):
        self.url = url

    @staticmethod
    def open(url: "str | os.PathLike | Storage") -> "Storage":
        """The storage at a local path (`~` is expanded), `file://…` or any URL that fsspec opens.

        Nothing is created before the first write.

        Raises:
            AmuroError: an empty or broken URL, an unknown scheme, or a missing package.
        """
        if isinstance(url, Storage):
            return url
        text = os.fspath(url)
        if not text:
            raise AmuroError("an empty path", hint="give a folder or a URL such as gs://bucket/x")
        if broken := _BROKEN_URL.match(text):
            raise AmuroError(
                f"the URL has lost a slash: {broken[1]}:/ instead of {broken[1]}://",
                where=text,
                hint="pass URLs as text, not as pathlib.Path",
            )
        from amuro_jax.storage.local import LocalStorage
        from amuro_jax.storage.objects import ObjectStorage

        if not _URL.match(text):
            return LocalStorage(text)
        if text.startswith("file://"):
            return LocalStorage(text.removeprefix("file://"))
        return ObjectStorage(text)

    @staticmethod
    def of_file(path: "str | os.PathLike") -> "tuple[Storage, str]":
        """The storage of a file's folder, and the file's name in it."""
        folder, _, name = os.fspath(path).rpartition("/")
        return Storage.open(folder or ("/" if os.fspath(path).startswith("/") else ".")), name

    @abc.abstractmethod
    def child(self, *names: str) -> "Storage":
        """The storage of a folder within this one."""

    @property
    @abc.abstractmethod
    def local(self) -> Path | None:
        """The folder's path on this machine's disk; None in an object store."""

    def epath(self):
        """The folder as an `etils.epath.Path`, for orbax and other packages that take one.

        Raises:
            AmuroError: an object store that epath does not open.
        """
        from etils import epath

        try:
            return epath.Path(self.url)
        except KeyError as error:  # what it raises for a scheme that it does not know
            raise AmuroError(
                f"model parameters cannot be stored at {error.args[0]}",
                where=self.url,
                hint="give a local folder, or a URL with gs:// or s3://",
            ) from error

    @abc.abstractmethod
    def get(self, name: str) -> bytes | None:
        """The content of a file; None where there is none.

        Raises:
            AmuroError: it cannot be read.
        """

    @abc.abstractmethod
    def stream(self, name: str) -> typing.BinaryIO:
        """A file opened for reading bytes, for what is too large for `read_bytes`.

        Raises:
            AmuroError: there is no such file, or it cannot be read.
        """

    @abc.abstractmethod
    def _put(self, path, name):
        """Copies a local file."""

    @abc.abstractmethod
    def listing(self, prefix: str = "") -> dict[str, tuple[int, str]]:
        """Size in bytes and version of every file beneath the folder `prefix`, by its name in this
        storage. The version (time of change, generation, …) is another one once a file is written
        anew.

        In the order of names; empty where there is no such folder.
        """

    def units(self, prefix: str, names: tuple[str, ...]) -> dict[str, list[tuple[int, str] | None]]:
        """Per folder in the folder `prefix`: size and version of its files of these names, None for
        one that is not there. A `listing` of units that is fast for many of them.
        """
        units = {}
        for path, info in self.listing(prefix).items():
            unit, _, name = path[len(prefix) + 1 if prefix else 0 :].partition("/")
            if name in names:
                units.setdefault(unit, [None] * len(names))[names.index(name)] = info
        return units

    @abc.abstractmethod
    def size(self, name: str) -> int | None:
        """Size of a file in bytes; None where there is none."""

    @abc.abstractmethod
    def modified(self, name: str) -> float | None:
        """When a file was written, by the storage's clock, in seconds since 1970; None where the
        storage does not tell.

        Raises:
            AmuroError: there is no such file, or it cannot be looked at.
        """

    @abc.abstractmethod
    def write_once(self, name: str, data: bytes | str) -> bool:
        """Creates a file, unless one of that name is there already: then False, and nothing is
        changed.

        Of several writers at the same time one gets True. An fsspec file system that cannot create
        exclusively (GCS, S3, Azure and memory can) leaves a gap between the look and the write.
        """

    @abc.abstractmethod
    def replace(self, name: str, data: bytes | str) -> None:
        """Writes a file atomically, replacing one of that name."""

    @abc.abstractmethod
    def append(self, name: str, *records: dict) -> None:
        """Adds a JSON line per record to a log. A record without `time` gets the time of the call
        (seconds since the epoch).
        """

    @abc.abstractmethod
    def read_log(self, name: str) -> list[dict]:
        """The records of a log, in the order of time; what a kill cut off is left out."""

    @abc.abstractmethod
    def rewrite_log(self, name: str, records: list[dict]) -> None:
        """Replaces a log by one of these records; no other process may be writing it."""

    @abc.abstractmethod
    def delete(self, name: str = "") -> None:
        """Removes a file, or a folder with all that is in it; nothing happens where there is none.

        In an object store the files go one after another: delete a unit's marker first.
        """

    def read_bytes(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            AmuroError: there is no such file, or it cannot be read.
        """
        data = self.get(name)
        if data is None:
            raise AmuroError("no such file", where=self.where(name))
        return data

    def read_text(self, name: str) -> str:
        """The content of a UTF-8 file."""
        try:
            return self.read_bytes(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise AmuroError(f"not UTF-8: {error}", where=self.where(name)) from error

    def read_json(self, name: str):
        """The JSON value in a file.

        Raises:
            AmuroError: a missing file, or not JSON (with line and column).
        """
        try:
            return json.loads(self.read_text(name))
        except json.JSONDecodeError as error:
            raise AmuroError(f"not valid JSON: {error}", where=self.where(name)) from error

    def write_json(self, name: str, value) -> None:
        """`replace` with indented JSON, keys in the order of insertion."""
        self.replace(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def get_many(self, names: list[str]) -> dict[str, bytes | None]:
        """`get` for many files, which an object store answers side by side."""
        return {name: self.get(name) for name in names}

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name (folders are not there by themselves)."""
        return self.size(name) is not None

    def names(self, prefix: str = "") -> list[str]:
        """Names in this storage of all files beneath the folder `prefix`, sorted."""
        return list(self.listing(prefix))

    def commit(
        self,
        files: Mapping[str, bytes | str],
        marker: str,
        claim: Claim | None = None,
    ) -> None:
        """Writes a unit of several files whose name `marker` among them is written last: without
        its marker the unit is absent.

        An earlier unit loses its marker first, so that no reader takes old and new for one unit.
        With a `claim`, it is checked before the first file and before the marker.

        Raises:
            AmuroError: the claim is lost, or the files cannot be written.
        """
        if claim is not None:
            claim.check()
        self.delete(marker)
        for name, data in files.items():
            if name != marker:
                self.replace(name, data)
        if claim is not None:
            claim.check()
        self.replace(marker, files[marker])

    def upload(self, folder: str | os.PathLike, prefix: str = "") -> None:
        """Copies all files of a local folder to beneath `prefix`: those in folders first, then
        those at its top by name, so that the last of these can be the unit's marker.
        """
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        names = [path.relative_to(folder).as_posix() for path in paths]
        for name in sorted(names, key=lambda name: ("/" not in name, name)):
            self._put(Path(folder, name), f"{prefix}/{name}" if prefix else name)

    def claim(
        self,
        name: str = "claim",
        *,
        renew_seconds: float = RENEW_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> Claim:
        """Claims `name` for this process: a context manager, released at its end.

        Raises:
            AmuroError: another living process holds it.
        """
        return Claim.take(self, name, renew_seconds=renew_seconds, stale_seconds=stale_seconds)

    def where(self, name: str = "") -> str:
        """URL of a file, for messages."""
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    def __truediv__(self, name: str) -> "Storage":
        return self.child(name)

    def __str__(self):
        return self.url

    def __repr__(self):
        return f"Storage({self.url!r})"

    def __eq__(self, other):
        return isinstance(other, Storage) and self.url == other.url

    def __hash__(self):
        return hash(self.url)

    def __reduce__(self):
        return Storage.open, (self.url,)

    def __fspath__(self):
        if self.local is None:
            raise AmuroError(
                "this needs a folder on a local disk", where=self.url, hint="give a local path"
            )
        return str(self.local)

    @contextlib.contextmanager
    def _faults(self, doing: str, name: str):
        """Turns whatever the file system raises into an AmuroError with the URL."""
        try:
            yield
        except AmuroError:
            raise
        except self._FOREIGN as error:
            if doing == "read" and isinstance(error, FileNotFoundError):
                raise AmuroError("no such file", where=self.where(name)) from error
            reason = str(error) or type(error).__name__
            raise AmuroError(
                f"cannot {doing}: {reason}", where=self.where(name), hint=self._HINT
            ) from error

    _FOREIGN: type[Exception] = OSError
    _HINT = "free some disk space, or choose another folder"


def checked_name(name) -> str:
    """A file's name, which must not lead out of its storage."""
    name = os.fspath(name)
    if name.startswith("/") or ".." in name.split("/"):
        raise AmuroError("a name must lie within its storage", where=name)
    return name


def as_bytes(data: bytes | str) -> bytes:
    """The bytes to write; text as UTF-8."""
    return data.encode("utf-8") if isinstance(data, str) else data


def log_lines(records) -> bytes:
    """A JSON line per record; one without `time` gets the time of the call."""
    now = round(time.time(), 3)
    return b"".join(
        json.dumps({"time": now, **record}, ensure_ascii=False).encode() + b"\n"
        for record in records
    )


def merged_log(parts) -> list[dict]:
    """The records of a log's segments, in order of time; a line that was cut off is left out."""
    records = []
    for line in b"".join(parts).splitlines():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return sorted(records, key=lambda record: record.get("time", 0.0))
