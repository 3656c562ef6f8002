"""How a number was made, for a reader who wants to make it again: the parts of its key, and the
flags of the commands that compute it. No jax.
"""

import dataclasses
from collections.abc import Iterable

from amuro_jax.config import Recipe, Scoring
from amuro_jax.records import ScoreRecord, TrainRecord


def key_parts(record: ScoreRecord) -> dict[str, str]:
    """What determines a score besides model, set, format and shots, in words; equal for many. Of an
    imported score only where it comes from is known.
    """
    if record.imported:
        checksum = record.provenance.checkpoint.get("source_sha256") or ""
        return {"imported from": f"{record.imported}, SHA-256 {checksum[:16]}"}
    scoring, source = record.scoring, record.provenance
    on = [name for name, value in record.switches.items() if value]
    limit = f", at most {scoring.max_new_tokens} new tokens" if record.method == "generate" else ""
    parts = {
        "protocol": record.protocol + (f" (switches on: {', '.join(on)})" if on else ""),
        "method": record.method + limit,
        "rows": f"{scoring.rows or 'all'} of split {record.split}, shots drawn with seed "
        f"{scoring.shot_seed}",
        "interval": f"bootstrap over rows, {scoring.bootstrap} resamples, seed "
        f"{scoring.bootstrap_seed}",
        "arithmetic": f"{scoring.dtype}, context of {record.context} tokens",
        "data": ", ".join(f"{split} {digest[:16]}" for split, digest in source.data.items()),
        "tokenizer": source.tokenizer[:16],
        "software": f"amuro_jax {source.code}, jax {source.jax}, {source.devices}",
    }
    return {name: text for name, text in parts.items() if text}


def score_flags(record: ScoreRecord, data_root: str, task: str | None = None) -> list[str]:
    """Flags of `amuro score` for a record, but for its checkpoint and workdir.

    Args:
        task: the set's YAML file; None: it goes by its name.
    """
    formats = [] if record.format == "default" else [f"--config.formats={record.format}"]
    return [
        f"--config.tasks={task or record.task}",
        *formats,
        f"--config.shots={record.shots}",
        *_changed(record.scoring, Scoring(), "--config.scoring"),
        f"--config.data_root={data_root}",
    ]


def train_flags(records: Iterable[TrainRecord]) -> dict[str, list[str]]:
    """Per fine-tuning set the flags of `amuro train`, but for checkpoint, data and workdir."""
    return {
        record.model.tuned_on: _changed(record.recipe, Recipe(), "--config.recipe")
        for record in records
    }


def _changed(block, usual, prefix):
    return [
        f"{prefix}.{field.name}={_text(getattr(block, field.name))}"
        for field in dataclasses.fields(block)
        if getattr(block, field.name) != getattr(usual, field.name)
    ]


def _text(value):
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)
