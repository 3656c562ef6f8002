"""The rows behind a study's scores, for the page's script: in the page as far as they leave it
small, else one score at a time from `amuro report --serve`. No jax.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from amuro_jax.records import ScoreRecord
from amuro_jax.report.payload import number, packed
from amuro_jax.report.prompts import Prompt, Prompts
from amuro_jax.results import pooled
from amuro_jax.results.results import Results
from amuro_jax.results.store import Store

LOGPROB_DIGITS = 3
_LEAST = 50  # characters that the rows of a score take: a set that cannot fit is not packed
MOST_PAGE = 4_900_000  # characters of the page: rows fill what scores, figures and tables leave
MOST_CHARACTERS = 2_800_000  # of rows: more make a page slow to open
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


def columns_of_score(store: Store, key: str) -> dict:
    """The rows of a score from its key. Of a mean over training seeds they are those of the first
    one, with the mean score of each row, and under `seeds` every seed's number, scores and answers.
    """
    members = pooled.members(key)
    columns = columns_of(store.rows(members[0]))
    if len(members) == 1:
        return columns
    frames = [store.rows(one, ["row", "score", "prediction"]) for one in members]
    frames = [frame.set_index("row").reindex(columns["row"]) for frame in frames]
    scores = np.stack([frame["score"].to_numpy(float) for frame in frames])
    columns["score"] = [number(one) for one in np.nanmean(scores, axis=0)]
    columns["seeds"] = {
        "seed": [store.read(one).model.seed for one in members],
        "score": [[number(one) for one in of_seed] for of_seed in scores],
        "prediction": [list(map(_row_value, frame["prediction"])) for frame in frames],
    }
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
    store: Store,
    results: Results,
    scored: Mapping[str, ScoreRecord],
    prompts: Prompts,
    page: int = 0,
) -> list[tuple[str, str]]:
    """(element's id, packed rows and prompts) of the sets that the page can carry, in the study's
    order; a set that is too large is passed over.

    Args:
        page: characters of the page without rows.
    """
    parts, characters, rows = [], min(MOST_CHARACTERS, MOST_PAGE - page), MOST_ROWS
    for index, task in enumerate(results.tasks()):
        cells = results.cells[results.cells["task"] == task].drop_duplicates("key")
        cells = cells[[not scored[key].imported for key in cells["key"]]]
        if cells.empty or cells["n"].sum() > rows or characters < _LEAST * len(cells):
            continue
        text = packed(_of_set(store, cells["key"], scored, prompts))
        if len(text) <= characters:
            parts.append((f"rows-of-{index}", text))
            characters, rows = characters - len(text), rows - int(cells["n"].sum())
    return parts


def _of_set(store, keys, scored, prompts):
    rows, views = {}, {}
    for key in keys:
        record = scored[key]
        rows[key] = columns_of_score(store, key)
        view = f"{record.format} {record.shots}"
        if view not in views:  # the same for every model, as the hashes say
            hashes = store.rows(record.key, ["row", "prompt_sha256"])
            views[view] = prompts_of(prompts, record, hashes)
    return {"rows": rows, "prompts": views}
