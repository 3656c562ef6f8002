"""An index of a store's cells: one line per finished cell in one Parquet file beside them, so that
100,000 cells are opened without reading 100,000 files.

The index holds nothing that the cells do not: each line carries the sizes and versions of the
cell's files as they were when it was read, and is read again when they differ. A stale, damaged,
missing or older index costs time and no number, and several processes may replace it at will.
"""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from amuro_jax import parquet
from amuro_jax.errors import AmuroError, DataError
from amuro_jax.records import PROBE
from amuro_jax.results import sealed

INDEX = "cells.parquet"
SCHEMA = 3  # of the index; another one is built anew
_META = {b"amuro_index_schema": str(SCHEMA).encode()}
_BATCH = 2_000  # cells that are read at once: bounds the memory

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
COLUMNS = {
    "key": _TEXT,
    "kind": _TEXT,  # score, train, probe
    "suite": _TEXT,
    "checkpoint": _TEXT,
    "step": _WHOLE,
    "tokens": _WHOLE,
    "tuned_on": _TEXT,
    "variant": _TEXT,
    "seed": _WHOLE,  # of the training, where a study repeats it
    "task": _TEXT,
    "format": _TEXT,
    "shots": _WHOLE,
    "split": _TEXT,
    "primary": _TEXT,
    "method": _TEXT,
    "protocol": _TEXT,
    "metric": _TEXT,
    "value": _REAL,
    "stderr": _REAL,
    "low": _REAL,
    "high": _REAL,
    "n": _WHOLE,
    "majority": _REAL,
    "chance": _REAL,
    "loss": _REAL,  # of a training
    "steps": _WHOLE,  # of a training
    "context": _WHOLE,
    "seconds": _REAL,
    "imported": _TEXT,
    "identity": _TEXT,  # of the model that was scored, or fine-tuned from
    "created": _TEXT,
    "rows_sha256": _TEXT,
    # of imported scores (`imported.py`); empty for scores that this program computed
    "line": _WHOLE,  # of the source file, from 1
    "source_sha256": _TEXT,
    "role": _TEXT,
    "of": _TEXT,  # fine-tuning sets that the set belongs to, comma-separated
    "group": _TEXT,
}
SCHEMA_OF_LINES = pa.schema(COLUMNS.items())
_ARROW = pa.schema([*COLUMNS.items(), ("stamp", _TEXT)], metadata=_META)


def refresh(storage) -> tuple[pa.Table, dict[str, str]]:
    """The index of what is in a storage now, and why each damaged cell is not in it, by key.

    Writes the index where it has changed.
    """
    stamps, sizes = _stamps(storage)
    known = _read(storage)
    if known is not None:
        keys, old = known["key"].to_pylist(), known["stamp"].to_pylist()
        current = [stamps.get(key) == stamp for key, stamp in zip(keys, old, strict=True)]
        fresh = {key for key, keep in zip(keys, current, strict=True) if keep}
        unchanged = (
            known if len(fresh) == len(keys) else known.filter(pa.array(current, pa.bool_()))
        )
    else:
        fresh, unchanged = set(), _ARROW.empty_table()
    added, damaged = _read_cells(storage, sorted(stamps.keys() - fresh), stamps, sizes)
    if not added and known is not None and unchanged.num_rows == known.num_rows:
        return known, damaged
    table = pa.concat_tables([unchanged, *added]).combine_chunks()
    if table.num_rows or known is not None:  # a folder without cells is left as it is
        _write(storage, table)
    return table, damaged


def _stamps(storage):
    """Per key of a cell with a record: sizes and versions of its two files as one text, and the
    size of its rows.
    """
    stamps, sizes = {}, {}
    for key, (record, rows) in storage.units(sealed.CELLS, (sealed.RECORD, sealed.ROWS)).items():
        if record is not None:
            size, version = rows or (None, "")
            stamps[key] = f"{record[0]}:{record[1]}|{size}:{version}"
            sizes[key] = size
    return stamps, sizes


def _read(storage):
    """The index that is there; None where there is none that can be used."""
    data = storage.get(INDEX)
    try:
        table = parquet.read(data) if data else None
    except (OSError, pa.ArrowException):
        return None
    if table is None or not table.schema.equals(_ARROW, check_metadata=False):
        return None
    return table if (table.schema.metadata or {}).items() >= _META.items() else None


def _write(storage, table):
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(_META), buffer, compression="zstd")
    try:
        storage.replace(INDEX, buffer.getvalue())
    except AmuroError:
        return  # a folder that may only be read: it is built anew each time


def _read_cells(storage, keys, stamps, sizes):
    tables, damaged = [], {}
    for start in range(0, len(keys), _BATCH):
        lines, names = [], {}
        for key in keys[start : start + _BATCH]:
            names[f"{sealed.CELLS}/{key}/{sealed.RECORD}"] = key
        for name, data in storage.get_many(list(names)).items():
            key = names[name]
            if data is None:
                continue  # deleted since it was listed
            try:
                stored = sealed.unseal(data, key, storage.where(name))
                sealed.check_size(stored, sizes.get(key), storage.where(name))
                lines.append(_line(stored) | {"stamp": stamps[key]})
            except DataError as error:
                damaged[key] = error.what
        if lines:
            tables.append(pa.Table.from_pylist(lines, _ARROW))
    return tables, damaged


def _line(stored):
    """The columns of one record."""
    record = stored.record
    flat = {**record.get("metrics", {}), **record["model"], **record}
    recipe, provenance = record.get("recipe", {}), record.get("provenance", {})
    flat |= {"identity": provenance.get("model"), "created": provenance.get("created")}
    flat |= {"rows_sha256": stored.rows_sha256}
    if record["kind"] in ("train", PROBE):
        flat |= {name: recipe.get(name) for name in ("task", "format")}
    return {name: flat.get(name) for name in COLUMNS}
