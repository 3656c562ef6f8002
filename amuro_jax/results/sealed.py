"""The files of one cell, `cells/<key>/{cell.json, rows.parquet}`, and their checksums.

`cell.json` is the record with one more field, `stored`: a checksum of the record itself, and size
and checksum of the rows. It is written last, so that a cell without it is absent.
"""

import dataclasses
import hashlib
import io
import json

import pandas as pd

from amuro_jax import records
from amuro_jax.errors import DataError

CELLS = "cells"
RECORD = "cell.json"
ROWS = "rows.parquet"
HINT = "run the study again: it is computed anew"


@dataclasses.dataclass(frozen=True)
class Stored:
    """What `cell.json` says of its cell's files.

    Attributes:
        record: as plain values.
        rows_bytes, rows_sha256: of `rows.parquet`; None where the cell has no rows.
    """

    record: dict
    rows_bytes: int | None
    rows_sha256: str | None


def seal(record: dict, rows: bytes | None) -> str:
    """The text of `cell.json`."""
    stored = {"record_sha256": _checksum(record)}
    if rows is not None:
        stored |= {"rows_bytes": len(rows), "rows_sha256": hashlib.sha256(rows).hexdigest()}
    return json.dumps({**record, "stored": stored}, indent=1, ensure_ascii=False) + "\n"


def unseal(data: bytes, key: str, where: str) -> Stored:
    """What `cell.json` says.

    Raises:
        DataError: it is cut off, changed, another cell's, or of another schema.
    """
    try:
        record = json.loads(data)
        stored = record.pop("stored")
        checksum, stored_key = stored["record_sha256"], record["key"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = "it is empty" if not data else "it is not a whole record"
        raise DataError(what, where=where, hint=HINT) from error
    if record.get("schema") != records.SCHEMA:
        what = f"a record of schema {record.get('schema')}, this version reads {records.SCHEMA}"
        raise DataError(what, where=where, hint=HINT)
    if checksum != _checksum(record):
        raise DataError("its content does not match its checksum", where=where, hint=HINT)
    if stored_key != key:
        raise DataError(f"it is the record of cell {stored_key}", where=where, hint=HINT)
    return Stored(record, stored.get("rows_bytes"), stored.get("rows_sha256"))


def check_size(stored: Stored, size: int | None, where: str) -> None:
    """Raises DataError where the rows are missing or have another size than was written."""
    if stored.rows_bytes is not None and size != stored.rows_bytes:
        state = "are missing" if size is None else f"have {size} of {stored.rows_bytes} bytes"
        raise DataError(f"the rows {state}", where=where, hint=HINT)


def check_rows(stored: Stored, data: bytes | None, where: str) -> bytes:
    """The bytes of `rows.parquet`, once they are those that were written.

    Raises:
        DataError: they are missing, cut off or changed, or the cell has none.
    """
    if stored.rows_sha256 is None:
        raise DataError("the cell has no rows", where=where)
    check_size(stored, None if data is None else len(data), where)
    if hashlib.sha256(data).hexdigest() != stored.rows_sha256:
        raise DataError("the rows do not match their checksum", where=where, hint=HINT)
    return data


def rows_bytes(rows: "pd.DataFrame | list[dict]") -> bytes:
    """Rows as a Parquet file."""
    buffer = io.BytesIO()
    pd.DataFrame(rows).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _checksum(record):
    canonical = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
