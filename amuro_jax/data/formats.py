"""Prompt formats: an example under Default, Instruct, IO or a user's template → prompt and
completion (paper.md; quirks 3, 6, 12, 13).

A format's name may carry perturbations, each of which keeps the meaning:
`default~sep=newline~case=upper~labels=letters` (see `PERTURBATIONS` and `LABEL_WORDS`).
"""

import random
import re
import string

from amuro_jax import spelling
from amuro_jax.data.protocols import Protocol
from amuro_jax.data.task import Kind, Task
from amuro_jax.data.types import Example
from amuro_jax.errors import ConfigError

FORMATS = ("default", "instruct", "io")
PUBLISHED_SPACES = (" ", "\n", "\t")  # what the released code takes for white space at a border

# As fine-tuning shows them; `strict` drops the trailing space and puts one before the completion.
FRAMES = {
    "summary": {
        "default": "### Input: {document}\n ### Summary: ",
        "instruct": "Please read the following text: {document} Provide a summary: ",
        "io": "{document}",
    },
    "question": {
        "default": "### Input: {context}\n ### Answer: {answer}\n ### Question: ",
        "instruct": "Given the context: {context} And the answer: {answer} "
        "Generate a suitable question: ",
        "io": "{context} {answer}",
    },
    "nli": {
        "default": "### Input_1: {premise}\n ### Input_2: {hypothesis}\n ### Inference: ",
        "instruct": "Consider the following texts: Text 1: {premise} Text 2: {hypothesis} "
        "The relation is ",
        "io": "{premise} {hypothesis}",
    },
    "paraphrase": {
        "default": "### Input_1: {sentence1}\n ### Input_2: {sentence2}\n"
        " ### Paraphrase Classification: ",
        "instruct": "Let\u2019s compare the two sentences: Sentence_1: {sentence1} "
        "Sentence_2: {sentence2} Are they paraphrasing?: ",
        "io": "{sentence1} {sentence2}",
    },
    "preference": {
        "default": "### Instruction: {instruction}\n ### Output_1: {first}\n "
        "### Output_2: {second}\n ### Better Output: ",
        "instruct": "Given the instruction: {instruction} Output 1: {first} "
        "Output 2: {second} The better output is number ",
        "io": "{instruction} {first} {second}",
    },
    "choice": {
        "default": "Question: {question}\nAnswer:",
        "instruct": "Please answer the following question.\n{question}\nThe answer is:",
        "io": "{question}",
    },
    "math": {
        "default": "### Question: {question}\n ### Answer: ",
        "instruct": "Please solve the following problem step by step: {question} Solution: ",
        "io": "{question}",
    },
}

PERTURBATIONS = {
    "sep": {
        "newline": "\n",
        "space": " ",
        "tab": "\t",
        "bar": " | ",
        "double": "\n\n",
    },  # between the parts of a template
    "case": {
        "upper": str.upper,
        "lower": str.lower,
        "title": str.title,
    },  # of the template's own words
    "space": {"none": "", "one": " ", "two": "  "},  # after a colon
}
LABEL_WORDS = {
    "capital": str.capitalize,
    "upper": str.upper,
    "letters": {"entailment": "A", "neutral": "B", "contradiction": "C", "yes": "A", "no": "B"},
    "truth": {
        "entailment": "true",
        "neutral": "unknown",
        "contradiction": "false",
        "yes": "true",
        "no": "false",
    },
    "plain": {
        "entailment": "follows",
        "neutral": "unrelated",
        "contradiction": "contradicts",
        "yes": "same",
        "no": "different",
    },
}


def parse_format(name: str, task: Task | None = None) -> tuple[str, dict[str, str]]:
    """`"default~sep=tab"` → ("default", {"sep": "tab"}).

    Raises:
        ConfigError: unknown format or perturbation.
    """
    base, *parts = name.split("~")
    known = list(dict.fromkeys([*FORMATS, *(dict(task.templates) if task else ())]))
    if base not in known:
        raise ConfigError(
            f"unknown format {base!r}", where="format", hint=spelling.hint(base, known)
        )
    changes = dict(part.partition("=")[::2] for part in parts)
    variants = {**PERTURBATIONS, "labels": LABEL_WORDS}
    for kind, value in changes.items():
        if value not in variants.get(kind, {}):
            hint = "; ".join(f"{kind}={'|'.join(values)}" for kind, values in variants.items())
            raise ConfigError(
                f"unknown perturbation {kind}={value}", where=f"format {name}", hint=hint
            )
    return base, changes


def perturbations_of(base: str = "default", labels: bool = True) -> list[str]:
    """`base` and every single perturbation of it, for measuring sensitivity over many formats."""
    variants = {**PERTURBATIONS, **({"labels": LABEL_WORDS} if labels else {})}
    usual = ("space", "one")  # as the templates are written
    changes = [(kind, value) for kind, values in variants.items() for value in values]
    return [base, *(f"{base}~{kind}={value}" for kind, value in changes if (kind, value) != usual)]


def template_of(task: Task, name: str, protocol: Protocol) -> str:
    """The template of a format for a task, perturbations applied to the template's own words.

    Raises:
        ConfigError: unknown format, or one that has no template for the task's frame.
    """
    task = task.under(protocol)
    base, changes = parse_format(name, task)
    template = dict(task.templates).get(base) or FRAMES.get(task.frame, {}).get(base)
    if template is None:
        raise ConfigError(
            f"format {base!r} has no template for {task.name} ({task.frame})",
            where=f"format {base}",
            hint="write one in the task file, under `templates`",
        )
    if task.gold_shown and not task.chat:  # a conversation holds it in a turn of its own
        template = template.rstrip() + " {gold} "
    return perturbed(template, changes)


def perturbed(template: str, changes: dict[str, str]) -> str:
    """A template with other separators between its parts, another case of its own words, or other
    spacing after colons.
    """
    if separator := PERTURBATIONS["sep"].get(changes.get("sep")):
        template = re.sub(r"\n ?", lambda _: separator, template)
    if case := PERTURBATIONS["case"].get(changes.get("case")):
        template = "".join(
            case(text) + (f"{{{field}}}" if field else "")
            for text, field, _, _ in string.Formatter().parse(template)
        )
    if (gap := PERTURBATIONS["space"].get(changes.get("space"))) is not None:
        # The boundary before the completion is the protocol's, not the format's.
        template = re.sub(r": +(?=\S)", f":{gap}", template)
    return template


def template_fields(template: str) -> list[str]:
    """Names of the fields of a template."""
    return [field for _, field, _, _ in string.Formatter().parse(template) if field]


def word_for(word: str, task: Task, name: str) -> str:
    """A label word as the format's `labels=` variant writes it.

    Texts that are no label words stay as they are.
    """
    if task.kind != Kind.CLASSIFICATION or "~" not in name:
        return word
    variant = LABEL_WORDS.get(parse_format(name, task)[1].get("labels"))
    if variant is None:
        return word
    return variant.get(word, word) if isinstance(variant, dict) else variant(word)


def completion(example: Example, task: Task, name: str, protocol: Protocol) -> str:
    """The text that follows the prompt in shots and training texts.

    Its outer white space is dropped; the released code keeps it.
    """
    word = word_for(example.completion, task, name)
    return word if protocol.published_templates else word.strip()


def prompt(example: Example, task: Task, name: str, protocol: Protocol) -> str:
    """The prompt of an example; under `strict` it never ends in white space.

    Raises:
        ConfigError: a template that names a field the example does not have.
    """
    task = task.under(protocol)
    fields = dict(example.fields)
    template = template_of(task, name, protocol)
    if task.frame == "question" and "answer" not in fields:
        fields["answer"] = _options(example, task)
        if "{B}" in template and "B" not in fields:  # only the right answer is known
            template = FRAMES["question"][parse_format(name, task)[0]]
    if "{gold}" in template:
        fields["gold"] = example.completion
    text = filled(template, fields, name)
    return text if protocol.published_templates else text.rstrip()


def conversation(text: str, example: Example, task: Task, end_of_text: str) -> str:
    """A prompt as the user's turn of a chat, in the layout of TULU as the released code renders it:
    the end of text also begins it; where the gold is shown, it is the assistant's first turn.
    """
    answered = f"<|assistant|>\n{example.completion.strip()}{end_of_text}\n"
    turn = answered if task.gold_shown else ""
    return f"{end_of_text}<|user|>\n{text}\n{turn}<|assistant|>\n"


def filled(template: str, fields: dict[str, str], name: str) -> str:
    """The template with its fields put in.

    Raises:
        ConfigError: a field that the example does not have.
    """
    try:
        return template.format(**fields)
    except (KeyError, IndexError) as error:
        raise ConfigError(
            f"the template names a field {error}; there are {sorted(fields)}",
            where=f"format {name}",
        ) from error


def _options(example, task):
    """`Answer A: … Answer B: …`.

    Shuffled by row where the task says so; a lone answer has no letter.
    """
    letters = [letter for letter in "ABCD" if letter in example.fields]
    texts = [example.fields[letter] for letter in letters]
    if len(texts) == 1:
        return texts[0]
    if task.shuffle_options:
        random.Random(f"options:{example.row}").shuffle(texts)
    return " ".join(f"Answer {letter}: {text}" for letter, text in zip(letters, texts, strict=True))


def gap(prompt: str, completion: str) -> str:
    """What is put between prompt and completion in a training text: one space where neither side
    has white space.
    """
    spaced = prompt.endswith(PUBLISHED_SPACES) or completion.startswith(PUBLISHED_SPACES)
    return "" if spaced else " "
