"""Torch's zip checkpoints (`.bin`, `.pt`) without torch: the archive's stored entries are read in
place.
"""

import math
import struct
import zipfile
from pathlib import Path

import numpy as np

from amuro_jax.convert import pickles
from amuro_jax.convert.tensors import BFLOAT16, StoredTensor, dense_strides
from amuro_jax.errors import CheckpointError

# pickled magic number that torch wrote before version 1.6
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_PICKLE_LIMIT = 256 << 20  # bytes; a state dict's pickle has some hundred bytes per tensor


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
            with zipfile.ZipFile(stream) as archive:
                entries = {info.filename: info for info in archive.infolist()}
                prefix = _prefix(path, entries)
                _check_byte_order(path, archive, entries, prefix)
                state = pickles.load(
                    _read_pickle(path, archive, entries[f"{prefix}/data.pkl"]), where=path
                )
                return _table(path, stream, state, entries, prefix)
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
            f"damaged zip archive: {error}", where=path, hint="download it again"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}", where=path) from error


def _check_magic(path, head):
    if head.startswith(_LEGACY):
        hint = "load it once with torch >= 1.6 in a safe place and save it again with torch.save"
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
    found = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise CheckpointError(
            f"not a torch checkpoint: {len(found)} entries named data.pkl", where=path
        )
    return found[0].split("/")[0]


def _check_byte_order(path, archive, entries, prefix):
    name = f"{prefix}/byteorder"
    if name in entries and (order := archive.read(name)[:16]) != b"little":
        raise CheckpointError(
            f"byte order {order!r}; only little-endian files are read", where=path
        )


def _read_pickle(path, archive, info):
    if info.file_size > _PICKLE_LIMIT or info.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(
            f"data.pkl of {info.file_size} bytes, compression {info.compress_type}: not written by torch.save",
            where=path,
        )
    return archive.read(info)


def _table(path, stream, state, entries, prefix):
    if not isinstance(state, dict):
        raise CheckpointError(f"holds a {type(state).__name__}, not a state dict", where=path)
    tensors, places = {}, {}
    for name, view in state.items():
        if not isinstance(name, str) or not isinstance(view, pickles.View):
            hint = "only plain state dicts are read; a training state must be split first"
            raise CheckpointError(
                f"entry {name!r} is a {type(view).__name__}, not a tensor", where=path, hint=hint
            )
        entry = f"{prefix}/data/{view.storage.key}"
        if entry not in places:
            places[entry] = _place(path, stream, entries, entry)
        tensors[name] = _tensor(path, name, view, *places[entry])
    return tensors


def _place(path, stream, entries, name):
    """First byte and size of a stored entry; the local header says how long it is itself."""
    if name not in entries:
        raise CheckpointError(f"the archive has no entry {name}", where=path)
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
            f"truncated: entry {name} ends at byte {start + info.file_size}, the file at {path.stat().st_size}",
            where=path,
        )
    return start, info.file_size


def _tensor(path, name, view, start, size):
    dtype = BFLOAT16 if view.storage.dtype == "bfloat16" else np.dtype(view.storage.dtype)
    if size != view.storage.count * dtype.itemsize:
        what = f"storage {view.storage.key} has {size} bytes, {view.storage.count} × {dtype.name} needs {view.storage.count * dtype.itemsize}"
        raise CheckpointError(what, where=f"{path}: {name}")
    if len(view.shape) != len(view.strides):
        raise CheckpointError(
            f"shape {view.shape} with strides {view.strides}", where=f"{path}: {name}"
        )
    empty = 0 in view.shape
    last = view.offset + sum(
        (n - 1) * step for n, step in zip(view.shape, view.strides, strict=True)
    )
    if not empty and (last >= view.storage.count or math.prod(view.shape) > view.storage.count):
        what = f"a view of shape {view.shape}, strides {view.strides}, offset {view.offset} in a storage of {view.storage.count}"
        raise CheckpointError(what, where=f"{path}: {name}")
    strides = None if empty or view.strides == dense_strides(view.shape) else view.strides
    return StoredTensor(
        name, view.shape, dtype, path, start + view.offset * dtype.itemsize, strides
    )
