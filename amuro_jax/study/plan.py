"""The work of a study: its models and cells with keys, what is done, and an estimate of what is left."""

import dataclasses
from pathlib import Path

from amuro_jax import files
from amuro_jax.config import FineTune, StudyConfig, split_names, to_dict
from amuro_jax.study import grid, store
from amuro_jax.study.grid import ScoreSpec

PLAN = "study.json"


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


@dataclasses.dataclass
class Plan:
    """What a study asks for: `<workdir>/study.json`. The report and `--dry_run` read it; keys are known once a checkpoint was opened.

    Attributes:
        name, config: the study and its resolved configuration.
        checkpoints: names in the order of training.
        cells: one dict per wanted score with model, specification, owner, group and key (None: not known yet).
    """

    name: str
    config: dict
    checkpoints: list[str]
    cells: list[dict]

    def write(self, workdir) -> None:
        """Writes `study.json`."""
        files.write_json(Path(workdir) / PLAN, dataclasses.asdict(self))


def read_plan(workdir) -> Plan | None:
    """The plan of the last run in this folder; None where there was none."""
    path = Path(workdir) / PLAN
    return Plan(**files.read_json(path)) if path.exists() else None


def make_plan(config: StudyConfig, revisions) -> Plan:
    """The plan of a study, with the keys that the last run of the same study found out."""
    about = {entry.task: entry for entry in reversed(config.evals)}
    cells = [
        {
            "checkpoint": model.revision, "step": model.step, "tokens": model.tokens, "tuned_on": model.tuned_on, **dataclasses.asdict(spec),
            "of": about[spec.task].of, "group": about[spec.task].group, "key": None,
        }
        for model in models_of(config, revisions)
        for spec in specs_of(config, model)
    ]  # fmt: skip
    made = Plan(config.name, to_dict(config), [revision.revision for revision in revisions], cells)
    before = read_plan(config.workdir)
    if before and before.config == made.config:
        known = {identity(cell): cell["key"] for cell in before.cells}
        for cell in cells:
            cell["key"] = known.get(identity(cell))
    return made


def identity(cell: dict) -> tuple:
    """What tells the cells of one study apart."""
    return tuple(cell[name] for name in ("checkpoint", "tuned_on", "task", "format", "shots"))


def describe(config: StudyConfig, revisions) -> str:
    """What `--dry_run` prints: every cell with its state, counts, and an estimate from the finished cells' times."""
    made, models = make_plan(config, revisions), models_of(config, revisions)
    done = {identity(cell) for cell in made.cells if cell["key"] and store.is_done(config.workdir, cell["key"])}
    lines, left = [], {"train": 0, "score": 0}
    for model in models:
        specs = specs_of(config, model)
        todo = [spec for spec in specs if (model.revision, model.tuned_on, spec.task, spec.format, spec.shots) not in done]
        left["score"] += len(todo)
        left["train"] += bool(model.tuned_on and todo)
        if model.tuned_on:
            lines.append(f"  {'to do' if todo else 'done':<6} train  {model.label()}")
        lines += [f"  {'to do' if spec in todo else 'done':<6} score  {model.label():<40} {spec.role:<16} {spec.label()}" for spec in specs]
    head = f"{len(revisions)} checkpoints × {1 + len(config.fine_tunes)} models, {len(made.cells)} scores; "
    head += f"to do: {left['train']} fine-tunings, {left['score']} scores"
    before = read_plan(config.workdir)
    if before and before.config != made.config:
        head += "\n(the last run in this folder had another configuration; cells that it shares with this one are found when checkpoints are opened)"
    return "\n".join([head, *lines, _estimate(config, left)])


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
    return f"estimate: each checkpoint trains on {rows:,} rows in all (formats {formats}); a time follows after the first finished cells"
