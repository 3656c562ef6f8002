"""Small stores written by hand, for tests of what is made of them."""

import dataclasses

from amuro_jax.config import Recipe, Scoring
from amuro_jax.records import ModelRef, Provenance, ScoreRecord, TrainRecord

FROM = Provenance("m" * 16, {"source": "x"}, "t", {"test": "d"}, "0", "0", "cpu", "2026-01-01")
ROWS = [{"row": row, "score": row / 4, "prediction": f"é {row}"} for row in range(4)]


def score(key="a" * 16, value=0.25, step=1, task="lab_nli", **more):
    """A record of a score."""
    model = ModelRef("suite", f"step{step}", step, 1000 * step, more.pop("tuned_on", ""))
    found = {"metric": "accuracy", "value": value, "stderr": 0.1, "n": 4, "extra": {"x": [1, None]}}
    record = ScoreRecord(
        key, model, task, "default", 1, "test", "", "token_prob", "strict", {"no_stop": False},
        Scoring(), found, FROM, 128, 1.5,
    )  # fmt: skip
    return dataclasses.replace(record, **more)


def training(key="f" * 16):
    """A record of a training."""
    model = ModelRef("suite", "step1", 1, 1000, "lab_nli")
    metrics = {"loss": 0.5, "steps": 7}
    return TrainRecord(key, model, Recipe(task="lab_nli"), "strict", {}, metrics, FROM, 2.0)


def harm(cells, key, name, change):
    """Changes the bytes of a file of a cell."""
    cell = cells.storage.child("cells", key)
    cell.replace(name, change(cell.read_bytes(name)))


def flip(data, at=None):
    """The bytes with one changed."""
    at = len(data) // 2 if at is None else at
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
