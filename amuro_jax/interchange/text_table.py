"""Delimited text as columns of text, and columns of numbers out of them; every fault is named with
file, line and column. No jax.

Files may be compressed with gzip. A record is one line: line breaks within quotes are refused, so
that a line number is one in every editor.
"""

import csv
import dataclasses
import gzip
import hashlib
import io
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from amuro_jax.errors import DataError
from amuro_jax.storage import Storage

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_MISSING = ("", "nan", "na", "null", "none")  # words for a value that is not there, in lower case
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^\d+(\.0*)?$"
_MOST_DIGITS = 18  # of a whole number: fits 64 bits


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        source: name of the file, for errors and provenance.
        sha256: of the file's bytes, as they came.
        columns: name → texts, without white space around them.
    """

    source: str
    sha256: str
    columns: dict[str, pa.Array]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def lines(self) -> np.ndarray:
        """Line numbers of the rows: the header is line 1."""
        return np.arange(2, len(self) + 2)

    def fail(self, row: int, column: str, what: str, hint: str | None = None):
        """Raises the error of one field."""
        line = int(row) + 2
        raise DataError(
            f"line {line}, column {column}: {what}", where=f"{self.source}:{line}", hint=hint
        )

    def texts(self, column: str) -> pd.Series:
        """A column of names.

        Raises:
            DataError: an empty one.
        """
        values = self.columns[column]
        if (row := _first(pc.equal(values, ""))) is not None:
            self.fail(row, column, "is empty")
        return values.to_pandas()

    def optional_texts(self, column: str) -> pd.Series:
        """A column of names that may be empty."""
        return self.columns[column].to_pandas()

    def numbers(self, column: str, *, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
        """A column of finite numbers within bounds; NaN where a field is empty or says nan.

        Raises:
            DataError: no number, or one out of bounds.
        """
        values = self.columns[column]
        absent = pc.is_in(pc.utf8_lower(values), value_set=pa.array(_MISSING))
        numeric = pc.match_substring_regex(values, _NUMBER)
        if (row := _first(pc.invert(pc.or_(absent, numeric)))) is not None:
            self.fail(row, column, f"{values[row].as_py()!r} is not a finite number")
        filled = pc.if_else(absent, pa.scalar(None, pa.string()), values)
        numbers = pc.cast(filled, pa.float64()).to_numpy(zero_copy_only=False)
        outside = (numbers < low) | (numbers > high) | np.isinf(numbers)
        if outside.any():
            row = int(np.argmax(outside))
            limits = f"at least {low:g}" if high == np.inf else f"between {low:g} and {high:g}"
            text = values[row].as_py()
            what = (
                f"{text} is not a finite number"
                if np.isinf(numbers[row])
                else f"{text} is not {limits}"
            )
            self.fail(row, column, what)
        return numbers

    def whole_numbers(self, column: str) -> pd.Series:
        """A column of whole numbers from zero on; missing (NA) where a field is empty.

        Raises:
            DataError: another number.
        """
        values = self.columns[column]
        absent = pc.is_in(pc.utf8_lower(values), value_set=pa.array(_MISSING))
        integers = pc.match_substring_regex(values, _WHOLE)
        if (row := _first(pc.invert(pc.or_(absent, integers)))) is not None:
            self.fail(row, column, f"{values[row].as_py()!r} is not a whole number from zero on")
        digits = pc.replace_substring_regex(values, r"\.0*$", "")
        if (row := _first(pc.greater(pc.utf8_length(digits), _MOST_DIGITS))) is not None:
            self.fail(row, column, f"{values[row].as_py()} is out of range")
        filled = pc.if_else(absent, pa.scalar(None, pa.string()), digits)
        return pd.Series(
            pc.cast(filled, pa.int64()).to_pandas(integer_object_nulls=True), dtype="Int64"
        )


def read_table(path) -> TextTable:
    """Reads a file of comma-, tab- or semicolon-separated values with a header.

    Raises:
        DataError: it is missing, cut off, not UTF-8, has no rows, or a line that does not fit the
            header.
    """
    storage, name = Storage.of_file(path)
    raw = storage.get(name)
    if raw is None:
        raise DataError("no such file", where=path)
    data = _unpacked(raw, path)
    if not data:
        raise DataError("the file is empty", where=path)
    header = data.split(b"\n", 1)[0]
    delimiter = max(",\t;", key=lambda mark: header.count(mark.encode()))
    names = _header(header, delimiter, path)
    try:
        table = _parse(data, names, delimiter)
    except (pa.ArrowException, ValueError) as error:
        _find_fault(data, names, delimiter, path)
        raise DataError(f"cannot be read: {error}", where=path) from error
    lines = data.count(b"\n") - data.endswith(b"\n")
    if table.num_rows != lines or data.count(b"\r") != data.count(b"\r\n"):
        _find_fault(data, names, delimiter, path)
        what = f"{table.num_rows} records in {lines} lines below the header"
        raise DataError(what, where=path, hint="a record is one line; quotes must be closed")
    if not lines:
        raise DataError("there are no rows below the header", where=path)
    columns = {
        column: pc.utf8_trim_whitespace(table[column].combine_chunks())
        for column in names
        if column
    }
    return TextTable(name, hashlib.sha256(raw).hexdigest(), columns)


def _unpacked(raw, path):
    if raw.startswith(_GZIP):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"the compressed file is damaged: {error}", where=path) from error
    data = raw.removeprefix(_BOM).rstrip(b"\r\n")
    return data + b"\n" if data else data


def _header(line, delimiter, path):
    try:
        (names,) = csv.reader([line.decode("utf-8").strip("\r")], delimiter=delimiter)
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"line 1: the header cannot be read: {error}", where=f"{path}:1") from error
    names = [name.strip() for name in names]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"line 1: two columns are called {twice!r}", where=f"{path}:1")
    return names


def _parse(data, names, delimiter):
    columns = [name or f"unnamed {index}" for index, name in enumerate(names)]
    return pacsv.read_csv(
        io.BytesIO(data),
        pacsv.ReadOptions(column_names=columns, skip_rows=1),
        pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=False),
        pacsv.ConvertOptions(
            column_types={name: pa.string() for name in columns},
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
        ),
    )


def _find_fault(data, names, delimiter, path):
    """Raises the error of the first line that is not one record of the header's columns."""
    for number, line in enumerate(data.split(b"\n")[1:], start=2):
        if not line and number == data.count(b"\n") + 1:
            return
        where = f"{path}:{number}"
        try:
            text = line.removesuffix(b"\r").decode("utf-8")
            if text.count('"') % 2:
                column = names[min(text[: text.index('"')].count(delimiter), len(names) - 1)]
                raise DataError(
                    f"line {number}, column {column}: a quote is not closed", where=where
                )
            fields = next(csv.reader([text], delimiter=delimiter, strict=True), [])
        except UnicodeDecodeError as error:
            before = line[: error.start].count(delimiter.encode())
            column = names[min(before, len(names) - 1)]
            what = f"line {number}, column {column}: byte {line[error.start]:#x} is not UTF-8"
            raise DataError(what, where=where) from error
        except csv.Error as error:
            raise DataError(f"line {number}: {error}", where=where) from error
        if len(fields) != len(names):
            last = names[min(len(fields), len(names)) - 1]
            what = f"line {number}: {len(fields)} fields, the header has {len(names)} columns"
            raise DataError(f"{what} (up to column {last})", where=where)


def _first(mask) -> int | None:
    """The first true place of a mask; None where there is none."""
    index = pc.index(mask, True).as_py()
    return None if index < 0 else index
