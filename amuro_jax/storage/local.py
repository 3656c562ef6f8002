"""A folder on a disk as a storage."""

import contextlib
import os
import shutil
import typing
import uuid
from pathlib import Path

from amuro_jax.storage.interface import Storage, as_bytes, checked_name, log_lines, merged_log

SCRATCH = ".tmp-"  # part of the names of files that are being written


class LocalStorage(Storage):
    """A folder on a disk. Files appear by `os.replace` or a hard link, logs grow by appending."""

    def __init__(self, path: str):
        super().__init__(os.path.expanduser(path))
        self._path = Path(self.url)

    def child(self, *names: str) -> "LocalStorage":
        """The storage of a folder within this one."""
        return LocalStorage(str(self._path.joinpath(*map(checked_name, names))))

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

    def modified(self, name: str) -> float:
        """See `Storage`."""
        with self._faults("look at", name):
            return self._at(name).stat().st_mtime

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
        path = self._at(name)
        scratch = path.with_name(f".{path.name}{SCRATCH}{uuid.uuid4().hex[:8]}")
        with self._faults("write", name):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                scratch.write_bytes(as_bytes(data))
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
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _at(self, name):
        return self._path / checked_name(name) if name else self._path


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
