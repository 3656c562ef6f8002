"""A folder on a disk as a storage."""

import contextlib
import os
import shutil
import typing
from pathlib import Path

from amuro_jax.storage.interface import Storage, as_bytes, checked_name, log_lines, merged_log

SCRATCH = ".tmp-"  # part of the names of files that are being written


class LocalStorage(Storage):
    """A folder on a disk. Files appear by `os.replace` or a hard link, logs grow by appending."""

    def __init__(self, path: str):
        super().__init__(os.path.expanduser(path))

    def child(self, *names: str) -> "LocalStorage":
        """The storage of a folder within this one."""
        return LocalStorage(os.path.join(self.url, *map(checked_name, names)))

    @property
    def local(self) -> Path:
        """The folder's path."""
        return Path(self.url)

    def get(self, name: str) -> bytes | None:
        """See `Storage`."""
        with self._faults("read", name):
            try:
                with open(self._at(name), "rb") as stream:
                    return stream.read()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def stream(self, name: str) -> typing.BinaryIO:
        """See `Storage`."""
        with self._faults("read", name):
            return open(self._at(name), "rb")

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
            root = self._at(prefix)
            units = {unit: [_about(f"{root}/{unit}/{name}") for name in names] for unit in folders}
        return {unit: files for unit, files in units.items() if any(files)}

    def size(self, name: str) -> int | None:
        """See `Storage`."""
        path = self._at(name)
        with self._faults("look at", name):
            return os.path.getsize(path) if os.path.isfile(path) else None

    def modified(self, name: str) -> float:
        """See `Storage`."""
        with self._faults("look at", name):
            return os.path.getmtime(self._at(name))

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
            finally:
                os.unlink(scratch)

    def _create(self, name, data):
        try:
            with open(self._at(name), "xb") as stream:
                stream.write(as_bytes(data))
            return True
        except FileExistsError:
            return False

    def replace(self, name: str, data: bytes | str) -> None:
        """See `Storage`."""
        with self._scratch(name, data) as scratch:
            os.replace(scratch, self._at(name))

    @contextlib.contextmanager
    def _scratch(self, name, data):
        # Text, not `pathlib`, and no call that mostly finds nothing to do: a merge of 100,000 small
        # cells is made of this.
        folder, _, last = self._at(name).rpartition(os.sep)
        scratch = f"{folder}{os.sep}.{last}{SCRATCH}{os.urandom(4).hex()}"
        with self._faults("write", name):
            try:
                _write(scratch, as_bytes(data))
                yield scratch
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(scratch)
                raise

    def append(self, name: str, *records: dict) -> None:
        """See `Storage`."""
        path = self._at(name)
        with self._faults("write", name):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # One write of an unbuffered file: lines of several processes do not mix.
            with open(path, "a+b", buffering=0) as stream:
                cut = stream.tell() and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
                stream.write((b"\n" if cut else b"") + log_lines(records))

    def read_log(self, name: str) -> list[dict]:
        """See `Storage`."""
        return merged_log([self.read_bytes(name)]) if self.exists(name) else []

    def rewrite_log(self, name: str, records: list[dict]) -> None:
        """See `Storage`."""
        self.replace(name, log_lines(records))

    def delete(self, name: str = "") -> None:
        """See `Storage`."""
        path = self._at(name)
        with self._faults("delete", name):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return
            except OSError:  # which one a folder gives differs between systems
                if not os.path.isdir(path):
                    raise
                shutil.rmtree(path)

    def _at(self, name):
        return os.path.join(self.url, checked_name(name)) if name else self.url


def _write(path, data):
    try:
        stream = open(path, "wb")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        stream = open(path, "wb")
    with stream:
        stream.write(data)


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
        elif not (name.startswith(".") and SCRATCH in name):
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
