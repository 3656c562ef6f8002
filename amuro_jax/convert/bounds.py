"""Limits on the work that a checkpoint's own files can cause.

A file may lie about everything: sizes, lengths, nesting. Each limit is far above what a published
model needs and far below what would keep a reader busy for seconds.
"""

import os
import reprlib

from amuro_jax.errors import CheckpointError

MAX_HEADER = 16 << 20  # bytes of a safetensors header: about 200,000 tensors
MAX_PICKLE = 16 << 20  # bytes of a state dict's pickle: some hundred per tensor
MAX_OPCODES = 500_000  # opcodes of that pickle: about 40 per tensor
MAX_DIRECTORY = 8 << 20  # bytes of a zip's central directory: about 100,000 entries
MAX_CONFIG = 2 << 20  # bytes of config.json or config.yaml
MAX_INDEX = 32 << 20  # bytes of an index of shards
MAX_AXES = 32  # numpy's own limit before version 2

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 120


def short(value) -> str:
    """`repr` for an error message, of bounded length and work whatever the value holds."""
    if isinstance(value, int) and value.bit_length() > 256:  # printing it takes quadratic time
        return f"an integer of {value.bit_length()} bits"
    try:
        return _SHORT.repr(value)
    except ValueError:  # such an integer further inside
        return f"a {type(value).__name__}"


def check_size(path, most: int) -> None:
    """Raises a CheckpointError where a file is larger than `most` bytes."""
    size = os.path.getsize(path)
    if size > most:
        raise CheckpointError(f"{size} bytes; at most {most} are read", where=path)
