"""The rows behind a study's scores, for the page's script: in the page as far as they leave it
small, else one score at a time from `amuro report --serve`. No jax.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from amuro_jax.records import ScoreRecord
from amuro_jax.report.payload import number, packed
from amuro_jax.report.prompts import Prompt, Prompts
from amuro_jax.results.results import Results
from amuro_jax.results.store import Store

LOGPROB_DIGITS = 3
# The page stays under 5 MB: figures, tables and scores of the study's own grid take less than 2.
MOST_CHARACTERS = 2_800_000
# Packing takes a second per 10,000 rows; a set of more rows would not fit anyway.
MOST_ROWS = 200_000

ROW_COLUMNS = (
    "row",
    "gold",
    "reference",
    "predicted",
    "prediction",
    "score",
    "choice_logprobs",
    "choice_tokens",
    "choice_logprobs_unconditional",
    "label_mass",
    "dropped_shots",
    "cut_tokens",
)


def columns_of(frame: pd.DataFrame) -> dict:
    """The rows of one score for the script, in columns; those that are empty are left out."""
    frame = frame.sort_values("row")
    columns = {}
    for name in ROW_COLUMNS:
        if name in frame and not frame[name].isna().all():
            values = [_row_value(value) for value in frame[name]]
            if any(value not in (None, 0) for value in values) or name in ("row", "gold", "score"):
                columns[name] = values
    return columns


def _row_value(value):
    if isinstance(value, np.ndarray | list | tuple):
        return [number(one, LOGPROB_DIGITS) for one in value]
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return None
    return float(f"{value:.4g}") if isinstance(value, float) else int(value)


def prompt_values(prompt: Prompt) -> list:
    """A prompt for the script: text, characters of shots, token lengths, choices."""
    return [prompt.text, prompt.shots, list(prompt.tokens), list(prompt.choices)]


def prompts_of(prompts: Prompts, record: ScoreRecord, frame: pd.DataFrame) -> dict[str, list]:
    """The prompts of a score's rows for the script, by row."""
    hashes = dict(zip(frame["row"], frame.get("prompt_sha256", [""] * len(frame)), strict=True))
    return {str(row): prompt_values(one) for row, one in prompts.of(record, hashes).items()}


def embedded(
    store: Store, results: Results, scored: Mapping[str, ScoreRecord], prompts: Prompts
) -> list[tuple[str, str]]:
    """(element's id, packed rows and prompts) of the sets that the page can carry, in the study's
    order; a set that is too large is passed over.
    """
    parts, characters, rows = [], MOST_CHARACTERS, MOST_ROWS
    for index, task in enumerate(results.tasks()):
        cells = results.cells[results.cells["task"] == task].drop_duplicates("key")
        cells = cells[[not scored[key].imported for key in cells["key"]]]
        if cells.empty or cells["n"].sum() > rows:
            continue
        text = packed(_of_set(store, cells["key"], scored, prompts))
        if len(text) <= characters:
            parts.append((f"rows-of-{index}", text))
            characters, rows = characters - len(text), rows - int(cells["n"].sum())
    return parts


def _of_set(store, keys, scored, prompts):
    rows, views = {}, {}
    for key in keys:
        frame, record = store.rows(scored[key].key), scored[key]
        rows[key] = columns_of(frame)
        view = f"{record.format} {record.shots}"
        if view not in views:  # the same for every model, as the hashes say
            views[view] = prompts_of(prompts, record, frame)
    return {"rows": rows, "prompts": views}
