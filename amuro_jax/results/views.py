"""What a store holds as three flat tables for other tools: `cells`, `rows` and `requests`. No jax.

Columns are documented, typed and versioned (`SCHEMA`): a reader of this version finds the same
names with the same meaning in each later file of this version. Each Parquet file says its version,
and each of its columns what it means, in its metadata.
"""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from amuro_jax.config import misspelt
from amuro_jax.results import conditions, index
from amuro_jax.results.store import Store

SCHEMA = 1  # raised when a column is renamed, removed, or means something else
FOLDER = "views"
_BATCH = 200  # cells whose rows are in memory at once

CELL_MEANINGS = {
    "key": "content key: the folder under cells/, or of an imported score a hash of what it is",
    "suite": "series of checkpoints",
    "checkpoint": "revision of the series",
    "step": "pre-training step",
    "tokens": "pre-training tokens",
    "tuned_on": "fine-tuning set of the model; empty: the base model",
    "variant": "distinguishes models that were tuned on one set (seed, rank)",
    "task": "set that is scored",
    "format": "prompt format",
    "shots": "examples in the prompt",
    "split": "split that is scored",
    "primary": "multiple choice: how log-probabilities become a choice",
    "method": "how an answer is read off the model",
    "protocol": "protocol with switched quirks",
    "metric": "what the score is",
    "value": "score",
    "stderr": "standard error over test rows",
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
    "n": "scored rows",
    "majority": "score of always giving the most frequent answer",
    "chance": "score of guessing",
    "context": "the model's context in tokens",
    "seconds": "wall time of scoring",
    "imported": "file that the score was imported from; empty: computed here",
    "line": "line of that file",
    "source_sha256": "checksum of that file",
    "identity": "identity of the model's weights",
    "created": "when, ISO 8601, UTC",
    "rows_sha256": "checksum of the rows; missing: the cell has none",
}
PLACE = ("key", "suite", "checkpoint", "step", "tokens", "tuned_on", "variant")
_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
ROW_COLUMNS = {
    "task": (_TEXT, "set that is scored"),
    "format": (_TEXT, "prompt format"),
    "shots": (_WHOLE, "examples in the prompt"),
    "row": (_WHOLE, "number of the test row, from 0"),
    "doc_id": (_TEXT, "name of the row in its source"),
    "group": (_TEXT, "part of the set that the row belongs to"),
    "gold": (_WHOLE, "right choice, from 0; -1: unlabelled; missing: generation"),
    "predicted": (_WHOLE, "choice of the model; -1: none"),
    "correct": (pa.bool_(), "whether they are the same"),
    "score": (_REAL, "0 or 1, or ROUGE-L: the cell's value is its mean"),
    "prediction": (_TEXT, "answer of the model"),
    "reference": (_TEXT, "right answer"),
    "label_mass": (_REAL, "probability of all labels together"),
    "context_tokens": (_WHOLE, "tokens of the prompt"),
    "prompt_sha256": (_TEXT, "checksum of the prompt"),
    "shot_rows": (pa.list_(_TEXT), "rows that served as shots, split:row"),
    "dropped_shots": (_WHOLE, "shots left out to fit the context"),
    "cut_tokens": (_WHOLE, "tokens cut from the document to fit the context"),
    "ended": (_TEXT, "generation: what ended the text"),
}
REQUEST_COLUMNS = {
    "task": (_TEXT, "set that is scored"),
    "format": (_TEXT, "prompt format"),
    "shots": (_WHOLE, "examples in the prompt"),
    "row": (_WHOLE, "number of the test row, from 0"),
    "choice": (_WHOLE, "number of the choice, from 0"),
    "gold": (_WHOLE, "right choice"),
    "predicted": (_WHOLE, "choice of the model"),
    "logprob": (_REAL, "log-probability (natural) of the choice after the prompt"),
    "logprob_unconditional": (_REAL, "the same after the neutral prompt, where it was asked"),
    "tokens": (_REAL, "tokens of the choice"),
    "chars": (_REAL, "characters of the choice"),
}
_OF_CHOICES = {
    "logprob": "choice_logprobs",
    "logprob_unconditional": "choice_logprobs_unconditional",
    "tokens": "choice_tokens",
    "chars": "choice_chars",
}
VIEWS = ("cells", "rows", "requests")


def schema(view: str) -> pa.Schema:
    """Columns of a view with their types and, as metadata, their meanings."""
    cell = {name: (index.COLUMNS[name], text) for name, text in CELL_MEANINGS.items()}
    named = {name: cell[name] for name in PLACE}
    if view not in VIEWS:
        raise misspelt(view, VIEWS, where="view")
    columns = {
        "cells": cell,
        "rows": named | ROW_COLUMNS,
        "requests": {name: info for name, info in (named | REQUEST_COLUMNS).items()},
    }[view]
    fields = [
        pa.field(name, kind, metadata={"meaning": text}) for name, (kind, text) in columns.items()
    ]
    return pa.schema(fields, {"amuro_view": view, "amuro_view_schema": str(SCHEMA)})


def tables(store: Store, view: str, where: str = "", where_rows: str = "") -> Iterator[pa.Table]:
    """A view of the finished scores of a store, in parts.

    Args:
        where: condition on cells (`conditions.py`).
        where_rows: condition on the columns of the view `rows` or `requests`.

    Raises:
        ConfigError: an unknown view or column.
        DataError: damaged rows.
    """
    expected = schema(view)
    cells = conditions.select(store.table(), where).select(list(CELL_MEANINGS))
    if view == "cells":
        yield conditions.select(cells.cast(expected), where_rows)
        return
    cells = cells.filter(pc.is_valid(cells["rows_sha256"]))
    lines = cells.select(PLACE).to_pylist()
    for start in range(0, len(lines), _BATCH):
        parts = []
        for line in lines[start : start + _BATCH]:
            rows = store.rows_table(line["key"])
            part = rows if view == "rows" else _requests(rows)
            parts.append(_conform(part, line, expected))
        yield conditions.select(pa.concat_tables(parts), where_rows)
    if not lines:
        yield conditions.select(expected.empty_table(), where_rows)


def _conform(rows, named, expected):
    columns = []
    for field in expected:
        if field.name in named:
            column = pa.array([named[field.name]] * rows.num_rows, field.type)
        elif field.name in rows.column_names:
            column = pc.cast(rows[field.name], field.type)
        else:
            column = pa.nulls(rows.num_rows, field.type)
        columns.append(column)
    return pa.table(columns, expected)


def _requests(rows):
    """One line per row and choice."""
    if "choice_logprobs" not in rows.column_names:
        return pa.table({name: [] for name in ("row",)})
    rows = rows.filter(pc.is_valid(rows["choice_logprobs"]))
    lists = pc.fill_null(pc.list_value_length(rows["choice_logprobs"]), 0).to_pylist()
    indices = pa.array([index for index, size in enumerate(lists) for _ in range(size)], pa.int64())
    present = [name for name in REQUEST_COLUMNS if name in rows.column_names]
    flat = rows.select(present).take(indices)
    flat = flat.append_column("choice", pa.array([at for size in lists for at in range(size)]))
    for name, source in _OF_CHOICES.items():
        values = _flat(rows, source, lists)
        flat = flat.append_column(name, values)
    return flat


def _flat(rows, source, lists):
    if source not in rows.column_names:
        return pa.nulls(sum(lists), pa.float64())
    values = [
        value
        for nested, size in zip(rows[source].to_pylist(), lists, strict=True)
        for value in (nested if nested is not None else [None] * size)
    ]
    return pa.array(values, pa.float64())


def write(store: Store, views=VIEWS) -> list[str]:
    """Writes views as `<workdir>/views/<view>.parquet`; returns their paths."""
    written, folder = [], store.storage.child(FOLDER)
    for view in views:
        buffer = io.BytesIO()
        write_parquet(buffer, view, tables(store, view))
        folder.replace(f"{view}.parquet", buffer.getvalue())
        written.append(folder.where(f"{view}.parquet"))
    return written


def write_parquet(target, view: str, parts: Iterator[pa.Table]) -> None:
    """Writes the parts of a view as one Parquet file."""
    with pq.ParquetWriter(target, schema(view), compression="zstd") as writer:
        for part in parts:
            writer.write_table(part)
