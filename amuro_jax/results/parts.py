"""Rows of scores that are not finished: an adaptive study scores a set in parts. No jax.

`<workdir>/parts/<key of the score>/<first>-<end>-of-<total>.json` holds rows of the set in one
random order that all checkpoints share, so that a part is an unbiased sample and two
checkpoints are compared on the same rows. No part is a finished score: only a score with all its
rows is a cell.
"""

import dataclasses
import hashlib
import json

import numpy as np

from amuro_jax.storage import Storage

FOLDER = "parts"


@dataclasses.dataclass(frozen=True)
class Scored:
    """The rows of a score that are there.

    Attributes:
        rows: by place in the set.
        count: how many; they are the first ones of `drawn(total)`.
        total: rows of the set.
        seconds: that they took.
    """

    rows: dict[int, dict]
    count: int
    total: int
    seconds: float

    def scores(self) -> np.ndarray:
        """Scores of the rows in the order in which they are drawn [count]."""
        order = drawn(self.total)[: self.count]
        return np.array([self.rows[place]["score"] for place in order], float)


def drawn(total: int) -> tuple[int, ...]:
    """The random order in which the rows of a set of this size are scored: their places."""
    return tuple(np.random.default_rng(1).permutation(total).tolist())


class Parts:
    """The parts in a work folder."""

    def __init__(self, storage: Storage):
        self.storage = storage

    def read(self, key: str) -> Scored | None:
        """What there is of a score; None where there is nothing. A damaged part is removed: its
        rows are scored again.
        """
        rows, count, total, seconds = {}, 0, 0, 0.0
        for part in self._chain(key, self.storage.names(f"{FOLDER}/{key}")):
            content = _unsealed(self.storage.get(part.name))
            if content is None:
                self.storage.delete(part.name)
                break
            places = sorted(drawn(part.total)[part.first : part.end])
            rows |= dict(zip(places, content["rows"], strict=True))
            count, total, seconds = part.end, part.total, seconds + content["seconds"]
        return Scored(rows, count, total, seconds) if count else None

    def add(self, key: str, first: int, total: int, rows: list[dict], seconds: float) -> None:
        """Writes the rows from `first` on in the drawn order.

        Args:
            rows: in the order of the set.
        """
        text = json.dumps({"seconds": seconds, "rows": rows}, ensure_ascii=False)
        checksum = hashlib.sha256(text.encode()).hexdigest()
        part = _Part(key, first, first + len(rows), total)
        self.storage.replace(part.name, f"{checksum}\n{text}\n")

    def remove(self, key: str) -> None:
        """Removes the parts of a score, once it is finished."""
        self.storage.delete(f"{FOLDER}/{key}")

    def counts(self) -> dict[str, tuple[int, int]]:
        """Rows that are there and rows of the set, by key: from the names of files alone."""
        names: dict[str, list[str]] = {}
        for name in self.storage.names(FOLDER):
            names.setdefault(name.split("/")[1], []).append(name)
        chains = {key: self._chain(key, each) for key, each in names.items()}
        return {key: (chain[-1].end, chain[-1].total) for key, chain in chains.items() if chain}

    def _chain(self, key, names):
        """The parts of a score, each of which begins where the one before ends."""
        chain = []
        for part in sorted((_Part.named(key, name) for name in names), key=lambda one: one.first):
            if part.first == (chain[-1].end if chain else 0):
                chain.append(part)
        return chain


@dataclasses.dataclass(frozen=True)
class _Part:
    """Rows `first` … `end` of a set of `total`, in the drawn order."""

    key: str
    first: int
    end: int
    total: int

    @classmethod
    def named(cls, key: str, name: str) -> "_Part":
        span, _, total = name.rpartition("/")[2].removesuffix(".json").partition("-of-")
        first, end = span.split("-")
        return cls(key, int(first), int(end), int(total))

    @property
    def name(self) -> str:
        return f"{FOLDER}/{self.key}/{self.first}-{self.end}-of-{self.total}.json"


def _unsealed(data):
    """The content of a part; None where it is not what was written."""
    checksum, _, text = (data or b"").partition(b"\n")
    text = text.removesuffix(b"\n")
    return json.loads(text) if hashlib.sha256(text).hexdigest().encode() == checksum else None
