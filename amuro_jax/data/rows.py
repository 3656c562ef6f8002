"""Rows of a large file by their number, without all of them in memory."""

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amuro_jax import files
from amuro_jax.errors import DataError

SCAN_BYTES = 64 << 20  # of a file that are looked through for line ends at once
_BLANK = 64  # bytes: longer lines of nothing but white space are not looked for


class JsonlRows(Sequence):
    """(where, row) of the non-blank lines of a local JSONL file, parsed when asked for."""

    def __init__(self, path: str):
        """
        Raises:
            DataError: no such file, or an empty one.
        """
        self._path = path
        if not Path(path).is_file() or not Path(path).stat().st_size:
            raise DataError("no such file, or an empty one", where=path)
        with open(path, "rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        ends = self._line_ends()
        starts = np.concatenate([[0], ends[:-1] + 1])
        filled = np.flatnonzero(ends > starts)
        for number in filled[ends[filled] - starts[filled] < _BLANK].tolist():
            if not self._map[starts[number] : ends[number]].strip():
                filled = filled[filled != number]
        self._lines, self._starts, self._ends = filled, starts[filled], ends[filled]

    def _line_ends(self):
        ends, size = [], len(self._map)
        for first in range(0, size, SCAN_BYTES):
            part = np.frombuffer(self._map[first : first + SCAN_BYTES], np.uint8)
            ends.append(np.flatnonzero(part == ord("\n")) + first)
        if self._map[size - 1] != ord("\n"):
            ends.append([size])
        return np.concatenate(ends).astype(np.int64)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> tuple[str, dict]:
        line = self._map[self._starts[index] : self._ends[index]].decode("utf-8")
        where = f"{self._path}:{self._lines[index] + 1}"
        return where, files.json_object(line, where)


class TableRows(Sequence):
    """(where, row) of an Arrow table."""

    def __init__(self, where: str, table):
        self._where, self._table = where, table

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> tuple[str, dict]:
        return f"{self._where}[{index}]", self._table.slice(index, 1).to_pylist()[0]
