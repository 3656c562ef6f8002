"""What a data set is to the study: where its rows come from, what they hold, how they are scored,
and what the published pipeline did differently.
"""

import dataclasses
import enum
import functools

from amuro_jax.config import Metric, Role
from amuro_jax.data.protocols import Protocol


class Kind(enum.StrEnum):
    """How a set is answered."""

    CLASSIFICATION = "classification"  # a label of a fixed set
    GENERATION = "generation"  # free text
    MULTIPLE_CHOICE = "multiple_choice"  # an option of the row's own
    CHAT = "chat"  # conversations, trained on only
    PREFERENCE = "preference"  # a chosen and a rejected answer, trained on only


class Family(enum.StrEnum):
    """Sets that ask for the same ability; a user's own set may name another."""

    SUMMARY = "summary"
    QUESTION = "question"
    NLI = "nli"
    PARAPHRASE = "paraphrase"
    PREFERENCE = "preference"
    MATH = "math"
    KNOWLEDGE = "knowledge"
    CHAT = "chat"


@dataclasses.dataclass(frozen=True)
class DataSource:
    """Where rows come from.

    Attributes:
        hub: data set name on the Hub, and its configuration.
        folder: name of the local folder under `data_root`; `also`: folders that may stand in, in
            order.
        train: split that is fine-tuned on and gives shots; "" where there is none.
        test: splits that are scored, the first that exists: labelled test, else validation (quirk
            14).
        shots_from: name of the task whose training split gives the shots, where this one has none.
        order_seed: rows come in the order of this seed's permutation (that of
            `datasets.Dataset.shuffle`); None: in the file's.
    """

    hub: str
    folder: str
    config: str = ""
    also: tuple[str, ...] = ()
    train: str = "train"
    test: tuple[str, ...] = ("test",)
    shots_from: str = ""
    order_seed: int | None = None


@dataclasses.dataclass(frozen=True)
class Quirk:
    """What the published pipeline did differently with one set.

    Attributes:
        switch: the protocol's switch that puts it in force (docs/protocols.md).
        changes: fields of the task, or of its source, and their values under the quirk.
    """

    switch: str
    changes: tuple[tuple[str, object], ...]


def quirk(switch: str, **changes) -> Quirk:
    """`quirk("published_splits", test=("train",))`: a change of one set under one switch."""
    return Quirk(switch, tuple(changes.items()))


@dataclasses.dataclass(frozen=True)
class Task:
    """One entry of the registry: a set as it should be used, and its published quirks.

    Attributes:
        frame: prompts of a kind of set (`data.formats.FRAMES`), where `templates` has none.
        reader: name of the function in `data.readers` that turns a native row into an `Example`.
        columns: native columns that every row must have; "a|b" where either will do.
        labels: label words in the order of the native label ids; for multiple choice, options that
            are the same in every row.
        answers: label words that count for each native label id together, where they are not one
            each: RTE's second class is neutral or contradiction.
        roles: what the set may be used for.
        family: the task of the study it belongs to; a member of `Family` or a name of one's own.
        primary: multiple choice: raw | per_token | per_char | unconditional, the published choice
            (quirk 17).
        licence: of the data.
        evidence: fields of the prompt in which the answer may rightly stand (a passage to read), so
            that the auditor does not call it a leak.
        stop: text that ends a generated answer (besides eos).
        new_tokens: of a generated answer at most; 0: the run's own setting.
        templates: (format, template) of this set.
        shuffle_options: the options' order is drawn for each row, so that the right one is not
            always first.
        clean_prompt, clean_choices: name of a function in `data.choices.CLEANERS`, or "".
        unlabelled: label word that −1 counts as; "": a row with −1 is refused.
        chat: the prompt is rendered as a conversation that the model is to continue.
        gold_shown: the prompt holds the answer (quirk 6).
        published_formats: formats that the released code has for this set; None: it is no set of
            the study's.
        mapping: a user's set: what each part of an example is called in their columns.
        quirks: see `Quirk`.
    """

    name: str
    kind: Kind
    frame: str
    reader: str
    source: DataSource
    columns: tuple[str, ...]
    labels: tuple[str, ...] = ()
    metric: Metric | None = Metric.ACCURACY
    roles: tuple[Role, ...] = ()
    family: str = ""
    primary: str = "raw"
    licence: str = "unspecified"
    evidence: tuple[str, ...] = ()
    stop: tuple[str, ...] = ("\n",)
    new_tokens: int = 0
    templates: tuple[tuple[str, str], ...] = ()
    answers: tuple[tuple[str, ...], ...] = ()
    shuffle_options: bool = False
    clean_prompt: str = ""
    clean_choices: str = ""
    unlabelled: str = ""
    chat: bool = False
    gold_shown: bool = False
    published_formats: tuple[str, ...] | None = None
    mapping: tuple[tuple[str, object], ...] = ()
    quirks: tuple[Quirk, ...] = ()

    def under(self, protocol: Protocol) -> "Task":
        """This set as a protocol has it: with the quirks whose switch is on. Applying it twice
        changes nothing.
        """
        return _under(self, protocol)

    def lacks_published(self, name: str, protocol: Protocol) -> bool:
        """Whether the protocol wants published prompts in a format that the released code does not
        have for this set of the study's.
        """
        choice = self.kind == Kind.MULTIPLE_CHOICE
        applies = protocol.published_choices if choice else protocol.published_templates
        return applies and self.published_formats is not None and name not in self.published_formats


@functools.lru_cache(maxsize=1024)
def _under(task, protocol):
    switches = protocol.switches()
    changes = {}
    for entry in task.quirks:
        if switches[entry.switch]:
            changes |= dict(entry.changes)
    if not changes:
        return task
    of_source = {field.name for field in dataclasses.fields(DataSource)} & set(changes)
    source = dataclasses.replace(task.source, **{name: changes.pop(name) for name in of_source})
    if "templates" in changes:  # a quirk's templates replace those of the same format only
        merged = dict(task.templates) | dict(changes["templates"])
        changes["templates"] = tuple(merged.items())
    return dataclasses.replace(task, source=source, **changes)
