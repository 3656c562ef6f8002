"""A prefix of an object store as a storage, through fsspec."""

import contextlib
import logging
import os
import time
import typing
import uuid

from amuro_jax.errors import AmuroError
from amuro_jax.storage.interface import Storage, as_bytes, checked_name, log_lines, merged_log

# A log's open segment is rewritten at each append, so it stays small.
SEGMENT_LINES = 500


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
        return ObjectStorage("/".join([self.url, *map(checked_name, names)]))

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

    def modified(self, name: str) -> float | None:
        """See `Storage`."""
        with self._faults("look at", name):
            try:
                return self._fresh().modified(self._at(name)).timestamp()
            except NotImplementedError:
                return None

    def write_once(self, name: str, data: bytes | str) -> bool:
        """See `Storage`."""
        with self._faults("write", name):
            if self.exists(name):
                return False
            try:
                self._fresh().pipe_file(self._at(name), as_bytes(data), mode="create")
            except FileExistsError:
                return False
            # Where two could create at the same time, the last one's data is there.
            return self._fresh().cat_file(self._at(name)) == as_bytes(data)

    def replace(self, name: str, data: bytes | str) -> None:
        """See `Storage`."""
        with self._faults("write", name):
            self._fresh().pipe_file(self._at(name), as_bytes(data))

    def append(self, name: str, *records: dict) -> None:
        """See `Storage`. The open segment is written anew at each call: stores allow about one such
        write a second, so that who writes more often passes several records at once.
        """
        who = (name, os.getpid())  # a forked process must not write its parent's segment
        at, lines = self._segments.get(who, ("", b""))
        if not at or lines.count(b"\n") >= SEGMENT_LINES:
            at, lines = f"{name}/{time.time_ns()}-{uuid.uuid4().hex[:12]}.jsonl", b""
        lines += log_lines(records)
        self.replace(at, lines)
        self._segments[who] = (at, lines)

    def read_log(self, name: str) -> list[dict]:
        """See `Storage`."""
        return merged_log(map(self.read_bytes, self.names(name)))

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
        return f"{self._root}/{checked_name(name).rstrip('/')}" if name else self._root


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
    # What it raises is told once, by us: gcsfs also logs it, with a screen of its own calls.
    logging.getLogger(type(fs).__module__.partition(".")[0]).setLevel(logging.CRITICAL)
    return fs, root.rstrip("/")


def _version(info):
    """What tells an object from the one that was there before: the names are those of GCS, S3,
    Azure and memory.
    """
    for name in ("generation", "ETag", "etag", "updated", "last_modified", "mtime", "created"):
        if info.get(name):
            return str(info[name])
    return ""
