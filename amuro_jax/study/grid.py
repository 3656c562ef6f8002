"""From a StudyConfig to its cells: which models there are, and on what each is scored."""

import dataclasses

from amuro_jax.config import (
    FineTune,
    StudyConfig,
    TrainConfig,
    require,
    split_names,
    validate_recipe,
    validate_scoring,
)
from amuro_jax.data import formats, protocols
from amuro_jax.data.registry import get_task

ROLES = ("in_domain", "out_of_domain", "multiple_choice")


@dataclasses.dataclass(frozen=True)
class ScoreSpec:
    """One evaluation of one model: set, its role for that model, format, shots."""

    task: str
    role: str
    format: str
    shots: int

    def label(self) -> str:
        """`lab_nli default 4-shot`."""
        return f"{self.task} {self.format} {self.shots}-shot"


def recipe_of(config: StudyConfig, fine_tune: FineTune) -> TrainConfig:
    """The training recipe of one fine-tuning set: the study's `train` block with what the set
    changes.
    """
    changes = {
        name: getattr(fine_tune, name)
        for name in ("learning_rate", "epochs", "rows")
        if getattr(fine_tune, name)
    }
    return dataclasses.replace(
        config.train, task=fine_tune.task, data_root=config.data_root, **changes
    )


def score_specs(config: StudyConfig, tuned_on: str = "") -> list[ScoreSpec]:
    """What a model is scored on; `tuned_on` is "" for a base model.

    A fine-tuned model meets its own in-domain sets in every format of theirs; its out-of-domain
    sets and the multiple choice as the plan says; and
    the other tasks' fine-tuning sets as cross-task sets, in the first format only.
    """
    specs = []
    for entry in config.evals:
        names = split_names(entry.formats) or (
            split_names(config.formats) if entry.role == "in_domain" else ("default",)
        )
        role, owners = entry.role, split_names(entry.of)
        if tuned_on and owners and tuned_on not in owners:
            if entry.role != "in_domain" or "cross_task" not in get_task(entry.task).roles:
                continue
            role, names = "cross_task", names[:1]
        for shots in map(int, split_names(entry.shots) or split_names(config.shots)):
            specs += [ScoreSpec(entry.task, role, name, shots) for name in names]
    return list(dict.fromkeys(specs))


def validate(config: StudyConfig) -> None:
    """Refuses a study that cannot be run, before anything is computed.

    Raises:
        ConfigError: unknown task, format, role, protocol or quirk; a set that cannot be trained on;
            nothing to do.
    """
    for name in ("workdir", "suite"):
        require(
            bool(getattr(config, name)),
            f"{name} is empty",
            where=f"config.{name}",
            hint=f"give --config.{name}=…",
        )
    require(bool(config.evals), "no evaluation sets", where="config.evals")
    validate_scoring(config.score, "config.score")
    validate_recipe(config.train, "config.train")
    for block in (config.score, config.train):
        protocols.resolve(block.protocol, block.quirks)
    tuned = [fine_tune.task for fine_tune in config.fine_tunes]
    for index, name in enumerate(tuned):
        where = f"config.fine_tunes[{index}].task"
        require(bool(get_task(name).source.train), f"{name} has no training split", where=where)
        require(name not in tuned[:index], f"{name} stands twice", where=where)
        validate_recipe(recipe_of(config, config.fine_tunes[index]), f"config.fine_tunes[{index}]")
    for index, entry in enumerate(config.evals):
        _validate_entry(entry, f"config.evals[{index}]", tuned)
    for name in split_names(config.formats):
        formats.parse_format(name)
    _validate_shots(config.shots, "config.shots")


def _validate_shots(text, where):
    for shots in split_names(text):
        require(shots.isdigit(), f"shots must be whole numbers, got {shots!r}", where=where)


def _validate_entry(entry, where, tuned):
    get_task(entry.task)
    require(
        entry.role in ROLES,
        f"unknown role {entry.role!r}",
        where=f"{where}.role",
        hint="one of " + ", ".join(ROLES),
    )
    for name in split_names(entry.formats):
        formats.parse_format(name)
    _validate_shots(entry.shots, f"{where}.shots")
    for owner in split_names(entry.of):
        require(
            owner in tuned,
            f"{owner!r} is not a fine-tuning set of this study",
            where=f"{where}.of",
            hint="one of " + ", ".join(tuned),
        )
