"""What a study's numbers are and what is stored of them: typed values that travel between modules.

`Cell` is a number that is wanted, `ScoreRecord` one that was computed, `TrainRecord` a fine-tuned
model. A record says what its number is; what a study makes of it (role, group) is in the cell. No
jax.
"""

import dataclasses

from amuro_jax import config as configuration
from amuro_jax.config import Group, Recipe, Role, Scoring

PROBE = "probe"  # kind of a record, and variant of its model
# What a probe measures beside a training: norm of the gradient of the mean loss on the rows that it
# trains on, the loss on its held-out rows before the first step, and how large its weights are.
PROBED = ("gradient_norm", "held_out_loss_before", "weight_scale")
SCHEMA = 2  # of the stored records; raised when a reader of the old ones would misread the new


@dataclasses.dataclass(frozen=True)
class ModelRef:
    """A model in words, for tables and labels; what it *is* is its identity (`checkpoint.py`).

    Attributes:
        suite: Hub name or folder of the series.
        checkpoint: revision, e.g. `step1000-tokens4M`.
        step, tokens: of pre-training; None where the name does not tell.
        tuned_on: fine-tuning set; "" for a base model.
        variant: distinguishes models that were tuned on one set in several ways (`lora`), and what
            is made of checkpoints without a training (`variants.py`); "" for the first.
        seed: of the training, where a study repeats it; None: the recipe's own.
    """

    suite: str
    checkpoint: str
    step: int | None = None
    tokens: int | None = None
    tuned_on: str = ""
    variant: str = ""
    seed: int | None = None

    def label(self) -> str:
        """`step1000 base`, `step1000 + lab_nli`, `step1000 + lab_nli (lora, seed 43)`."""
        seed = "" if self.seed is None else f"seed {self.seed}"
        how = ", ".join(filter(None, (self.variant, seed)))
        named = f"+ {self.tuned_on}" if self.tuned_on else "base"
        return f"{self.checkpoint} {named}" + (f" ({how})" if how else "")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number that a study wants: a model on a set, under a format, with shots.

    Attributes:
        role: of the set for this model.
        of: fine-tuning sets that the set belongs to; empty: to all.
        group: where the study says that the set is learned; None: decided by a test.
        key: content key of the number; None until the checkpoint was opened once.
    """

    model: ModelRef
    task: str
    role: Role
    format: str
    shots: int
    of: tuple[str, ...] = ()
    group: Group | None = None
    key: str | None = None

    @property
    def identity(self) -> tuple:
        """What distinguishes the cells of one study."""
        model = self.model
        named = (model.checkpoint, model.tuned_on, model.variant, model.seed)
        return (*named, self.task, self.format, self.shots)

    def label(self) -> str:
        """`step1000-tokens4M base: lab_nli default 4-shot`."""
        return f"{self.model.label()}: {self.what()}"

    def what(self) -> str:
        """`lab_nli default 4-shot`."""
        return f"{self.task} {self.format} {self.shots}-shot"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a number comes from. Never hashed: the same number may come from elsewhere.

    Attributes:
        model: identity of the model that was scored, or fine-tuned from.
        checkpoint: source, revision, commit and file hashes of the base checkpoint.
        tokenizer: fingerprint.
        data: split → SHA-256 of its rows.
        code, jax, devices: software versions and hardware.
        created: ISO 8601, UTC.
        run: the fields of TrainRun or ScoreRun.
    """

    model: str
    checkpoint: dict
    tokenizer: str
    data: dict[str, str]
    code: str
    jax: str
    devices: str
    created: str
    run: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ScoreRecord:
    """One finished number with its provenance; the rows behind it are stored beside it.

    Attributes:
        split: that was scored.
        primary: how a multiple-choice set turns log-probabilities into a choice; "" elsewhere.
        method: in effect (`generate` for sets without labels).
        scoring: how the model was scored; None where a number was imported.
        protocol: its name with switched quirks, e.g. `strict+no_stop`.
        switches: quirk → whether it was on.
        metrics: metric, value, stderr, low, high, n, majority, chance, prior, extra.
        context: the model's context in tokens.
        seconds: of wall time, compilation included.
        imported: where a number was imported from that this program did not compute; "" else.
    """

    key: str
    model: ModelRef
    task: str
    format: str
    shots: int
    split: str
    primary: str
    method: str
    protocol: str
    switches: dict[str, bool]
    scoring: Scoring | None
    metrics: dict
    provenance: Provenance
    context: int
    seconds: float
    imported: str = ""
    kind: str = "score"
    schema: int = SCHEMA


@dataclasses.dataclass(frozen=True)
class TrainRecord:
    """One finished fine-tuning, or what a few steps of one showed (`train/probe.py`).

    Attributes:
        key: identity of the fine-tuned model; of a probe, which keeps none, that of the probe.
        model: with `tuned_on`.
        metrics: loss, steps, tokens, truncated and dropped examples; `held_out_loss` where rows
            were kept out of training; of a probe `PROBED` too.
        kind: train, or probe.
    """

    key: str
    model: ModelRef
    recipe: Recipe
    protocol: str
    switches: dict[str, bool]
    metrics: dict
    provenance: Provenance
    seconds: float
    kind: str = "train"
    schema: int = SCHEMA


def to_json(record) -> dict:
    """A record as plain JSON-able values."""
    return configuration.to_dict(record)


def from_json(values: dict, *, where: str = "record") -> ScoreRecord | TrainRecord:
    """The record that `to_json` wrote.

    Raises:
        ConfigError: another schema, or fields that do not fit.
    """
    require_schema(values.get("schema"), where)
    kind = TrainRecord if values.get("kind") in ("train", PROBE) else ScoreRecord
    return configuration.from_dict(kind, values, where=where)


def require_schema(schema, where: str) -> None:
    """Raises a `ConfigError` unless what was read is of this version's schema."""
    configuration.require(
        schema == SCHEMA,
        f"records of schema {schema}, this version reads {SCHEMA}",
        where=where,
        hint="compute it again, or read it with the version that wrote it",
    )
