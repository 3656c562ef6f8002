"""Prompt formats: an example under Default, Instruct, IO or a user's template → prompt and completion (paper.md; quirks 3, 12, 13).

A format's name may carry perturbations: `default~sep=newline~case=upper` (see `PERTURBATIONS`).
"""

import random
import string

from amuro_jax.data.protocols import Protocol
from amuro_jax.data.task import Task
from amuro_jax.data.types import Example
from amuro_jax.errors import ConfigError

FORMATS = ("default", "instruct", "io")

# As fine-tuning shows them; `strict` drops the trailing space and puts one before the completion.
FRAMES = {
    "summary": {
        "default": "### Input: {document}\n ### Summary: ",
        "instruct": "Please read the following text: {document} Provide a summary: ",
        "io": "{document}",
    },
    "question": {
        "default": "### Input: {context}\n ### Answer: {answer}\n ### Question: ",
        "instruct": "Given the context: {context} And the answer: {answer} Generate a suitable question: ",
        "io": "{context} {answer}",
    },
    "nli": {
        "default": "### Input_1: {premise}\n ### Input_2: {hypothesis}\n ### Inference: ",
        "instruct": "Consider the following texts: Text 1: {premise} Text 2: {hypothesis} The relation is ",
        "io": "{premise} {hypothesis}",
    },
    "paraphrase": {
        "default": "### Input_1: {sentence1}\n ### Input_2: {sentence2}\n ### Paraphrase Classification: ",
        "instruct": "Let\u2019s compare the two sentences: Sentence_1: {sentence1} Sentence_2: {sentence2} Are they paraphrasing?: ",
        "io": "{sentence1} {sentence2}",
    },
}

# The released formatter's own bytes where they differ (quirk 12): nothing stands between two pieces unless it is written here.
PUBLISHED = {
    "social_i_qa": {
        "default": "### Input: {context}\n ### Answer: Answer A: {A} Answer B: {B}Answer C: {C}\n ### Question: ",
        "instruct": "Given the context: {context} And the answer: Answer A: {A} Answer B: {B}Answer C: {C}Generate a suitable question: ",
        "io": "{context}{A}{B}{C}",
    },
    "sciq_question": {
        "default": "### Input: {context}\n ### Answer: Answer A: {A} Answer B: {B} Answer C: {C}Answer D: {D}\n ### Question: ",
        "instruct": "Given the context: {context} And the answer: Answer A: {A} Answer B: {B}Answer C: {C}Answer D: {D}Generate a suitable question: ",
    },
    "tweetqa": {
        "default": "### Input: {context}\n ### Answer: {A}\n ### Question: ",
        "instruct": "Given the context: {context} And the answer: {A}Generate a suitable question: ",
    },
    "cnn": {"io": FRAMES["summary"]["default"]},
}

PERTURBATIONS = {
    "sep": {"newline": "\n", "space": " ", "tab": "\t", "bar": " | ", "double": "\n\n"},
    "case": {"upper": str.upper, "lower": str.lower, "title": str.title},
    "space": {"none": "", "one": " ", "two": "  "},
}

_USER: dict[str, dict[str, str]] = {}


def add_format(name: str, templates: dict[str, str]) -> None:
    """A user's own format: {frame: template with {fields}}.

    Raises:
        ConfigError: a name that is taken, or a template without fields.
    """
    if name in FORMATS or "~" in name:
        raise ConfigError(f"a format cannot be called {name!r}", where="format")
    for frame, template in templates.items():
        if not _fields(template):
            raise ConfigError(f"the template of {frame} has no {{field}}: {template!r}", where=f"format {name}")
    _USER[name] = dict(templates)


def parse_format(name: str) -> tuple[str, dict[str, str]]:
    """`"default~sep=tab"` → ("default", {"sep": "tab"}).

    Raises:
        ConfigError: unknown format or perturbation.
    """
    base, *parts = name.split("~")
    if base not in FORMATS and base not in _USER:
        raise ConfigError(f"unknown format {base!r}", where="format", hint="formats: " + ", ".join([*FORMATS, *_USER]))
    changes = dict(part.partition("=")[::2] for part in parts)
    for kind, value in changes.items():
        if value not in PERTURBATIONS.get(kind, {}):
            known = "; ".join(f"{kind}={'|'.join(values)}" for kind, values in PERTURBATIONS.items())
            raise ConfigError(f"unknown perturbation {kind}={value}", where=f"format {name}", hint=known)
    return base, changes


def template_of(task: Task, name: str, protocol: Protocol) -> str:
    """The template of a format for a task, perturbations applied to the frame's own words."""
    base, changes = parse_format(name)
    if base in _USER:
        if task.frame not in _USER[base]:
            raise ConfigError(f"format {base!r} has no template for {task.frame}", where=f"format {base}")
        return _USER[base][task.frame]
    template = FRAMES[task.frame][base]
    if protocol.published_templates:
        template = PUBLISHED.get(task.reader, {}).get(base, template)
        if task.reader == "social_i_qa" and changes.get("answer") == "one":
            template = FRAMES[task.frame][base]
    return _perturbed(template, changes)


def _perturbed(template, changes):
    if separator := PERTURBATIONS["sep"].get(changes.get("sep")):
        template = template.replace("\n ", separator)
    if case := PERTURBATIONS["case"].get(changes.get("case")):
        template = "".join(case(text) + (f"{{{field}}}" if field else "") for text, field, _, _ in string.Formatter().parse(template))
    if (gap := PERTURBATIONS["space"].get(changes.get("space"))) is not None:
        template = template.replace(": ", f":{gap}")
    return template


def _fields(template):
    return [field for _, field, _, _ in string.Formatter().parse(template) if field]


def prompt(example: Example, task: Task, name: str, protocol: Protocol) -> str:
    """The prompt of an example; under `strict` it never ends in white space."""
    fields = dict(example.fields)
    template = template_of(task, name, protocol)
    if task.frame == "question":
        options = _options(example, task)
        fields["answer"] = options
        if "{B}" in template and "B" not in fields:  # only the right answer is known
            template = FRAMES["question"][parse_format(name)[0]]
            fields["answer"] = fields["A"]
    text = template.format(**fields)
    return text if protocol.published_templates else text.rstrip()


def _options(example, task):
    """`Answer A: … Answer B: …`; SciQ's are shuffled by row, so that the right one is not always first; a lone answer stands bare."""
    letters = [letter for letter in "ABCD" if letter in example.fields]
    texts = [example.fields[letter] for letter in letters]
    if len(texts) == 1:
        return texts[0]
    if task.reader == "sciq_question":
        random.Random(f"options:{example.row}").shuffle(texts)
    return " ".join(f"Answer {letter}: {text}" for letter, text in zip(letters, texts, strict=True))


def gap(text: str, completion: str, protocol: Protocol) -> str:
    """What stands between prompt and completion in a training text: one space where neither side has white space."""
    return "" if text[-1:].isspace() or completion[:1].isspace() else " "
