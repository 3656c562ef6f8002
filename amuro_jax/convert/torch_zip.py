"""Torch's zip checkpoints (`.bin`, `.pt`) without torch: the archive's stored entries are read in
place.
"""

import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from amuro_jax.convert import pickles
from amuro_jax.convert.bounds import MAX_DIRECTORY, MAX_PICKLE, short
from amuro_jax.convert.tensors import BFLOAT16, StoredTensor, dense_strides
from amuro_jax.errors import CheckpointError

# pickled magic number that torch wrote before version 1.6
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"


class _BoundedReads:
    """A file of which one read takes a bounded number of bytes: zipfile reads the whole central
    directory of an archive in one, whatever size the archive states.
    """

    def __init__(self, stream, path):
        self._stream, self._path = stream, path
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size=-1):
        data = self._stream.read(min(size, MAX_DIRECTORY + 1) if size >= 0 else MAX_DIRECTORY + 1)
        if len(data) > MAX_DIRECTORY:
            raise CheckpointError(
                f"the zip's directory has more than {MAX_DIRECTORY} bytes", where=self._path
            )
        return data


def read_table(path) -> dict[str, StoredTensor]:
    """Table of the tensors of one file saved by `torch.save(state_dict)`; nothing is executed.

    Raises:
        CheckpointError: legacy or damaged file, a global outside the allow-list (named), a view
            outside its storage.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            _check_magic(path, stream.read(len(_LEGACY)))
            with zipfile.ZipFile(_BoundedReads(stream, path)) as archive:
                entries = {info.filename: info for info in archive.infolist()}
            prefix = _prefix(path, entries)
            if f"{prefix}/byteorder" in entries:
                order = _read_entry(path, stream, entries, f"{prefix}/byteorder", limit=16)
                if order != b"little":
                    raise CheckpointError(
                        f"byte order {order!r}; only little-endian files are read", where=path
                    )
            data = _read_entry(path, stream, entries, f"{prefix}/data.pkl", limit=MAX_PICKLE)
            return _table(path, stream, pickles.load(data, where=path), entries, prefix)
    except (
        zipfile.BadZipFile,
        struct.error,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
    ) as error:
        raise CheckpointError(
            f"damaged zip archive: {str(error)[:300]}", where=path, hint="download it again"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}", where=path) from error


def _check_magic(path, head):
    if head.startswith(_LEGACY):
        hint = "load it once with torch >= 1.6 in a sandbox and save it again with torch.save"
        raise CheckpointError(
            "saved in torch's legacy (non-zip) format, which cannot be read without running it",
            where=path,
            hint=hint,
        )
    if not head.startswith(b"PK\x03\x04"):
        raise CheckpointError(
            "not a torch checkpoint: it does not begin as a zip archive",
            where=path,
            hint="truncated, or a Git LFS pointer?",
        )


def _prefix(path, entries):
    candidates = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(candidates) != 1:
        raise CheckpointError(
            f"not a torch checkpoint: {len(candidates)} entries named data.pkl", where=path
        )
    return candidates[0].split("/")[0]


def _read_entry(path, stream, entries, name, *, limit):
    """Bytes of a small stored entry, its CRC checked; nothing is ever inflated."""
    start, size = _place(path, stream, entries, name)
    if size > limit:
        raise CheckpointError(
            f"entry {name} has {size} bytes, torch.save writes at most {limit}", where=path
        )
    stream.seek(start)
    data = stream.read(size)
    if zlib.crc32(data) != entries[name].CRC:
        raise CheckpointError(
            f"entry {name} differs from its checksum", where=path, hint="download it again"
        )
    return data


def _table(path, stream, state, entries, prefix):
    if not isinstance(state, dict):
        raise CheckpointError(f"holds a {type(state).__name__}, not a state dict", where=path)
    tensors, spans = {}, {}
    for name, view in state.items():
        if not isinstance(name, str) or not isinstance(view, pickles.View):
            hint = "only plain state dicts are read; a training state must be split first"
            raise CheckpointError(
                f"entry {short(name)} is a {type(view).__name__}, not a tensor",
                where=path,
                hint=hint,
            )
        entry = f"{prefix}/data/{view.storage.key}"
        if entry not in spans:
            spans[entry] = _place(path, stream, entries, entry)
        tensors[name] = _tensor(path, name, view, *spans[entry])
    return tensors


def _place(path, stream, entries, name):
    """First byte and size of a stored entry; the local header says how long it is itself."""
    if name not in entries:
        raise CheckpointError(f"the archive has no entry {name[:200]}", where=path)
    info = entries[name]
    if info.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f"entry {name} is compressed; torch.save never does that", where=path)
    stream.seek(info.header_offset)
    header = stream.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise CheckpointError(
            f"entry {name} has no header at byte {info.header_offset}", where=path
        )
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    start = info.header_offset + 30 + name_length + extra_length
    if start + info.file_size > path.stat().st_size:
        raise CheckpointError(
            f"truncated: entry {name} ends at byte {start + info.file_size}, the file at "
            f"{path.stat().st_size}",
            where=path,
        )
    return start, info.file_size


def _tensor(path, name, view, start, size):
    dtype = BFLOAT16 if view.storage.dtype == "bfloat16" else np.dtype(view.storage.dtype)
    if size != view.storage.count * dtype.itemsize:
        what = (
            f"storage {short(view.storage.key)} has {size} bytes, {view.storage.count} × "
            f"{dtype.name} needs {view.storage.count * dtype.itemsize}"
        )
        raise CheckpointError(what, where=f"{path}: {name[:200]}")
    if len(view.shape) != len(view.strides):
        raise CheckpointError(
            f"shape {view.shape} with strides {view.strides}", where=f"{path}: {name[:200]}"
        )
    empty = 0 in view.shape
    last = view.offset + sum(
        (n - 1) * step for n, step in zip(view.shape, view.strides, strict=True)
    )
    if not empty and (last >= view.storage.count or math.prod(view.shape) > view.storage.count):
        what = (
            f"a view of shape {view.shape}, strides {view.strides}, offset {view.offset} in a "
            f"storage of {view.storage.count}"
        )
        raise CheckpointError(what, where=f"{path}: {name[:200]}")
    strides = None if empty or view.strides == dense_strides(view.shape) else view.strides
    return StoredTensor(
        name, view.shape, dtype, path, start + view.offset * dtype.itemsize, strides
    )
