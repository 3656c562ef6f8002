"""Finished cells of a work folder, each whole or absent, and the log of cells.

A `Store` works in a folder and in an object store.
"""

import os
import socket
import uuid
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from amuro_jax import parquet
from amuro_jax.claims import Claim
from amuro_jax.errors import AmuroError, DataError
from amuro_jax.records import ScoreRecord, TrainRecord, from_json, to_json
from amuro_jax.results import imported, index, sealed
from amuro_jax.results.plan import PLAN
from amuro_jax.storage import Storage

LOG = "cells.log"
_RUN = uuid.uuid4().hex[:8]  # tells the processes of one log apart
# What a score is a number of, whatever determines it besides.
IDENTITY = ["checkpoint", "tuned_on", "variant", "seed", "task", "format", "shots"]
_ORDER = ["step", *IDENTITY[1:], "checkpoint", "key"]


class Store:
    """Finished cells of a work folder, on a disk or in an object store.

    Attributes:
        storage: the work folder.
        claim: checked before every commit, where there is one.
        damaged: cells that are there and cannot be used, why by key: known after `problem`,
            `frame`, `query` or `refresh` has met them. They count as not done.
    """

    def __init__(self, storage: Storage, claim: Claim | None = None):
        self.storage, self.claim, self.damaged = storage, claim, {}
        self._table = self._lines = self._places = None

    @classmethod
    def open(cls, url, claim: Claim | None = None) -> "Store":
        """The store of a work folder (path, URL or `Storage`); nothing is read or made yet."""
        return cls(Storage.open(url), claim)

    @classmethod
    def existing(cls, url) -> "Store":
        """The store of a work folder that has one.

        Raises:
            AmuroError: the folder has neither a finished cell nor the plan of a study: its name is
                probably misspelt.
        """
        store = cls.open(url)
        if not store.keys() and not store.damaged and store.storage.get(PLAN) is None:
            hint = "run `amuro study` or `amuro import` with this workdir first"
            raise AmuroError("no results here", where=store.storage.url, hint=hint)
        return store

    def cell(self, key: str) -> Storage:
        """The folder of a cell."""
        return self.storage.child(sealed.CELLS, key)

    def is_done(self, key: str) -> bool:
        """Whether a cell is finished and can be read: a damaged one is computed again."""
        return self.problem(key) == ""

    def problem(self, key: str) -> str | None:
        """None: there is no such cell; "": it is finished; else what is wrong with it, and where.

        The record is compared with its checksum, the rows with the size that was written: their
        checksum is compared when they are read (`rows`, `verify`).
        """
        self.damaged.pop(key, None)
        try:
            stored = self._stored(key)
            if stored is None:
                return None
            if stored.rows_bytes is not None:
                size = self.cell(key).size(sealed.ROWS)
                sealed.check_size(stored, size, self._where(key, sealed.ROWS))
        except DataError as error:
            self.damaged[key] = error.what
            return f"{error.where}: {error.what}"
        return ""

    def commit(
        self, record: ScoreRecord | TrainRecord, rows=None, claim: Claim | None = None
    ) -> None:
        """Writes a cell: its rows, then the record, which makes it present.

        Args:
            rows: a data frame, or one dict per test row.
            claim: in place of the store's own.

        Raises:
            AmuroError: the claim is lost (nothing is written), or the storage refuses.
        """
        data = None if rows is None else sealed.rows_bytes(rows)
        files = {} if data is None else {sealed.ROWS: data}
        files[sealed.RECORD] = sealed.seal(to_json(record), data)
        self.cell(record.key).commit(files, sealed.RECORD, claim or self.claim)
        self.damaged.pop(record.key, None)
        self._table = None

    def read(self, key: str) -> ScoreRecord | TrainRecord:
        """The record of a cell; of an imported score what its source says.

        Raises:
            DataError: there is none, or it is damaged.
        """
        stored = self._stored(key)
        if stored is None and (line := self._imported_line(key)) is not None:
            return imported.record_of(line)
        return from_json(self._present(key).record, where=self._where(key, sealed.RECORD))

    def rows(self, key: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of a score cell, or some of their columns.

        Raises:
            DataError: they are missing, cut off or changed by a single byte; it names the file.
                Or the score was imported and has none.
        """
        return parquet.read(self._rows_bytes(key), columns or None).to_pandas()

    def rows_table(self, key: str) -> pa.Table:
        """`rows` as an Arrow table."""
        return parquet.read(self._rows_bytes(key))

    def scores(self, key: str, rows_sha256: str) -> pd.Series:
        """Scores by row of a cell whose rows have this checksum (as the index has it), so that its
        record is not read again.

        Raises:
            DataError: the rows are missing, or are not those.
        """
        table = parquet.read(self.rows_bytes(key, rows_sha256), ["row", "score"])
        rows, scores = (table[name].to_numpy() for name in ("row", "score"))
        order = np.argsort(rows, kind="stable")
        return pd.Series(scores[order], pd.Index(rows[order], name="row"), name="score")

    def rows_bytes(self, key: str, rows_sha256: str) -> bytes:
        """The file of a cell's rows, which have this checksum (as the index has it).

        Raises:
            DataError: they are missing, or are not those.
        """
        where, data = self._where(key, sealed.ROWS), self.cell(key).get(sealed.ROWS)
        if data is None:
            raise DataError("the rows are missing", where=where, hint=sealed.HINT)
        return sealed.check_rows(sealed.Stored({}, len(data), rows_sha256), data, where)

    def record_bytes(self, key: str) -> bytes:
        """The file of a cell's record as it is: who reads it compares it with its checksum.

        Raises:
            AmuroError: there is none.
        """
        return self.cell(key).read_bytes(sealed.RECORD)

    def _rows_bytes(self, key):
        stored, where = self._stored(key), self._where(key, sealed.ROWS)
        if stored is None and (line := self._imported_line(key)) is not None:
            source = f"{line['imported']}:{line['line']}"
            raise DataError("the score was imported, it has no rows", where=source)
        stored = stored or self._present(key)
        return sealed.check_rows(stored, self.cell(key).get(sealed.ROWS), where)

    def refresh(self) -> None:
        """Looks at the storage again; `frame` and `query` do so at first and after a commit."""
        own, self.damaged = index.refresh(self.storage)
        lines = imported.read(self.storage)
        if lines.num_rows:  # a score that came with rows is a cell of its own
            lines = lines.filter(pc.invert(pc.is_in(lines["key"], own["key"].combine_chunks())))
        self._lines, self._places = lines, None
        own = own.drop_columns(["stamp"]).replace_schema_metadata(None)
        self._table = pa.concat_tables([own, self._lines])

    def is_imported(self, key: str) -> bool:
        """Whether a score came in by a table of another program: then it has no files here."""
        return key in self._imported_places()

    def keys(self) -> set[str]:
        """Keys of all finished cells."""
        return set(self._index()["key"].to_pylist())

    def records(self, kind: str = "score") -> list[ScoreRecord | TrainRecord]:
        """Records of all finished cells of a kind (score, train, probe), as `frame` orders them."""
        return [self.read(key) for key in self.query({"kind": kind}, ["key"])["key"]]

    def frame(self, kind: str = "score") -> pd.DataFrame:
        """One line per finished cell of a kind (score, train, probe), columns `index.COLUMNS`."""
        return self.query({"kind": kind})

    def query(
        self, where: Mapping[str, object] | None = None, columns: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Lines of the index, by step, fine-tuning set, variant, set, format and shots.

        Args:
            where: column → the value it must have, or a list, tuple or set of values.
            columns: of `index.COLUMNS`; empty: all.

        Raises:
            AmuroError: an unknown column.
        """
        where = dict(where or {})
        for name in (*where, *columns):
            if name not in index.COLUMNS:
                known = ", ".join(index.COLUMNS)
                raise AmuroError(
                    f"no column {name!r}", where=self.storage, hint=f"columns: {known}"
                )
        table = self._index()
        for name, values in where.items():
            values = list(values) if isinstance(values, list | tuple | set) else [values]
            allowed = pa.array(values, index.COLUMNS[name])
            table = table.filter(pc.is_in(table[name], value_set=allowed))
        table = table.sort_by([(name, "ascending") for name in _ORDER])
        return table.select(list(columns) or list(index.COLUMNS)).to_pandas()

    def table(self) -> pa.Table:
        """Every finished score as an Arrow table, columns `index.COLUMNS`, in the order of
        `query`.
        """
        table = self._index()
        table = table.filter(pc.equal(table["kind"], "score"))
        return table.sort_by([(name, "ascending") for name in _ORDER])

    def verify(self) -> dict[str, str]:
        """Reads the rows of every cell and compares checksums; what is damaged, why by key."""
        self.refresh()
        for key in sorted(self.keys() - self._imported_places().keys()):
            where = self._where(key, sealed.ROWS)
            try:
                stored = self._present(key)
                if stored.rows_sha256 is not None:
                    sealed.check_rows(stored, self.cell(key).get(sealed.ROWS), where)
            except DataError as error:
                self.damaged[key] = error.what
        return self.damaged

    def log(self, event: str, key: str, label: str, **more) -> None:
        """Appends a line to `cells.log`: event is started, finished, failed, or compiled (of a
        whole run). A process that has lost the store's claim writes none.
        """
        if self.claim is None or self.claim.lost is None:
            who = {"pid": os.getpid(), "host": socket.gethostname(), "run": _RUN}
            line = {"event": event, "key": key, "cell": label, **more}
            self.storage.append(LOG, who | line)

    def read_log(self) -> list[dict]:
        """Lines of `cells.log` in the order of time; one that a kill cut off is left out."""
        return self.storage.read_log(LOG)

    def _index(self):
        if self._table is None:
            self.refresh()
        return self._table

    def _imported_line(self, key) -> dict | None:
        """The line of an imported score, from its key."""
        position = self._imported_places().get(key)
        return None if position is None else self._lines.slice(position, 1).to_pylist()[0]

    def _imported_places(self):
        self._index()
        if self._places is None:
            self._places = {key: at for at, key in enumerate(self._lines["key"].to_pylist())}
        return self._places

    def _where(self, key, name):
        return self.cell(key).where(name)

    def _stored(self, key):
        data = self.cell(key).get(sealed.RECORD)
        return None if data is None else sealed.unseal(data, key, self._where(key, sealed.RECORD))

    def _present(self, key):
        stored = self._stored(key)
        if stored is None:
            raise DataError(f"no cell {key}", where=self._where(key, sealed.RECORD))
        return stored
