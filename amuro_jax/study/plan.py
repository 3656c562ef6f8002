"""The work of a study: its models and cells with keys, what is done, and an estimate of what is
left.
"""

import collections
import dataclasses
from pathlib import Path

from amuro_jax import files
from amuro_jax.config import FineTune, StudyConfig, to_dict
from amuro_jax.results import store
from amuro_jax.study import grid
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
        made += [
            base,
            *(
                dataclasses.replace(base, tuned_on=fine_tune.task)
                for fine_tune in config.fine_tunes
            ),
        ]
    return made


def fine_tune_of(config: StudyConfig, model: Model) -> FineTune:
    """The recipe entry of a fine-tuned model."""
    return next(entry for entry in config.fine_tunes if entry.task == model.tuned_on)


def specs_of(config: StudyConfig, model: Model) -> list[ScoreSpec]:
    """What a model is scored on."""
    return grid.score_specs(config, model.tuned_on)


@dataclasses.dataclass
class Plan:
    """What a study asks for: `<workdir>/study.json`. The report and `--dry_run` read it; keys are
    known once a checkpoint was opened.

    Attributes:
        name, config: the study and its resolved configuration.
        checkpoints: names in the order of training.
        cells: one dict per wanted score with model, specification, owner, group and key (None: not
            known yet).
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
            "checkpoint": model.revision,
            "step": model.step,
            "tokens": model.tokens,
            "tuned_on": model.tuned_on,
            **dataclasses.asdict(spec),
            "of": about[spec.task].of,
            "group": about[spec.task].group,
            "key": None,
        }
        for model in models_of(config, revisions)
        for spec in specs_of(config, model)
    ]
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
    """What `--dry_run` prints: every cell with its state, counts, and an estimate from the finished
    cells' times.
    """
    made, models = make_plan(config, revisions), models_of(config, revisions)
    done = {
        identity(cell)
        for cell in made.cells
        if cell["key"] and store.is_done(config.workdir, cell["key"])
    }
    lines, left = [], {"train": collections.Counter(), "score": collections.Counter()}
    for model in models:
        specs = specs_of(config, model)
        todo = [
            spec
            for spec in specs
            if (model.revision, model.tuned_on, spec.task, spec.format, spec.shots) not in done
        ]
        left["score"].update(spec.task for spec in todo)
        left["train"].update([model.tuned_on] if model.tuned_on and todo else [])
        if model.tuned_on:
            lines.append(f"  {'to do' if todo else 'done':<6} train  {model.label()}")
        lines += [
            f"  {'to do' if spec in todo else 'done':<6} score  {model.label():<40} {spec.role:<16} {spec.label()}"
            for spec in specs
        ]
    head = f"{len(revisions)} checkpoints × {1 + len(config.fine_tunes)} models, {len(made.cells)} scores; "
    head += f"to do: {left['train'].total()} fine-tunings, {left['score'].total()} scores"
    before = read_plan(config.workdir)
    if before and before.config != made.config:
        head += "\n(the last run in this folder had another configuration; cells that it shares with this one are found when checkpoints are opened)"
    return "\n".join([head, *lines, _estimate(config, left)])


def _estimate(config, left):
    """Seconds of finished cells times what is left of each set.

    While either kind has none, how many rows there are to train on and to score.
    """
    if not left["train"] and not left["score"]:
        return "estimate: nothing is left to do"
    seconds = _seconds(config.workdir)
    if all(seconds[kind] for kind in left if left[kind]):
        rest = sum(
            count * _mean(seconds[kind], task)
            for kind in left
            for task, count in left[kind].items()
        )
        return f"estimate: {rest / 60:.1f} minutes, from the finished cells' mean times (no compilation counted)"
    rows = sum(
        left["train"][entry.task]
        * (entry.rows or config.train.rows)
        * (entry.epochs or config.train.epochs)
        for entry in config.fine_tunes
    )
    each = f"{config.score.rows:,} rows at most" if config.score.rows else "all rows of its set"
    wait = " and a fine-tuning" if left["train"] else ""
    return f"estimate: {rows:,} rows to train on, {left['score'].total()} scores of {each} each; a time follows after the first finished score{wait}"


def _seconds(workdir) -> dict:
    """{kind: {set: [seconds of each finished cell]}}, without what was spent on compilation."""
    compiled = {
        line["key"]: line["compiles"]["seconds"]
        for line in store.read_log(workdir)
        if "compiles" in line
    }
    found = {"train": collections.defaultdict(list), "score": collections.defaultdict(list)}
    for kind, by_task in found.items():
        for record in store.records(workdir, kind):
            task = (
                record["model"]["tuned_on"] if kind == "train" else record["specification"]["task"]
            )
            by_task[task].append(max(0.0, record["seconds"] - compiled.get(record["key"], 0.0)))
    return found


def _mean(by_task, task):
    """Of the set's own cells, else of all."""
    seconds = by_task.get(task) or [value for values in by_task.values() for value in values]
    return sum(seconds) / len(seconds)
