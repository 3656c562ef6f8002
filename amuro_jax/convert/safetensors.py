"""The safetensors container: strict reading of the header, streaming writing. The bytes of a tensor
are read by `tensors.read`.

Format: 8 bytes little-endian header length, a JSON object {name: {dtype, shape, data_offsets}},
then the data without gaps.
"""

import json
import math
import os
import struct
from pathlib import Path

import ml_dtypes
import numpy as np

from amuro_jax.convert.bounds import MAX_AXES, MAX_HEADER, short
from amuro_jax.convert.tensors import BFLOAT16, StoredTensor
from amuro_jax.errors import AmuroError, CheckpointError

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


def read_header(path) -> dict[str, StoredTensor]:
    """Table of the tensors of one file, checked against the file's size.

    Raises:
        CheckpointError: not a safetensors file, truncated, tensors that overlap, leave gaps or have
            another size than shape × dtype.
    """
    path = Path(path)
    header, start, end = _load_json(path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise CheckpointError("__metadata__ of the header is not an object", where=path)
    tensors = {name: _entry(name, value, path, start, end) for name, value in header.items()}
    _check_cover(tensors, path, start, end)
    return tensors


def _load_json(path):
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if length < 2 or length > min(MAX_HEADER, size - 8):
                raise CheckpointError(
                    f"not a safetensors file, or truncated: a header of {length} bytes in a file "
                    f"of {size} (at most {MAX_HEADER} are read)",
                    where=path,
                    hint="download it again",
                )
            text = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}", where=path) from error
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the safetensors header is not valid: {str(error)[:300]}", where=path
        ) from error
    if not isinstance(header, dict):
        raise CheckpointError(
            f"the safetensors header is a {type(header).__name__}, not an object", where=path
        )
    return header, 8 + length, size


def _no_duplicates(pairs):
    entries = dict(pairs)
    if len(entries) != len(pairs):
        seen = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"duplicate name {short(twice)}")
    return entries


def _is_size(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _entry(name, value, path, start, end):
    where = f"{path}: {name[:200]}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(
            "a header entry must have exactly dtype, shape and data_offsets", where=where
        )
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise CheckpointError(
            f"unknown dtype {short(code)}", where=where, hint="known: " + ", ".join(DTYPES)
        )
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(map(_is_size, shape)):
        raise CheckpointError(f"bad shape {short(shape)}", where=where)
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(map(_is_size, offsets))
        or offsets[0] > offsets[1]
    ):
        raise CheckpointError(f"bad data_offsets {short(offsets)}", where=where)
    expected = math.prod(shape) * DTYPES[code].itemsize
    if offsets[1] - offsets[0] != expected:
        raise CheckpointError(
            f"data_offsets {offsets} span {offsets[1] - offsets[0]} bytes, {code} {tuple(shape)} "
            f"needs {expected}",
            where=where,
        )
    if start + offsets[1] > end:
        what = f"truncated: the tensor ends at byte {start + offsets[1]}, the file at {end}"
        raise CheckpointError(what, where=where, hint="download it again")
    return StoredTensor(name, tuple(shape), DTYPES[code], path, start + offsets[0])


def _check_cover(tensors, path, start, end):
    """Each byte of the data belongs to one tensor. An overlap is reported before any gap: moving a
    tensor onto another leaves a gap too, and the overlap is what is wrong.
    """
    at, gap = start, None
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset < at:
            raise CheckpointError(
                f"tensors overlap: the data before ends at byte {at}, this one starts at "
                f"{tensor.offset}",
                where=f"{path}: {tensor.name[:200]}",
            )
        if tensor.offset > at and gap is None:
            gap = (at, tensor)
        at = tensor.offset + tensor.nbytes
    if gap:
        raise CheckpointError(
            f"tensors leave a gap: the data before ends at byte {gap[0]}, this one starts at "
            f"{gap[1].offset}",
            where=f"{path}: {gap[1].name[:200]}",
        )
    if at != end:
        raise CheckpointError(
            f"the header describes {at} bytes, the file has {end}",
            where=path,
            hint="download it again",
        )


def write(path, shapes: dict[str, tuple[tuple[int, ...], np.dtype]], tensors) -> None:
    """Writes one file, one tensor in memory at a time.

    Args:
        shapes: per name in file order, its shape and dtype.
        tensors: yields the arrays in the same order.

    Raises:
        AmuroError: the disk is full; the part-written file is removed.
    """
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, dtype) in shapes.items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": _CODES[np.dtype(dtype)],
            "shape": list(shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    try:
        with open(path, "wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            for (name, (shape, dtype)), array in zip(shapes.items(), tensors, strict=True):
                if array.shape != tuple(shape) or array.dtype != dtype:
                    raise CheckpointError(
                        f"{name} is {array.dtype} {array.shape}, announced as {dtype} {shape}",
                        where=path,
                    )
                stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    except OSError as error:
        Path(path).unlink(missing_ok=True)
        raise AmuroError(
            f"cannot write: {error}",
            where=path,
            hint="free some disk space or choose another folder",
        ) from error
