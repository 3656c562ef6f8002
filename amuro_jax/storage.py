"""Where results are stored: a folder on a disk or a prefix in an object store (`gs://…`, any fsspec
URL), with the same operations.

Nothing is renamed and nothing is changed in place, because an object store can do neither:
- a file is written atomically (`replace`, `write_once`): a reader sees the old file or the new one;
- a unit of several files (`commit`) is there when its marker is, and the marker is written last;
- a log grows by lines (`append`): in a folder one file, in an object store one segment per writer,
  which `read_log` merges in the order of time;
- one process at a time works on something (`claim`, see `claims.py`).
"""

import abc
import contextlib
import json
import os
import re
import shutil
import time
import typing
import uuid
from collections.abc import Mapping
from pathlib import Path

from amuro_jax.claims import RENEW_SECONDS, STALE_SECONDS, Claim
from amuro_jax.errors import AmuroError

# Two letters at least, so that a Windows drive is no scheme.
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
# What `pathlib.Path("gs://bucket/x")` makes of a URL: it would become a local folder `gs:`.
_BROKEN_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
_SCRATCH = ".tmp-"  # part of the names of files that are being written
_SEGMENT_LINES = (
    500  # a log segment of an object store is rewritten at each append, so it stays small
)


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


class LocalStorage(Storage):
    """A folder on a disk. Files appear by `os.replace` or a hard link, logs grow by appending."""

    def __init__(self, path: str):
        super().__init__(os.path.expanduser(path))
        self._path = Path(self.url)

    def child(self, *names: str) -> "LocalStorage":
        """The storage of a folder within this one."""
        return LocalStorage(str(self._path.joinpath(*map(_checked, names))))

    @property
    def local(self) -> Path:
        """The folder's path."""
        return self._path

    def get(self, name: str) -> bytes | None:
        """See `Storage`."""
        with self._faults("read", name):
            try:
                return self._at(name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def stream(self, name: str) -> typing.BinaryIO:
        """See `Storage`."""
        with self._faults("read", name):
            return self._at(name).open("rb")

    def _put(self, path, name):
        with self._scratch(name, b"") as scratch:
            shutil.copyfile(path, scratch)
            os.replace(scratch, self._at(name))

    def listing(self, prefix: str = "") -> dict[str, tuple[int, str]]:
        """See `Storage`."""
        entries = {}
        with self._faults("list", prefix):
            _scan(self._at(prefix), f"{prefix.rstrip('/')}/" if prefix else "", entries)
        return dict(sorted(entries.items()))

    def units(self, prefix: str, names: tuple[str, ...]) -> dict[str, list[tuple[int, str] | None]]:
        """See `Storage`. Asking for each file takes a third of the time of listing each folder."""
        with self._faults("list", prefix):
            try:
                folders = os.listdir(self._at(prefix))
            except FileNotFoundError:
                return {}
            root = os.fspath(self._at(prefix))
            units = {unit: [_about(f"{root}/{unit}/{name}") for name in names] for unit in folders}
        return {unit: files for unit, files in units.items() if any(files)}

    def size(self, name: str) -> int | None:
        """See `Storage`."""
        path = self._at(name)
        with self._faults("look at", name):
            return path.stat().st_size if path.is_file() else None

    def write_once(self, name: str, data: bytes | str) -> bool:
        """See `Storage`."""
        with self._scratch(name, data) as scratch:
            try:
                os.link(scratch, self._at(name))  # fails where the name exists, on NFS too
                return True
            except FileExistsError:
                return False
            except OSError:  # without hard links a reader may see a part of it
                return self._create(name, data)

    def _create(self, name, data):
        try:
            with self._at(name).open("xb") as stream:
                stream.write(_encoded(data))
            return True
        except FileExistsError:
            return False

    def replace(self, name: str, data: bytes | str) -> None:
        """See `Storage`."""
        with self._scratch(name, data) as scratch:
            os.replace(scratch, self._at(name))

    @contextlib.contextmanager
    def _scratch(self, name, data):
        path = self._at(name)
        scratch = path.with_name(f".{path.name}{_SCRATCH}{uuid.uuid4().hex[:8]}")
        with self._faults("write", name):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                scratch.write_bytes(_encoded(data))
                yield scratch
            finally:
                scratch.unlink(missing_ok=True)

    def append(self, name: str, *records: dict) -> None:
        """See `Storage`."""
        path = self._at(name)
        with self._faults("write", name):
            path.parent.mkdir(parents=True, exist_ok=True)
            # One write of an unbuffered file: lines of several processes do not mix.
            with path.open("a+b", buffering=0) as stream:
                cut = stream.tell() and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
                stream.write((b"\n" if cut else b"") + _lines(records))

    def read_log(self, name: str) -> list[dict]:
        """See `Storage`."""
        return _in_order([self.read_bytes(name)]) if self.exists(name) else []

    def rewrite_log(self, name: str, records: list[dict]) -> None:
        """See `Storage`."""
        self.replace(name, _lines(records))

    def delete(self, name: str = "") -> None:
        """See `Storage`."""
        path = self._at(name)
        with self._faults("delete", name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _at(self, name):
        return self._path / _checked(name) if name else self._path


class ObjectStorage(Storage):
    """A prefix of an object store, through fsspec: files are put atomically and never renamed."""

    _FOREIGN = Exception  # each file system has its own: HTTP, credentials, time limits
    _HINT = "check the address, the network and the credentials"

    def __init__(self, url: str):
        super().__init__(url.rstrip("/"))
        self._fs, self._root = _file_system(self.url)
        self._segments = {}  # by log and process: the open segment's name and lines

    def child(self, *names: str) -> "ObjectStorage":
        """The storage of a folder within this one."""
        return ObjectStorage("/".join([self.url, *map(_checked, names)]))

    @property
    def local(self) -> None:
        """None: it is not on this machine's disk."""
        return None

    def get(self, name: str) -> bytes | None:
        """See `Storage`."""
        with self._faults("read", name):
            try:
                return self._fresh().cat_file(self._at(name))
            except FileNotFoundError:
                return None

    def stream(self, name: str) -> typing.BinaryIO:
        """See `Storage`."""
        with self._faults("read", name):
            return self._fresh().open(self._at(name), "rb")

    def _put(self, path, name):
        with self._faults("write", name):
            self._fresh().put_file(str(path), self._at(name))

    def get_many(self, names: list[str]) -> dict[str, bytes | None]:
        """See `Storage`."""
        contents = {}
        with self._faults("read", names[0] if names else ""):
            paths = [self._at(name) for name in names]
            answers = self._fresh().cat(paths, on_error="return") if paths else {}
            for name, path in zip(names, paths, strict=True):
                answer = answers[path]
                if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                    raise answer
                contents[name] = None if isinstance(answer, Exception) else answer
        return contents

    def listing(self, prefix: str = "") -> dict[str, tuple[int, str]]:
        """See `Storage`."""
        with self._faults("list", prefix):
            try:
                objects = self._fresh().find(self._at(prefix), detail=True)
            except FileNotFoundError:
                return {}
        start = len(self._root) + 1
        # Some stores keep empty objects `x/` to show folders.
        return {
            path[start:]: (objects[path]["size"], _version(objects[path]))
            for path in sorted(objects)
            if path[-1] != "/"
        }

    def size(self, name: str) -> int | None:
        """See `Storage`."""
        with self._faults("look at", name):
            try:
                info = self._fresh().info(self._at(name))
            except FileNotFoundError:
                return None
        return info["size"] if info["type"] == "file" else None

    def write_once(self, name: str, data: bytes | str) -> bool:
        """See `Storage`."""
        with self._faults("write", name):
            if self.exists(name):
                return False
            try:
                self._fresh().pipe_file(self._at(name), _encoded(data), mode="create")
            except FileExistsError:
                return False
            # Where two could create at the same time, the last one's data is there.
            return self._fresh().cat_file(self._at(name)) == _encoded(data)

    def replace(self, name: str, data: bytes | str) -> None:
        """See `Storage`."""
        with self._faults("write", name):
            self._fresh().pipe_file(self._at(name), _encoded(data))

    def append(self, name: str, *records: dict) -> None:
        """See `Storage`. The open segment is written anew at each call: stores allow about one such
        write a second, so that who writes more often passes several records at once.
        """
        who = (name, os.getpid())  # a forked process must not write its parent's segment
        at, lines = self._segments.get(who, ("", b""))
        if not at or lines.count(b"\n") >= _SEGMENT_LINES:
            at, lines = f"{name}/{time.time_ns()}-{uuid.uuid4().hex[:12]}.jsonl", b""
        lines += _lines(records)
        self.replace(at, lines)
        self._segments[who] = (at, lines)

    def read_log(self, name: str) -> list[dict]:
        """See `Storage`."""
        return _in_order(map(self.read_bytes, self.names(name)))

    def rewrite_log(self, name: str, records: list[dict]) -> None:
        """See `Storage`."""
        before = self.names(name)
        self._segments.pop((name, os.getpid()), None)
        if records:
            self.append(name, *records)
        for segment in before:
            self.delete(segment)

    def delete(self, name: str = "") -> None:
        """See `Storage`."""
        with self._faults("delete", name):
            for path in self._fresh().find(self._at(name)):
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(path)

    def _fresh(self):
        # Listings that fsspec keeps would hide what other processes have written.
        self._fs.invalidate_cache()
        return self._fs

    def _at(self, name):
        return f"{self._root}/{_checked(name).rstrip('/')}" if name else self._root


def _file_system(url):
    import fsspec  # not needed on a local disk

    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise AmuroError(
            f"a package for this URL is missing: {error}",
            where=url,
            hint="pip install 'amuro_jax[gcs]' for gs://, or the fsspec package of the scheme",
        ) from error
    except ValueError as error:
        raise AmuroError(f"not a URL that fsspec opens: {error}", where=url) from error
    return fs, root.rstrip("/")


def _checked(name):
    name = os.fspath(name)
    if name.startswith("/") or ".." in name.split("/"):
        raise AmuroError("a name must lie within its storage", where=name)
    return name


def _scan(folder, prefix, listing):
    """Sizes and times of change of the files beneath a folder; scratch files and what is deleted
    meanwhile are left out.
    """
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        name = entry.name
        if entry.is_dir():
            _scan(entry.path, f"{prefix}{name}/", listing)
        elif not (name.startswith(".") and _SCRATCH in name):
            info = _about(entry.path)
            if info is not None:
                listing[prefix + name] = info


def _about(path):
    """Size and version of a file on a disk; None where there is none. The inode distinguishes
    files that were written within one tick of the clock.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, f"{status.st_mtime_ns}-{status.st_ino}"


def _version(info):
    """What tells an object from the one that was there before: the names are those of GCS, S3,
    Azure and memory.
    """
    for name in ("generation", "ETag", "etag", "updated", "last_modified", "mtime", "created"):
        if info.get(name):
            return str(info[name])
    return ""


def _encoded(data):
    return data.encode("utf-8") if isinstance(data, str) else data


def _lines(records):
    now = round(time.time(), 3)
    return b"".join(
        json.dumps({"time": now, **record}, ensure_ascii=False).encode() + b"\n"
        for record in records
    )


def _in_order(parts):
    records = []
    for line in b"".join(parts).splitlines():
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return sorted(records, key=lambda record: record.get("time", 0.0))
