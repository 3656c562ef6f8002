"""Prompts of the multiple-choice sets. Default is that of OLMo's released requests (`strict`), or
of the evaluation suite that the study called (`paper`); Instruct and IO are ours, for measuring
sensitivity, and the same under both protocols.
"""

import re

from amuro_jax.data import formats
from amuro_jax.data.protocols import Protocol
from amuro_jax.data.task import Task
from amuro_jax.data.types import Example

UNCONDITIONAL = "Answer:"


def without_marks(text: str) -> str:
    """Without WikiHow's section marks, as the published suite does for HellaSwag."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


CLEANERS = {"": str, "strip": str.strip, "without_marks": without_marks}


def choice_prompt(example: Example, task: Task, name: str, protocol: Protocol) -> str:
    """The question as the model sees it; every continuation is one space and a choice.

    A field that the row leaves empty at the start leaves no white space behind.

    Raises:
        ConfigError: an unknown format, or one without a template for these sets.
    """
    task = task.under(protocol)
    template = formats.template_of(task, name, protocol)
    text = formats.filled(template, example.fields, name)
    if name == "default" and task.clean_prompt:  # the published suite has no other format
        return CLEANERS[task.clean_prompt](text)
    fields = formats.template_fields(template)
    begins_empty = template.startswith("{") and not example.fields[fields[0]]
    return text.lstrip("\n ") if begins_empty else text


def choice_text(text: str, task: Task, protocol: Protocol) -> str:
    """A choice as it is continued."""
    return CLEANERS[task.under(protocol).clean_choices](text)


def shot_text(example: Example, task: Task, name: str, protocol: Protocol) -> str:
    """One solved question, with the blank line behind it."""
    gold = choice_text(example.completion, task, protocol)
    return f"{choice_prompt(example, task, name, protocol).strip()} {gold.strip()}\n\n"
