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
    frames = [one.results.rows(cells[0]["key"]) for cells in one.records]
    if any(frame is None for frame in frames):
        return None
    frames = [frame.drop_duplicates("row").set_index("row") for frame in frames]
    shared = frames[0].index
    for frame in frames[1:]:
        shared = shared.intersection(frame.index)
    left_out = max(len(frame) for frame in frames) - len(shared)
    frames = [frame.loc[shared] for frame in frames]
    columns = [row_values(frame) for frame in frames]
    names = set.intersection(*(set(column) for column in columns))
    values = {name: np.stack([column[name] for column in columns], axis=1) for name in names}
    groups = frames[0]["group"].fillna("").to_numpy(str) if "group" in frames[0] else None
    return RowCurves(
        shared.to_numpy(),
        frames[0]["doc_id"].to_numpy(str) if "doc_id" in frames[0] else shared.to_numpy(str),
        np.full(len(shared), "") if groups is None else groups,
        {name: values[name] for name in (SCORE, GOLD, MARGIN, BITS) if name in values},
        left_out,
    )


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
