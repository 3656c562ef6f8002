"""Arrays of a `params/` folder, chunk by chunk: written by tensorstore in the layout that Orbax
restores, and read back, each chunk against its checksum.

Orbax saves complete arrays; a conversion holds only some MB of a stack that may have many GB. The
layout (zarr 2 arrays in OCDBT, `_METADATA` with the tree) is Orbax's of the 0.12 series; a test
restores what is written here with Orbax itself.

Checksums (XXH3, 64 bits, of a chunk's values in C order, little-endian) lie beside the arrays in
`checksums.N.json`, one file per process that wrote, with those of the metadata files. They are
compared as the chunks are read, so that a process which reads a part of an array checks that part,
and nothing is read twice.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import json
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore as ts
import xxhash
from etils import epath

from amuro_jax import files
from amuro_jax.errors import AmuroError, CheckpointError

IN_FLIGHT = 96 << 20  # bytes of writes that may wait at once
SMALL_FILE = 64 << 10  # bytes; larger files hold chunks, which have checksums of their own
READERS = 4  # chunks that are read and checked at once: enough to keep a disk and two cores busy
_AGAIN = "the disk or a copy damaged it: convert or train it again"
_HANDLER = "orbax.checkpoint._src.handlers.standard_checkpoint_handler.StandardCheckpointHandler"


def _base(path) -> str:
    return os.fspath(path) if "://" in os.fspath(path) else f"file://{os.path.abspath(path)}/"


def _spec(path, name):
    return {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": _base(path), "path": name.replace("/", ".") + "/"},
    }


class Writer:
    """Open arrays of one `params/` folder; see `open_writer`."""

    def __init__(self, stores):
        self._stores, self._waiting, self._bytes = stores, collections.deque(), 0
        self._pool = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="checksums")
        self.checksums = {name: Checksums.of(array) for name, array in stores.items()}

    def put(self, name: str, index: tuple, values: np.ndarray) -> None:
        """Writes `values` at `index` of the array `name`; `values` must not change afterwards.

        Args:
            index: one number or slice for each of the leading axes; whole chunks.

        Raises:
            AmuroError: the disk is full.
        """
        write = self._stores[name][index].write(values, can_reference_source_data_indefinitely=True)
        fixed = tuple(part for part in index if not isinstance(part, slice))
        starts = fixed + tuple(part.start or 0 for part in index[len(fixed) :])
        values = values.reshape((1,) * len(fixed) + values.shape)
        starts += (0,) * (values.ndim - len(starts))
        checked = self._pool.submit(self.checksums[name].add, values, starts)
        self._waiting.append((values.nbytes, write, checked))
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
        for _, write, checked in self._waiting:
            write.exception()
            checked.exception()
        self._waiting.clear()
        self._pool.shutdown()

    def _finish_one(self):
        size, write, checked = self._waiting.popleft()
        self._bytes -= size
        with _disk_errors():
            write.result()
        checked.result()


class Checksums:
    """Checksums of the chunks of one array.

    Attributes:
        shape, chunk: of the array and of one chunk (smaller at the array's end).
        dtype: numpy name.
        values: index of a chunk, counted in chunks (`2.0.1`) → hex digits.
    """

    def __init__(self, shape, dtype: str, chunk, values: dict[str, str] | None = None):
        self.shape, self.dtype, self.chunk = tuple(shape), dtype, tuple(chunk)
        self.values = {} if values is None else values

    @classmethod
    def of(cls, array) -> "Checksums":
        """Those of an open array, none known yet."""
        return cls(array.shape, array.dtype.name, _chunk_shape(array))

    def add(self, values: np.ndarray, starts: tuple[int, ...]) -> None:
        """Records the chunks that `values`, which begin at `starts` of the array, consist of."""
        for at in itertools.product(
            *(range(0, size, step) for size, step in zip(values.shape, self.chunk, strict=True))
        ):
            part = values[tuple(slice(a, a + step) for a, step in zip(at, self.chunk, strict=True))]
            index = (
                (start + a) // step for start, a, step in zip(starts, at, self.chunk, strict=True)
            )
            self.values[".".join(map(str, index))] = checksum(part)

    def boxes(self):
        """(name, (start, stop) per axis) of every chunk."""
        counts = [-(-size // step) for size, step in zip(self.shape, self.chunk, strict=True)]
        for index in itertools.product(*map(range, counts)):
            yield (
                ".".join(map(str, index)),
                tuple(
                    (i * step, min((i + 1) * step, size))
                    for i, step, size in zip(index, self.chunk, self.shape, strict=True)
                ),
            )

    def to_json(self) -> dict:
        """Plain values."""
        fields = {"shape": self.shape, "dtype": self.dtype, "chunk": self.chunk}
        return {**fields, "values": dict(sorted(self.values.items()))}


def _chunk_shape(array) -> tuple[int, ...]:
    return tuple(array.chunk_layout.read_chunk.shape or ())  # a scalar has none


def checksum(values: np.ndarray) -> str:
    """XXH3 of values in C order, as hex digits."""
    dense = np.ascontiguousarray(values).reshape(-1)
    return xxhash.xxh3_64_hexdigest(dense.view(np.uint8).data)


def write_checksums(path, checksums: dict[str, Checksums], process: int = 0) -> None:
    """Writes what this process knows of the arrays in the folder `path`; the first process also the
    checksums of the metadata files beside them.
    """
    arrays = {name: sums.to_json() for name, sums in sorted(checksums.items())}
    beside = _file_checksums(path) if process == 0 else {}
    files.write_text(
        epath.Path(path) / f"checksums.{process}.json",
        json.dumps({"hash": "xxh3_64", "files": beside, "arrays": arrays}),
    )


def _file_checksums(path):
    path, checksums = epath.Path(path), {}
    folders = [path]
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if file.is_dir():
                folders.append(file)
            elif not file.name.startswith(("checksums.", ".")):
                if file.stat().length <= SMALL_FILE:
                    name = os.fspath(file.relative_to(path))
                    checksums[name] = xxhash.xxh3_64_hexdigest(file.read_bytes())
    return checksums


def read_checksums(path) -> dict[str, Checksums]:
    """Checksums of every array in a folder, of all processes that wrote it.

    Raises:
        CheckpointError: there are none, they cannot be read, or a metadata file differs from its
            own.
    """
    checksums: dict[str, Checksums] = {}
    parts = sorted(epath.Path(path).glob("checksums.*.json"))
    if not parts:
        raise CheckpointError(
            "the parameters have no checksums",
            where=path,
            hint="the folder is incomplete or of an earlier version: convert or train it again",
        )
    for part in parts:
        try:
            stored = json.loads(part.read_text())
            _check_files(part.parent, stored["files"])
            for name, fields in stored["arrays"].items():
                sums = Checksums(**fields)
                jnp.dtype(sums.dtype)  # raises where it is none
                checksums.setdefault(name, sums).values.update(sums.values)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(
                f"damaged list of checksums: {error}", where=part, hint=_AGAIN
            ) from error
    return checksums


def _check_files(folder, known):
    def same(name):
        file = folder / name
        return file.exists() and known[name] == xxhash.xxh3_64_hexdigest(file.read_bytes())

    with concurrent.futures.ThreadPoolExecutor(16) as pool:  # each waits for a disk or a bucket
        for name, is_same in zip(known, pool.map(same, known), strict=True):
            if not is_same:
                raise CheckpointError(
                    f"{name} is missing, or not what was written: its checksum differs",
                    where=folder / name,
                    hint=_AGAIN,
                )


def record_checksums(path, leaves: dict) -> None:
    """Writes the checksums of arrays that were just saved to `path`; each process those of the
    shards it holds.

    Args:
        leaves: flat name → jax or numpy array.
    """
    checksums = {}
    for name, array in open_arrays(path, leaves).items():
        leaf, sums = leaves[name], Checksums.of(array)
        shards = getattr(leaf, "addressable_shards", None)
        if shards is None:
            sums.add(np.asarray(leaf), (0,) * len(array.shape))
        for shard in shards or ():
            if shard.replica_id == 0:
                sums.add(np.asarray(shard.data), tuple(part.start or 0 for part in shard.index))
        checksums[name] = sums
    write_checksums(path, checksums, jax.process_index())


def read_arrays(path, targets: dict, placement: dict) -> dict:
    """Reads arrays onto devices; every chunk that is read is compared with its checksum.

    Args:
        targets: flat name → ShapeDtypeStruct of what is stored.
        placement: flat name → sharding. A process reads the chunks that its own shards touch.

    Raises:
        CheckpointError: a chunk that cannot be read or is not what was written; names the array.
    """
    checksums, arrays, read = read_checksums(path), open_arrays(path, targets), {}
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        for name, target in targets.items():
            shards = {}  # part of the array, as (start, stop) per axis → devices that hold it
            for device, index in (
                placement[name].addressable_devices_indices_map(tuple(target.shape)).items()
            ):
                box = tuple(
                    part.indices(size)[:2] for part, size in zip(index, target.shape, strict=True)
                )
                shards.setdefault(box, []).append(device)
            buffers = {
                box: np.empty([stop - start for start, stop in box], target.dtype) for box in shards
            }
            _read_chunks(pool, path, name, arrays[name], checksums, buffers)
            read[name] = jax.make_array_from_single_device_arrays(
                tuple(target.shape),
                placement[name],
                [
                    jax.device_put(buffers[box], device)
                    for box, devices in shards.items()
                    for device in devices
                ],
            )
    return read


def verify_arrays(path, names) -> int:
    """Compares every chunk of the named arrays with its checksum; returns how many there are.

    Raises:
        CheckpointError: as `read_arrays`.
    """
    checksums, count = read_checksums(path), 0
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        for name, array in open_arrays(path, names).items():
            _read_chunks(pool, path, name, array, checksums, None)
            count += len(checksums[name].values)
    return count


def _read_chunks(pool, path, name, array, checksums, buffers):
    """Fills `buffers` (part of the array → numpy) from its chunks; None: reads all, keeps none.

    A part is (start, stop) per axis.
    """
    known = checksums.get(name)
    if known is None or (known.shape, known.dtype, known.chunk) != (
        tuple(array.shape),
        array.dtype.name,
        _chunk_shape(array),
    ):
        raise CheckpointError(f"{name} is not the array that its checksums describe", where=path)

    def read(chunk, box):
        try:
            values = array[tuple(slice(*part) for part in box)].read().result()
        except (ValueError, OSError) as error:
            raise CheckpointError(
                f"chunk {chunk} of {name} cannot be read: {str(error)[:300]}",
                where=path,
                hint=_AGAIN,
            ) from error
        if known.values.get(chunk) != checksum(values):
            raise CheckpointError(
                f"chunk {chunk} of {name} is not what was written: its checksum differs",
                where=path,
                hint=_AGAIN,
            )
        for part, buffer in (buffers or {}).items():
            overlap = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, part, strict=True)]
            if all(start < stop for start, stop in overlap):
                target, source = (
                    tuple(
                        slice(start - origin, stop - origin)
                        for (start, stop), (origin, _) in zip(overlap, frame, strict=True)
                    )
                    for frame in (part, box)
                )
                buffer[target] = values[source]

    def touched(box):
        return buffers is None or any(
            all(max(a, c) < min(b, d) for (a, b), (c, d) in zip(box, part, strict=True))
            for part in buffers
        )

    for _ in pool.map(
        lambda item: read(*item), [item for item in known.boxes() if touched(item[1])]
    ):
        pass


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
    finally:
        writer.drain()
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
    write_checksums(path, writer.checksums)


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
    if not (epath.Path(path) / "_METADATA").exists():
        raise CheckpointError("no parameters there", where=path)
    context = ts.Context({"cache_pool": {"total_bytes_limit": 64 << 20}})
    arrays = {}
    for name in names:
        try:
            arrays[name] = ts.open(
                _spec(path, name), open=True, read=True, context=context
            ).result()
        except (ValueError, OSError) as error:
            raise CheckpointError(
                f"parameter {name} cannot be opened: {str(error)[:300]}", where=path
            ) from error
    return arrays
