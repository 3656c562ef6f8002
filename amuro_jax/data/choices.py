"""Prompts of the multiple-choice sets: OLMo's released requests (`strict`), or the evaluation suite the study called (`paper`)."""

import re

from amuro_jax.data.protocols import Protocol
from amuro_jax.data.task import Task
from amuro_jax.data.types import Example

UNCONDITIONAL = "Answer:"


def choice_prompt(example: Example, task: Task, protocol: Protocol) -> str:
    """The question as the model sees it; every continuation is one space and a choice."""
    f, published = example.fields, protocol.published_choices
    if task.reader == "hellaswag":
        text = f"{f['activity']}: {f['context']}"
        return _cleaned(text) if published else text
    if task.reader == "boolq":
        return f"{f['passage']}\nQuestion: {f['question']}?\nAnswer:"
    if task.reader == "sciq_choice":
        text = f"{f['support']}\nQuestion: {f['question']}\nAnswer:"
        return text.strip() if published else text.removeprefix("\n")
    if task.reader == "openbookqa" and published:
        return f["question"]
    return f"Question: {f['question']}\nAnswer:"


def choice_text(text: str, task: Task, protocol: Protocol) -> str:
    """A choice as it is continued; HellaSwag's endings are cleaned under `paper`."""
    return _cleaned(text) if task.reader == "hellaswag" and protocol.published_choices else text


def _cleaned(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def shot_text(example: Example, task: Task, protocol: Protocol) -> str:
    """One solved question, with the blank line behind it."""
    gold = choice_text(example.completion, task, protocol)
    return f"{choice_prompt(example, task, protocol).strip()} {gold.strip()}\n\n"
