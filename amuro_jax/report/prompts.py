"""Prompts as models got them, rendered again from the data: the store keeps only their hashes. A
prompt is shown where its hash is the stored one, and only there. No jax.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping

from amuro_jax.data import queries
from amuro_jax.data.protocols import resolve
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer, open_tokenizer
from amuro_jax.errors import AmuroError
from amuro_jax.evals.prepare import prompt_hash
from amuro_jax.records import ScoreRecord


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The context of one row.

    Attributes:
        text: all of it.
        shots: characters at its start that are shots.
        tokens: lengths of its tokens in characters; empty where the tokenizer is not at hand.
        choices: the candidates, each in its first form; empty for generated text.
    """

    text: str
    shots: int
    tokens: tuple[int, ...]
    choices: tuple[str, ...]


class Prompts:
    """Prompts of a study's scores; those of all checkpoints that share them are rendered once.

    Args:
        data_root: folder of the data sets, as the study had it.
        task_files: name → YAML file of the study's own sets.
    """

    def __init__(self, data_root: str, task_files: Mapping[str, str] | None = None):
        self._root, self._task_files = data_root, task_files or {}
        self._tokenizers: dict[str, Tokenizer | None] = {}
        self._made: dict[tuple, dict[int, Prompt]] = {}

    def of(self, record: ScoreRecord, hashes: Mapping[int, str]) -> dict[int, Prompt]:
        """Row → prompt of a score, of the rows whose prompt hashes to what was stored; empty where
        the data is not at hand any more.
        """
        rendered = self._render(record)
        return {
            row: prompt
            for row, prompt in rendered.items()
            if prompt_hash(prompt.text) == hashes.get(row)
        }

    def _render(self, record):
        view = (record.task, record.format, record.shots, record.protocol, record.context)
        key = (*view, record.scoring, record.provenance.tokenizer)
        if key not in self._made:
            # Data that was moved or changed since is no fault of the report.
            with contextlib.suppress(AmuroError, OSError):
                self._made[key] = self._rendered(record)
            self._made.setdefault(key, {})
        return self._made[key]

    def _rendered(self, record):
        scoring, tokenizer = record.scoring, self._tokenizer(record)
        options = {
            "protocol": resolve(scoring.protocol, scoring.quirks),
            "tokenizer": tokenizer,
            "data_root": self._root,
            "max_length": record.context,
            "max_new_tokens": scoring.max_new_tokens,
            "rows": scoring.rows or 0,
            "shot_seed": scoring.shot_seed,
        }
        task = get_task(self._task_files.get(record.task, record.task))
        built = queries.build_queries(task, record.format, record.shots, **options)
        bare = built
        if record.shots:
            bare = queries.build_queries(task, record.format, 0, **options, shot_texts=())
        alone = {query.row: query.context for query in bare}
        cut = _token_lengths([query.context for query in built], tokenizer)
        return {
            query.row: Prompt(
                query.context,
                _shots(query.context, alone.get(query.row, "")),
                tokens,
                tuple(forms[0] for forms in query.continuations),
            )
            for query, tokens in zip(built, cut, strict=True)
        }

    def _tokenizer(self, record):
        """The checkpoint's tokenizer where it is still where it was and the same."""
        source = str(record.provenance.checkpoint.get("source", ""))
        if source not in self._tokenizers:
            self._tokenizers[source] = None
            with contextlib.suppress(AmuroError, OSError):
                self._tokenizers[source] = open_tokenizer(source)
        tokenizer = self._tokenizers[source]
        return (
            tokenizer
            if tokenizer and tokenizer.fingerprint == record.provenance.tokenizer
            else None
        )


def _shots(context, alone):
    return len(context) - len(alone) if alone and context.endswith(alone) else 0


def _token_lengths(texts, tokenizer):
    if tokenizer is None:
        return [()] * len(texts)
    lengths = []
    for text, (_, offsets) in zip(
        texts, tokenizer.encode_batch_with_offsets(texts, 0), strict=True
    ):
        starts = sorted({0, *(start for start, _ in offsets)})
        lengths.append(tuple(b - a for a, b in itertools.pairwise([*starts, len(text)])))
    return lengths
