"""The work of a study: its models and cells with keys, what is done, and an estimate of what is left."""

import dataclasses
from pathlib import Path

from amuro_jax.config import FineTune, StudyConfig, split_names
from amuro_jax.study import grid, store
from amuro_jax.study.grid import ScoreSpec


@dataclasses.dataclass(frozen=True)
class Model:
    """One model of the study: a checkpoint, and what it is fine-tuned on ("" for base)."""

    checkpoint: str  # what `convert.open_checkpoint` takes
    revision: str
    step: int | None
    tokens: int | None
    tuned_on: str = ""

    def label(self) -> str:
        """`step1000-tokens4M base`, `step1000-tokens4M + lab_nli`."""
        return f"{self.revision} + {self.tuned_on}" if self.tuned_on else f"{self.revision} base"


def models_of(config: StudyConfig, revisions) -> list[Model]:
    """Per checkpoint the base model, then its fine-tuned ones, in the order of training."""
    made = []
    for revision in revisions:
        base = Model(revision.name, revision.revision, revision.step, revision.tokens)
        made += [base, *(dataclasses.replace(base, tuned_on=fine_tune.task) for fine_tune in config.fine_tunes)]
    return made


def fine_tune_of(config: StudyConfig, model: Model) -> FineTune:
    """The recipe entry of a fine-tuned model."""
    return next(entry for entry in config.fine_tunes if entry.task == model.tuned_on)


def specs_of(config: StudyConfig, model: Model) -> list[ScoreSpec]:
    """What a model is scored on."""
    return grid.score_specs(config, model.tuned_on)


def describe(config: StudyConfig, revisions) -> str:
    """What `--dry_run` prints: every cell with its state, counts, and an estimate from the finished cells' times."""
    models, finished = models_of(config, revisions), _finished(config)
    lines, left = [], {"train": 0, "score": 0}
    for model in models:
        specs = specs_of(config, model)
        done = {(c["task"], c["format"], c["shots"]) for c in finished.get((model.revision, model.tuned_on), [])}
        for spec in specs:
            state = "done" if (spec.task, spec.format, spec.shots) in done else "to do"
            left["score"] += state == "to do"
            lines.append(f"  {state:<6} score  {model.label():<40} {spec.role:<16} {spec.label()}")
        missing = len(done) < len(specs)
        if model.tuned_on:
            left["train"] += missing
            lines.append(f"  {'to do' if missing else 'done':<6} train  {model.label()}")
    total = sum(len(specs_of(config, model)) for model in models)
    head = f"{len(revisions)} checkpoints × {1 + len(config.fine_tunes)} models, {total} scores; to do: {left['train']} fine-tunings, {left['score']} scores"
    return "\n".join([head, *lines, _estimate(config, left)])


def _finished(config):
    found: dict[tuple[str, str], list[dict]] = {}
    if (Path(config.workdir) / "cells").is_dir():
        for record in store.records(config.workdir):
            found.setdefault((record["model"]["checkpoint"], record["model"]["tuned_on"]), []).append(record["specification"])
    return found


def _estimate(config, left):
    """Mean seconds of finished cells times what is left; without finished cells, what there is to train in examples."""
    if (Path(config.workdir) / "cells").is_dir():
        means = {}
        for kind in left:
            seconds = [record["seconds"] for record in store.records(config.workdir, kind)]
            means[kind] = sum(seconds) / len(seconds) if seconds else None
        if all(means[kind] is not None or not left[kind] for kind in left):
            rest = sum(left[kind] * (means[kind] or 0) for kind in left)
            return f"estimate: {rest / 60:.1f} minutes, from the finished cells' mean times (no compilation counted)"
    rows = sum((entry.rows or config.train.rows) * (entry.epochs or config.train.epochs) for entry in config.fine_tunes)
    formats = ", ".join(split_names(config.formats))
    return f"estimate: no finished cell to go by yet; each checkpoint trains on {rows:,} rows in all; formats {formats}; a time follows after the first cells"
