"""Scores of other programs: one Parquet file per source, `imported/<key>.parquet`, with a line per
score in the columns of the index. No jax.

An imported score has no rows, so that nothing about it is paired, and it says where it comes from:
`imported` (name of the file), `source_sha256` and `line`. Its key is a hash of what it is a number
of, so that the same score from two files is one cell, and two values of it are a conflict.
"""

import collections
import dataclasses
import hashlib
import io
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from amuro_jax import parquet
from amuro_jax.errors import DataError
from amuro_jax.records import ModelRef, Provenance, ScoreRecord
from amuro_jax.results.index import SCHEMA_OF_LINES
from amuro_jax.storage import Storage

FOLDER = "imported"
SCHEMA = 1  # of the files; raised when a reader of the old ones would misread the new
# What tells imported scores apart.
IDENTITY = ("suite", "checkpoint", "tuned_on", "variant", "task", "format", "shots", "metric")
_VERSION = b"amuro_imported_schema"


@dataclasses.dataclass(frozen=True)
class Import:
    """What an import did.

    Attributes:
        cells: scores that the file has.
        new: those of them that the store did not have.
        repeated: lines that say again what an earlier line says.
        empty: lines without a value, which are left out.
    """

    cells: int
    new: int
    repeated: int = 0
    empty: int = 0


def keys_of(lines: pd.DataFrame) -> list[str]:
    """The key of each line."""
    columns = [pa.array(lines[name].astype(str), pa.string()) for name in IDENTITY]
    named = pc.binary_join_element_wise("imported", *columns, "\x1f")
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in named.to_pylist()]


def write(
    storage: Storage, lines: pd.DataFrame, source: str, sha256: str, *, replace: bool = False
) -> Import:
    """Adds the scores of one file to a store; the same file again changes nothing.

    Args:
        lines: one per score: the columns of `IDENTITY`, `value`, `line`, and any others of
            `index.COLUMNS`.
        source, sha256: name and checksum of the file.
        replace: a score that another file gave with another value is taken from this one.

    Raises:
        DataError: two lines, or this and another file, give one score two values.
    """
    lines = lines.assign(key=keys_of(lines), kind="score", imported=source, source_sha256=sha256)
    lines, repeated = _once(lines, source)
    table = _table(lines)
    others = {
        name: read_file(storage, name)
        for name in _names(storage)
        if name != f"{sha256[:16]}.parquet"
    }
    known: set[str] = set()
    for name, other in others.items():
        clash = _conflicts(other, table)
        if len(clash) and not replace:
            raise DataError(_two_values(clash), where=source, hint="--replace takes the new value")
        if len(clash):
            rest = other.filter(pc.invert(pc.is_in(other["key"], pa.array(clash["key"]))))
            _write(storage, name, rest)
        known.update(other["key"].to_pylist())
    new = sum(key not in known for key in table["key"].to_pylist())
    _write(storage, f"{sha256[:16]}.parquet", table)
    return Import(table.num_rows, new, repeated)


def copy(source: Storage, into: Storage) -> None:
    """Adds the imported scores of one store to another; where both have one, the source's stays."""
    for name in _names(source):
        table = read_file(source, name)
        keys = pa.array(table["key"].to_pylist())
        for other in _names(into):
            old = read_file(into, other)
            rest = old.filter(pc.invert(pc.is_in(old["key"], keys)))
            if other == name:
                table = pa.concat_tables([table, rest])
            elif rest.num_rows < old.num_rows:
                _write(into, other, rest)
        _write(into, name, table)


def read(storage: Storage) -> pa.Table:
    """Every imported score of a store, columns `index.COLUMNS`; a score of several files once.

    Raises:
        DataError: a file is damaged, or of another schema.
    """
    tables = [read_file(storage, name) for name in _names(storage)]
    if not tables:
        return SCHEMA_OF_LINES.empty_table()
    if len(tables) == 1:
        return tables[0]
    joined = pa.concat_tables(tables).combine_chunks()
    first = ~pd.Series(joined["key"].to_pandas()).duplicated()
    return joined if first.all() else joined.filter(pa.array(first))


def record_of(line: Mapping) -> ScoreRecord:
    """The record of an imported score; what its source does not say is empty."""
    line = collections.defaultdict(lambda: None, line)
    names = ("metric", "value", "stderr", "low", "high", "n", "majority", "chance")
    source = {name: line[name] for name in ("imported", "source_sha256", "line")}
    model = ModelRef(
        **{name: line[name] for name in ("suite", "checkpoint", "step", "tokens")},
        tuned_on=line["tuned_on"],
        variant=line["variant"],
    )
    return ScoreRecord(
        key=line["key"],
        model=model,
        **{name: line[name] for name in ("task", "format", "shots")},
        **{name: line[name] or "" for name in ("split", "primary", "method", "protocol")},
        switches={},
        scoring=None,
        metrics={name: line[name] for name in names},
        provenance=Provenance("", source, "", {}, "", "", "", line["created"] or ""),
        context=0,
        seconds=0.0,
        imported=line["imported"],
    )


def _names(storage):
    names = storage.child(FOLDER).listing()
    return sorted(name for name in names if name.endswith(".parquet") and "/" not in name)


def read_file(storage: Storage, name: str) -> pa.Table:
    """The scores of one file of the folder `imported/`."""
    folder = storage.child(FOLDER)
    hint = "import its source again"
    try:
        table = parquet.read(folder.read_bytes(name), checksums=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"it is damaged: {error}", where=folder.where(name), hint=hint) from error
    version = (table.schema.metadata or {}).get(_VERSION, b"none").decode()
    known = {field.name: field.type for field in table.schema}
    fits = all(known.get(field.name, field.type) == field.type for field in SCHEMA_OF_LINES)
    if version != str(SCHEMA) or not fits:
        what = f"imported scores of schema {version}, this version reads {SCHEMA}"
        raise DataError(what, where=folder.where(name), hint=hint)
    columns = [
        table[field.name] if field.name in known else pa.nulls(table.num_rows, field.type)
        for field in SCHEMA_OF_LINES  # a column that is newer than the file is empty
    ]
    return pa.table(columns, SCHEMA_OF_LINES)


def _write(storage, name, table):
    buffer, metadata = io.BytesIO(), {_VERSION: str(SCHEMA).encode()}
    pq.write_table(
        table.replace_schema_metadata(metadata),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    storage.child(FOLDER).replace(name, buffer.getvalue())


def _once(lines, source):
    """Lines without those that say again what an earlier one says, and how many those were."""
    again = lines["key"].duplicated(keep=False)
    if not again.any():
        return lines, 0
    for _, same in lines[again].groupby("key", sort=False):
        first = same.iloc[0]
        differs = same[~_equal(same["value"], first["value"])]
        if len(differs):
            other = differs.iloc[0]
            what = (
                f"line {other['line']}, column value: {_named(other)} is {other['value']:g}, and "
                f"{first['value']:g} in line {first['line']}"
            )
            hint = (
                "delete one of the lines, or tell them apart by a column (variant, format, shots)"
            )
            raise DataError(what, where=f"{source}:{other['line']}", hint=hint)
    unique = lines.drop_duplicates("key")
    return unique, len(lines) - len(unique)


def _equal(values, value):
    return (values == value) | (values.isna() & pd.isna(value))


def _conflicts(old, new):
    columns = ["key", "value", "imported", "line"]
    both = new.to_pandas()[[*IDENTITY, *columns]].merge(
        old.select(columns).to_pandas(), on="key", suffixes=("", "_old")
    )
    return both[~_equal(both["value"], both["value_old"])]


def _two_values(clash):
    first = clash.iloc[0]
    return (
        f"{len(clash)} scores have another value here; the first: {_named(first)} is "
        f"{first['value']:g} in line {first['line']}, and {first['value_old']:g} in "
        f"{first['imported_old']} line {first['line_old']}"
    )


def _named(line):
    """What a line is a number of, in words."""
    tuned = f" + {line['tuned_on']}" if line["tuned_on"] else " base"
    variant = f" ({line['variant']})" if line["variant"] else ""
    return (
        f"{line['suite']} {line['checkpoint']}{tuned}{variant}: {line['task']} {line['format']} "
        f"{line['shots']}-shot {line['metric']}"
    )


def _table(lines):
    missing = {name: None for name in SCHEMA_OF_LINES.names if name not in lines.columns}
    ordered = lines.assign(**missing)[SCHEMA_OF_LINES.names]
    return pa.Table.from_pandas(
        ordered, SCHEMA_OF_LINES, preserve_index=False
    ).replace_schema_metadata(None)
