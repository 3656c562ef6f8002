"""Reading Parquet without Arrow's threads."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq


def read(source, columns: Sequence[str] | None = None, checksums: bool = False) -> pa.Table:
    """The table of a Parquet file, read on the calling thread.

    `pyarrow.parquet.read_table` hands the work to Arrow's pools, whose last callbacks may still
    start a thread when the interpreter exits: the process is then aborted ("terminate called
    without an active exception") after its work is done; with pyarrow 26 that befell about one
    process in seven that read a small file and ended.

    Args:
        source: the bytes of a file, or the path of a local one.
        columns: those to read, all of them if None.
        checksums: whether the checksums of the pages are verified where the file has them.

    Raises:
        pyarrow.ArrowException, OSError: it is no Parquet file, or it is damaged.
        KeyError: it has no such column.
    """
    file = source if isinstance(source, str) else pa.BufferReader(source)
    with pq.ParquetFile(file, page_checksum_verification=checksums) as parquet:
        table = parquet.read(None if columns is None else list(columns), use_threads=False)
    missing = set(columns or ()) - set(table.column_names)  # Arrow leaves them out in silence
    if missing:
        raise KeyError(f"no column {', '.join(sorted(missing))}")
    return table


def batches(stream) -> Iterator[pa.RecordBatch]:
    """The record batches of an open Parquet file, decoded on the calling thread.

    Raises:
        pyarrow.ArrowException, OSError: it is no Parquet file, or it is damaged.
    """
    return pq.ParquetFile(stream).iter_batches(use_threads=False)
