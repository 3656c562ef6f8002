"""A file system that is an object store in what it cannot do: no rename, no append, no folders.

It stands in for GCS in tests, under the scheme `objects://`.
"""

import threading

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

SCHEME = "objects"


class WholeObjects:
    """What an fsspec file system loses as an object store: appending and renaming fail, as they
    do in a bucket.
    """

    def _open(self, path, mode="rb", **kwargs):
        if "a" in mode or "+" in mode:
            raise NotImplementedError("an object store does not append")
        return super()._open(path, mode=mode, **kwargs)

    def mv(self, *_, **__):
        """An object store does not rename."""
        raise NotImplementedError("an object store does not rename")

    rename = move = mv_file = mv


class ObjectFileSystem(WholeObjects, MemoryFileSystem):
    """Memory, whole objects only; creating exclusively is atomic, as in GCS and S3."""

    protocol = SCHEME
    store, pseudo_dirs = {}, [""]
    _lock = threading.RLock()  # memory's own files share one position among all readers

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix(f"{SCHEME}://"))

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        """Puts an object."""
        with self._lock:
            super().pipe_file(path, value, mode=mode)

    def cat_file(self, path, start=None, end=None, **kwargs):
        """Gets an object."""
        with self._lock:
            return super().cat_file(path, start=start, end=end)

    def info(self, path, **kwargs):
        """Size of an object (memory's own looks at every object for one)."""
        key = self._strip_protocol(path)
        if key in self.store:
            return {"name": key, "size": self.store[key].size, "type": "file"}
        return super().info(path)


def register() -> None:
    """Makes fsspec know the scheme."""
    fsspec.register_implementation(SCHEME, ObjectFileSystem, clobber=True)
