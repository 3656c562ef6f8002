"""What a study asks for, as it is stored beside its cells: `<workdir>/study.json`. No jax."""

import dataclasses

from amuro_jax import records
from amuro_jax.config import StudyConfig, from_dict, to_dict
from amuro_jax.records import Cell
from amuro_jax.storage import Storage

PLAN = "study.json"


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

    def with_duplicates(self, duplicates: dict[str, str]) -> "Plan":
        """The plan with more checkpoints known to have an earlier one's parameters."""
        return dataclasses.replace(self, duplicates=self.duplicates | duplicates)


def read_plan(storage: Storage) -> Plan | None:
    """The plan of the last run in this workdir; None where there was none.

    Raises:
        ConfigError: written by another version.
    """
    if not storage.exists(PLAN):
        return None
    values, where = storage.read_json(PLAN), storage.where(PLAN)
    records.require_schema(values.pop("schema", None), where)
    return from_dict(Plan, values, where=where)
