"""What a study asks for, and how far each checkpoint is, as stored beside its cells. No jax.

`<workdir>/study.json` is what is asked for. `<workdir>/checkpoints/<configuration>/<name>.json` is
what is known of one checkpoint: written by the process that works on it, so that several processes
share a folder without writing the same file.
`<workdir>/tasks/<name>.yaml` are the YAML files of its own sets, so that the folder can be moved.
"""

import dataclasses
from urllib.parse import quote

from amuro_jax import files, records
from amuro_jax.config import StudyConfig, changes, from_dict, to_dict
from amuro_jax.records import Cell
from amuro_jax.storage import Storage

PLAN = "study.json"
CHECKPOINTS = "checkpoints"
TASK_FILES = "tasks"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a study asks for: `<workdir>/study.json`. The report and `--dry_run` read it.

    Attributes:
        name, config: the study and its resolved configuration.
        checkpoints: names in the order of training.
        cells: every wanted score; their keys are known once a checkpoint was opened.
        duplicates: checkpoint → the earlier one that has the same parameters.
    """

    name: str
    config: StudyConfig
    checkpoints: tuple[str, ...]
    cells: tuple[Cell, ...]
    duplicates: dict[str, str] = dataclasses.field(default_factory=dict)

    def write(self, storage: Storage) -> None:
        """Writes `study.json`."""
        storage.write_json(PLAN, {"schema": records.SCHEMA, **to_dict(self)})

    def with_keys(self, keys: dict[tuple, str]) -> "Plan":
        """The plan with the keys of some cells, by identity; the others keep theirs."""
        cells = (
            dataclasses.replace(cell, key=keys.get(cell.identity, cell.key)) for cell in self.cells
        )
        return dataclasses.replace(self, cells=tuple(cells))

    @property
    def config_key(self) -> str:
        """Of the part of the configuration that says what is asked for."""
        return files.content_key(changes(asked(self.config)))

    def with_progress(self, progress: list["Progress"]) -> "Plan":
        """The plan with the keys, and the equal weights, that checkpoints are known to have."""
        keys, firsts, duplicates = {}, {}, dict(self.duplicates)
        for one in progress:
            keys |= one.keys
            first = firsts.setdefault(one.weights, one.checkpoint)
            if one.weights and first != one.checkpoint:
                duplicates[one.checkpoint] = first
        known = {cell.identity: keys[cell.label()] for cell in self.cells if cell.label() in keys}
        return dataclasses.replace(self.with_keys(known), duplicates=duplicates)


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is known of one checkpoint of a study.

    Attributes:
        checkpoint: its name within the series.
        weights: identity of its parameters; empty where it could not be opened.
        keys: label of a cell → content key.
        run: token of the process that wrote this.
        finished: nothing is left to do but what failed.
        failures: a line for each job that failed.
    """

    checkpoint: str
    weights: str
    keys: dict[str, str]
    run: str
    finished: bool = False
    failures: tuple[str, ...] = ()

    def write(self, storage: Storage, config_key: str) -> None:
        """Replaces what was known of the checkpoint."""
        storage.write_json(_file(config_key, self.checkpoint), to_dict(self))


def asked(config: StudyConfig) -> StudyConfig:
    """A configuration without where and how fast it is carried out."""
    elsewhere = ("workdir", "train_run", "score_run", "ray")
    elsewhere += ("keep_models", "disk_budget_gb", "reuse")
    defaults = StudyConfig()
    return dataclasses.replace(config, **{name: getattr(defaults, name) for name in elsewhere})


def read_progress(storage: Storage, config_key: str, checkpoints) -> list[Progress]:
    """What is known of checkpoints under a configuration, in their order."""
    names = [_file(config_key, checkpoint) for checkpoint in checkpoints]
    stored = set(storage.names(f"{CHECKPOINTS}/{config_key}"))
    return [
        from_dict(Progress, storage.read_json(name), where=storage.where(name))
        for name in names
        if name in stored
    ]


def _file(config_key, checkpoint):
    return f"{CHECKPOINTS}/{config_key}/{quote(checkpoint, safe='')}.json"


def read_plan(storage: Storage) -> Plan | None:
    """The plan of the last run in this workdir; None where there was none.

    Raises:
        ConfigError: written by another version.
    """
    if not storage.exists(PLAN):
        return None
    values, where = storage.read_json(PLAN), storage.where(PLAN)
    records.require_schema(values.pop("schema", None), where)
    plan = from_dict(Plan, values, where=where)
    return plan.with_progress(read_progress(storage, plan.config_key, plan.checkpoints))


def write_task_files(storage: Storage, texts: dict[str, str]) -> None:
    """Copies YAML files of sets, by the names that they give their sets, into a study's folder."""
    for name, text in texts.items():
        storage.replace(f"{TASK_FILES}/{name}.yaml", text)


def task_files(storage: Storage) -> dict[str, str]:
    """Name → path or URL of each set that the study describes by a YAML file of its own."""
    return {
        name.removeprefix(f"{TASK_FILES}/").removesuffix(".yaml"): storage.where(name)
        for name in storage.names(TASK_FILES)
    }
