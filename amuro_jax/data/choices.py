"""Prompts of the multiple-choice sets. Default is that of OLMo's released requests (`strict`), or
of the evaluation suite that the study called
(`paper`); Instruct and IO are ours, for measuring sensitivity, and the same under both protocols.
"""

import re

from amuro_jax.data import formats
from amuro_jax.data.protocols import Protocol
from amuro_jax.data.task import Task
from amuro_jax.data.types import Example
from amuro_jax.errors import ConfigError

UNCONDITIONAL = "Answer:"

_QUESTION = {
    "default": "Question: {question}\nAnswer:",
    "instruct": "Please answer the following question.\n{question}\nThe answer is:",
    "io": "{question}",
}
CHOICE_FRAMES = {
    "hellaswag": {
        "default": "{activity}: {context}",
        "instruct": "Please continue the following text about {activity}.\n{context}",
        "io": "{context}",
    },
    "boolq": {
        "default": "{passage}\nQuestion: {question}?\nAnswer:",
        "instruct": "Please read the following text and answer the question with yes or no.\n{passage}\n{question}?\nThe answer is:",
        "io": "{passage} {question}?",
    },
    "sciq_choice": {
        "default": "{support}\nQuestion: {question}\nAnswer:",
        "instruct": "Please read the following text and answer the question.\n{support}\n{question}\nThe answer is:",
        "io": "{support} {question}",
    },
}
PUBLISHED_CHOICES = {"openbookqa": "{question}"}


def choice_prompt(example: Example, task: Task, name: str, protocol: Protocol) -> str:
    """The question as the model sees it; every continuation is one space and a choice.

    Raises:
        ConfigError: an unknown format, or one without a template for these sets.
    """
    published = protocol.published_choices and name == "default"
    text = formats.filled(_template(task, name, published), example.fields, name)
    if task.reader == "sciq_choice":
        return (
            text.strip()
            if published
            else text.lstrip("\n ")
            if not example.fields["support"]
            else text
        )
    return _cleaned(text) if published and task.reader == "hellaswag" else text


def _template(task, name, published):
    base, changes = formats.parse_format(name, task)
    if published and task.reader in PUBLISHED_CHOICES:
        return PUBLISHED_CHOICES[task.reader]
    if base in formats.FORMATS and base not in dict(task.templates):
        return formats.perturbed(CHOICE_FRAMES.get(task.reader, _QUESTION)[base], changes)
    try:
        return formats.template_of(task, name, Protocol())
    except ConfigError as error:
        raise ConfigError(
            error.what,
            where=error.where,
            hint="a user's format serves these sets with a template for the frame `choice`",
        ) from error


def choice_text(text: str, task: Task, protocol: Protocol) -> str:
    """A choice as it is continued; HellaSwag's endings are cleaned under `paper`."""
    return _cleaned(text) if task.reader == "hellaswag" and protocol.published_choices else text


def _cleaned(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def shot_text(example: Example, task: Task, name: str, protocol: Protocol) -> str:
    """One solved question, with the blank line behind it."""
    gold = choice_text(example.completion, task, protocol)
    return f"{choice_prompt(example, task, name, protocol).strip()} {gold.strip()}\n\n"
