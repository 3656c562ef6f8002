"""A stored tensor: where its bytes lie in a file.

Every container comes down to a table of these, read with `pread`.
"""

import dataclasses
import math
import os
from pathlib import Path

import ml_dtypes
import numpy as np

from amuro_jax.errors import CheckpointError

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BFLOAT16)  # what a parameter may be stored as


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """Shape, dtype and byte range of one tensor; nothing is read until `read`.

    Attributes:
        name: name in the container.
        shape: sizes; () for a scalar.
        dtype: numpy dtype (bfloat16 by ml_dtypes), little-endian in the file.
        path: file that holds the bytes.
        offset: first byte of element [0, …, 0].
        strides: elements between neighbours per axis (torch views); None: C order without gaps.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    path: Path
    offset: int
    strides: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor when it is dense."""
        return math.prod(self.shape) * self.dtype.itemsize

    def describe(self) -> str:
        """`float32 (4, 8)`, for messages."""
        return f"{self.dtype.name} {self.shape}"


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a C-ordered array without gaps."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def read(tensor: StoredTensor, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows [start, stop) of axis 0 (all of a scalar), a fresh array; only the bytes that span them
    are read.

    Raises:
        CheckpointError: the file is shorter than its own table says.
    """
    shape = tensor.shape
    if shape:
        stop = shape[0] if stop is None else stop
        shape = (stop - start, *shape[1:])
    strides = tensor.strides or dense_strides(tensor.shape)
    if 0 in shape:
        return np.zeros(shape, tensor.dtype)
    first = start * strides[0] if shape else 0
    span = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    flat = _read_bytes(
        tensor, tensor.offset + first * tensor.dtype.itemsize, span * tensor.dtype.itemsize
    ).view(tensor.dtype)
    if tensor.strides is None or strides == dense_strides(tensor.shape):
        return flat.reshape(shape)
    byte_strides = [step * tensor.dtype.itemsize for step in strides]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, shape, byte_strides))


def read_elements(tensor: StoredTensor, start: int, count: int) -> np.ndarray:
    """Elements [start, start + count) as they lie in the file, whatever the shape.

    Raises:
        CheckpointError: the file is shorter than its own table says.
    """
    size = tensor.dtype.itemsize
    return _read_bytes(tensor, tensor.offset + start * size, count * size).view(tensor.dtype)


def _read_bytes(tensor, offset, count):
    buffer = np.empty(count, np.uint8)
    try:
        with open(tensor.path, "rb", buffering=0) as stream:
            stream.seek(offset)
            done = 0
            while done < count and (got := stream.readinto(memoryview(buffer)[done:])):
                done += got
    except OSError as error:
        raise CheckpointError(
            f"cannot read tensor {tensor.name}: {error}", where=tensor.path
        ) from error
    if done != count:
        raise CheckpointError(
            f"truncated: tensor {tensor.name} ({tensor.describe()}) needs bytes up to "
            f"{offset + count}, the file ends at {os.path.getsize(tensor.path)}",
            where=tensor.path,
            hint="download it again",
        )
    return buffer
