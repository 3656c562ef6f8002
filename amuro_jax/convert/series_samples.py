"""What an audit reads of each checkpoint of a series: headers, a few blocks of every tensor at the
same places in all checkpoints, and the ends of the tokenizer's file. At most 1 % of the bytes.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np

from amuro_jax.convert import containers, resolver
from amuro_jax.convert.revisions import Revision
from amuro_jax.convert.tensors import StoredTensor, read_elements
from amuro_jax.errors import AmuroError

SHARE = 0.01  # of a checkpoint's bytes that may be read
RESERVE = 0.9  # of that share: a header's length differs a little between checkpoints
BLOCKS = 4  # per tensor: beginning, end and two between, so that a cut or zeroed part is met
MOST_IN_BLOCK = 1024  # elements: more says nothing more about where a checkpoint lies
LEAST_IN_BLOCK = 4
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer/tokenizer.json")
TOKENIZER_BLOCK = 256  # bytes at the beginning, in the middle and at the end


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was read of one checkpoint.

    Attributes:
        name: revision.
        tensors: name → shape and dtype, as `StoredTensor` describes them.
        files: name of a tensor → name of the file that holds it.
        values: name → sampled elements in fp32, block after block, of tensors of floats.
        raw: name → the same as bytes.
        tokenizer: size and sampled bytes of its file; None where there is none.
        bytes_read, bytes_total: of the folder's weights and tokenizer.
        problem: why it could not be read; "" where it could.
        identity: of a converted checkpoint, whose tensors are not sampled.
    """

    name: str
    tensors: dict[str, StoredTensor] = dataclasses.field(default_factory=dict)
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    raw: dict[str, bytes] = dataclasses.field(default_factory=dict)
    tokenizer: tuple[int, bytes] | None = None
    bytes_read: int = 0
    bytes_total: int = 0
    problem: str = ""
    identity: str = ""


def read_sample(revision: Revision) -> Sample:
    """Reads a local checkpoint's sample; what is wrong with its files is in `problem`."""
    folder = resolver.find_folder(revision.name)
    if folder is None:
        return Sample(revision.revision, problem="not on this machine")
    tokenizer, token_bytes, token_total = _tokenizer(folder)
    common = {"tokenizer": tokenizer, "bytes_total": token_total, "bytes_read": token_bytes}
    if resolver.is_converted(folder):
        from amuro_jax import checkpoint

        return Sample(revision.revision, identity=checkpoint.model_hash(folder), **common)
    try:
        table = containers.read_table(folder)
        paths = containers.weight_files(folder)
        headers = _header_bytes(paths, table)
        total = sum(path.stat().st_size for path in paths)
        common = {"tokenizer": tokenizer, "bytes_total": token_total + total}
        size = block_size(table, headers + token_bytes)
        raw = {name: _blocks(tensor, size) for name, tensor in sorted(table.items())}
    except AmuroError as error:
        return Sample(revision.revision, problem=error.what, **common)
    read = sum(array.nbytes for array in raw.values())
    return Sample(
        revision.revision,
        table,
        {name: tensor.path.name for name, tensor in table.items()},
        {name: _floats(array) for name, array in raw.items() if _is_float(array)},
        {name: array.tobytes() for name, array in raw.items()},
        bytes_read=token_bytes + headers + read,
        **common,
    )


def block_size(table: dict[str, StoredTensor], overhead: int) -> int:
    """Elements per block with which a checkpoint's sample stays within its share, a power of two,
    so that checkpoints of one shape in several precisions are read at the same places.

    Args:
        overhead: bytes that are read besides.
    """
    elements = sum(math.prod(tensor.shape) for tensor in table.values())
    fits = int((RESERVE * SHARE * elements - overhead / 2) / max(len(table) * BLOCKS, 1))
    return max(LEAST_IN_BLOCK, min(MOST_IN_BLOCK, 1 << max(fits, 1).bit_length() - 1))


def _blocks(tensor, size):
    """Elements [BLOCKS × size] at even places from the beginning to the end of a tensor."""
    count = math.prod(tensor.shape)
    if count <= BLOCKS * size:
        return read_elements(tensor, 0, count)
    starts = np.linspace(0, count - size, BLOCKS).astype(int)
    return np.concatenate([read_elements(tensor, int(start), size) for start in starts])


def _is_float(array):
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _floats(array):
    return array.astype(np.float32)


def _header_bytes(paths, table):
    """Bytes of the files that are no tensor."""
    of_file = dict.fromkeys((path.name for path in paths), 0)
    for tensor in table.values():
        of_file[tensor.path.name] += tensor.nbytes
    return sum(max(path.stat().st_size - of_file[path.name], 0) for path in paths)


def _tokenizer(folder: Path):
    """(size and sampled bytes, bytes read, size) of the first tokenizer file that is there."""
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            size = path.stat().st_size
            with open(path, "rb") as stream:
                parts = []
                for start in (0, size // 2, max(0, size - TOKENIZER_BLOCK)):
                    stream.seek(start)
                    parts.append(stream.read(TOKENIZER_BLOCK))
            sampled = b"".join(parts)
            return (size, sampled), len(sampled), size
    return None, 0, 0
