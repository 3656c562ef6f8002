"""What a data set is to the study: where its rows come from, what they hold, how they are scored."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Source:
    """Where rows come from.

    Attributes:
        hub: data set name on the Hub, and its configuration.
        folder: name of the local folder under `data_root`; `also`: folders that may stand in, in
            order.
        train: split that is fine-tuned on and gives shots; "" where there is none.
        test: splits that are scored, the first that exists: labelled test, else validation (quirk
            14).
        published_test: the split the published pipeline scored, where it is another.
        shots_from: name of the task whose training split gives the shots, where this one has none.
    """

    hub: str
    folder: str
    config: str = ""
    also: tuple[str, ...] = ()
    train: str = "train"
    test: tuple[str, ...] = ("test",)
    published_test: str = ""
    shots_from: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """One entry of the registry.

    Attributes:
        kind: classification | generation | multiple_choice | chat.
        frame: prompt frame (`data.formats`): summary, question, nli, paraphrase, choice, chat, …
        reader: name of the function in `data.readers` that turns a native row into an `Example`.
        columns: native columns that every row must have; "a|b" where either will do.
        labels: label words, in the order of the native label ids; empty for the others.
        metric: accuracy | rougeL | exact_number (the number after `####`, as in GSM8K).
        roles: fine_tune, in_domain, out_of_domain, cross_task, multiple_choice, extra.
        family: the task of the study it belongs to (summary, question, nli, paraphrase, knowledge,
            chat, …).
        primary: multiple choice: raw | per_token | per_char | unconditional, the published choice
            (quirk 17).
        licence: of the data.
        evidence: fields of the prompt in which the answer may rightly stand (a passage to read), so
            that the auditor does not call it a leak.
        stop: text that ends a generated answer under `strict` (besides eos); new_tokens: at most so
            many tokens, 0: the run's own setting.
        mapping: a user's set: what each part of an example is called in his columns; templates: his
            prompt formats (`data.task_file`).
    """

    name: str
    kind: str
    frame: str
    reader: str
    source: Source
    columns: tuple[str, ...]
    labels: tuple[str, ...] = ()
    metric: str = "accuracy"
    roles: tuple[str, ...] = ()
    family: str = ""
    primary: str = "raw"
    licence: str = "unspecified"
    evidence: tuple[str, ...] = ()
    stop: tuple[str, ...] = ("\n",)
    new_tokens: int = 0
    mapping: tuple[tuple[str, object], ...] = ()
    templates: tuple[tuple[str, str], ...] = ()
