"""Arrays of a `params/` folder one slice at a time: written by tensorstore in the layout that Orbax
restores, and read back.

Orbax saves whole arrays; a conversion holds only some MB of a stack that may have many GB. The
layout (zarr 2 arrays in
OCDBT, `_METADATA` with the tree) is Orbax's of the 0.12 series; a test restores what is written
here with Orbax itself.
"""

import collections
import contextlib
import json
import os
import time
from pathlib import Path

import numpy as np
import tensorstore as ts

from amuro_jax import files
from amuro_jax.errors import AmuroError, CheckpointError

IN_FLIGHT = 96 << 20  # bytes of writes that may wait at once
_HANDLER = "orbax.checkpoint._src.handlers.standard_checkpoint_handler.StandardCheckpointHandler"


def _base(path) -> str:
    return os.fspath(path) if "://" in os.fspath(path) else f"file://{os.path.abspath(path)}/"


def _spec(path, name):
    return {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": _base(path), "path": name.replace("/", ".") + "/"},
    }


class Writer:
    """Open arrays of one `params/` folder; made by `open_writer`."""

    def __init__(self, stores):
        self._stores, self._waiting, self._bytes = stores, collections.deque(), 0

    def put(self, name: str, index: tuple, values: np.ndarray) -> None:
        """Writes `values` at `index` of the array `name`; `values` must not change afterwards.

        Raises:
            AmuroError: the disk is full.
        """
        self._waiting.append(
            (
                values.nbytes,
                self._stores[name][index].write(
                    values, can_reference_source_data_indefinitely=True
                ),
            )
        )
        self._bytes += values.nbytes
        while self._bytes > IN_FLIGHT:
            self._finish_one()

    def flush(self) -> None:
        """Waits until everything is on disk."""
        while self._waiting:
            self._finish_one()

    def drain(self) -> None:
        """Waits for what is under way, whatever becomes of it: nothing may be written after the
        folder is removed.
        """
        for _, future in self._waiting:
            future.exception()
        self._waiting.clear()

    def _finish_one(self):
        size, future = self._waiting.popleft()
        self._bytes -= size
        with _disk_errors():
            future.result()


@contextlib.contextmanager
def _disk_errors():
    try:
        yield
    except (ValueError, OSError) as error:
        raise AmuroError(
            f"cannot write parameters: {str(error)[:300]}",
            hint="free some disk space or choose another folder",
        ) from error


@contextlib.contextmanager
def open_writer(path, arrays: dict[str, tuple]):
    """Yields a `Writer`; when the block ends well, the metadata is written and the folder is a
    checkpoint that Orbax restores.

    Args:
        arrays: flat name → (shape, dtype, chunk shape). Every element must be written once,
            chunk-aligned.
    """
    Path(path).mkdir(parents=True)
    started = time.time_ns()
    with _disk_errors():
        writer = Writer({name: _create(path, name, *spec) for name, spec in arrays.items()})
    try:
        yield writer
        writer.flush()
    except BaseException:
        writer.drain()
        raise
    tree = {
        str(tuple(name.split("/"))): _leaf(name, shape) for name, (shape, _, _) in arrays.items()
    }
    metadata = {
        "tree_metadata": tree,
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    files.write_text(Path(path) / "_METADATA", json.dumps(metadata))
    times = {"init_timestamp_nsecs": started, "commit_timestamp_nsecs": time.time_ns()}
    item = {
        "item_handlers": _HANDLER,
        "metrics": {},
        "performance_metrics": {},
        **times,
        "custom_metadata": {},
    }
    files.write_text(Path(path) / "_CHECKPOINT_METADATA", json.dumps(item))


def _create(path, name, shape, dtype, chunks):
    # Not compressed: 4.7 GB of random fp32 weights took 7 to 9 s without, 12 to 24 s with zstd
    # level 1, and hardly shrank.
    kind = "bfloat16" if dtype.name == "bfloat16" else dtype.str
    metadata = {
        "shape": list(shape),
        "chunks": list(chunks),
        "dtype": kind,
        "compressor": None,
        "order": "C",
        "fill_value": None,
    }
    context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
    spec = {**_spec(path, name), "metadata": metadata, "store_data_equal_to_fill_value": True}
    return ts.open(spec, create=True, context=context).result()


def _leaf(name, shape):
    keys = [{"key": key, "key_type": 2} for key in name.split("/")]
    return {
        "key_metadata": keys,
        "value_metadata": {
            "value_type": "jax.Array",
            "skip_deserialize": False,
            "write_shape": list(shape),
        },
    }


def open_arrays(path, names) -> dict:
    """Open, lazily read arrays: `arrays[name][index].read().result()` gives numpy.

    Raises:
        CheckpointError: no such folder, or an array that is not there.
    """
    if not (Path(path) / "_METADATA").exists():
        raise CheckpointError("no parameters there", where=path)
    context = ts.Context({"cache_pool": {"total_bytes_limit": 64 << 20}})
    found = {}
    for name in names:
        try:
            found[name] = ts.open(_spec(path, name), open=True, read=True, context=context).result()
        except (ValueError, OSError) as error:
            raise CheckpointError(
                f"parameter {name} cannot be opened: {str(error)[:300]}", where=path
            ) from error
    return found
