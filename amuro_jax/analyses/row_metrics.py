"""What the rows behind a curve say, example by example: score, log-probability of the gold answer,
margin, bits per byte. No jax.
"""

import dataclasses
import math

import numpy as np

from amuro_jax.analyses.series import Series

SCORE, GOLD, MARGIN, BITS = "score", "gold_logprob", "margin", "bits_per_byte"


@dataclasses.dataclass(frozen=True)
class RowCurves:
    """The rows of one curve, those that every checkpoint has.

    Attributes:
        rows: numbers of the test rows [R].
        doc_ids, groups: of each [R]; a group is "" where the set has none.
        values: metric → [R, N] over the curve's N checkpoints; of generated text the score alone.
        left_out: rows that some checkpoint lacks.
    """

    rows: np.ndarray
    doc_ids: np.ndarray
    groups: np.ndarray
    values: dict[str, np.ndarray]
    left_out: int


def row_curves(one: Series) -> RowCurves | None:
    """The rows of a base or fine-tuned curve; None where a cell has none (imported tables)."""
    if not one.records or any(len(cells) > 1 for cells in one.records):
        return None
    cells = [_cell(one.results, records[0]["key"]) for records in one.records]
    if any(cell is None for cell in cells):
        return None
    shared = cells[0][_ROWS]
    if any(not np.array_equal(cell[_ROWS], shared) for cell in cells):
        for cell in cells[1:]:
            shared = shared[np.isin(shared, cell[_ROWS])]
    left_out = max(len(cell[_ROWS]) for cell in cells) - len(shared)
    names = set.intersection(*map(set, cells))
    values = {
        name: np.stack([_of_rows(cell, name, shared) for cell in cells], axis=1)
        for name in (SCORE, GOLD, MARGIN, BITS)
        if name in names
    }
    first = one.results.rows(one.records[0][0]["key"]).drop_duplicates("row").set_index("row")
    first = first.loc[shared]
    return RowCurves(
        shared,
        first["doc_id"].to_numpy(str) if "doc_id" in first else shared.astype(str),
        first["group"].fillna("").to_numpy(str) if "group" in first else np.full(len(shared), ""),
        values,
        left_out,
    )


_KEPT, _ROWS = "rows of cells", "row"
_NEEDED = ("row", "score", "gold", "choice_logprobs", "choice_chars", "reference")
_MOST_BYTES = 1 << 28  # of rows that are kept, so that each table does not read them again


def _cell(results, key):
    """Row numbers [R] and metric → values [R] of one cell; None where it has no rows."""
    kept = results.derived.setdefault(_KEPT, {})
    if key not in kept:
        frame = results.rows(key, _NEEDED)
        if frame is None:
            return None
        frame = frame.drop_duplicates("row")
        made = {_ROWS: frame["row"].to_numpy(), **row_values(frame)}
        if (len(kept) + 1) * sum(one.nbytes for one in made.values()) > _MOST_BYTES:
            kept.clear()  # cells of one store are of about one size
        kept[key] = made
    return kept[key]


def _of_rows(cell, name, rows):
    """A metric of these rows of a cell, in their order."""
    if np.array_equal(cell[_ROWS], rows):
        return cell[name]
    order = np.argsort(cell[_ROWS], kind="stable")
    return cell[name][order[np.searchsorted(cell[_ROWS], rows, sorter=order)]]


def row_values(frame) -> dict[str, np.ndarray]:
    """Metric → values [R] of one cell's rows."""
    metrics = {SCORE: frame["score"].to_numpy(float)}
    if "choice_logprobs" not in frame or frame["gold"].isna().any():
        return metrics
    gold = frame["gold"].to_numpy(int)
    padded = _padded(frame["choice_logprobs"])
    rows = np.arange(len(frame))
    of_gold = padded[rows, gold]
    others = padded.copy()
    others[rows, gold] = -np.inf
    metrics |= {GOLD: of_gold, MARGIN: of_gold - others.max(axis=1)}
    if "choice_chars" in frame and "reference" in frame:
        characters = _padded(frame["choice_chars"])[rows, gold]
        metrics[BITS] = -of_gold / math.log(2) / (characters * _bytes_each(frame["reference"]))
    return {name: values for name, values in metrics.items() if np.isfinite(values).all()}


def _padded(lists):
    width = max(map(len, lists))
    padded = np.full((len(lists), width), -np.inf)
    for index, one in enumerate(lists):
        padded[index, : len(one)] = one
    return padded


def _bytes_each(texts):
    """Bytes per character of each text; 1 where there is none."""
    return np.array([len(str(text).encode()) / max(len(str(text)), 1) for text in texts])
