"""Sets of preferences: a chosen and a rejected answer to one prompt, as pairs of examples."""

import dataclasses
from collections.abc import Callable

from amuro_jax.data.task import Kind, Task
from amuro_jax.data.types import Example, Pair, TrainExample
from amuro_jax.errors import DataError

NAMED_ROWS = 8  # of those with one fault, in its message


def encode_pairs(
    task: Task,
    examples: list[Example],
    encode: Callable[[list[Example]], list[TrainExample]],
) -> list[Pair]:
    """Both answers of each row with the prompt before them.

    Raises:
        DataError: not a set of preferences, or rows whose answers are equal or empty.
    """
    _check_pairs(task, examples)
    sides = [
        encode([_answered(example, example.choices[side]) for example in examples])
        for side in (0, 1)
    ]
    return [Pair(chosen, rejected) for chosen, rejected in zip(*sides, strict=True)]


def is_chat(task: Task) -> bool:
    """Whether rows are conversations: of preferences, where the set has no fields of a prompt."""
    return task.kind == Kind.CHAT or (
        task.kind == Kind.PREFERENCE and not dict(task.mapping).get("fields")
    )


def require_pairs(task: Task) -> None:
    """Raises a `DataError` unless a set has pairs of answers."""
    if task.kind != Kind.PREFERENCE:
        raise DataError(
            f"{task.name} is a set of kind {task.kind}, dpo needs pairs of answers",
            where="config.recipe.loss",
            hint="use a set of kind preference, or loss=sft",
        )


def _check_pairs(task, examples):
    """Raises a `DataError` that names the rows whose answers teach nothing."""
    require_pairs(task)
    faults = {
        "an empty answer": [e.row for e in examples if not all(map(str.strip, e.choices))],
        "two equal answers": [e.row for e in examples if len({*map(str.strip, e.choices)}) == 1],
    }
    for what, rows in faults.items():
        if rows:
            named = ", ".join(map(str, rows[:NAMED_ROWS])) + (", …" * (len(rows) > NAMED_ROWS))
            raise DataError(
                f"{len(rows)} of {len(examples)} pairs have {what}: rows {named}",
                where=task.name,
                hint="remove them from the set (rows count from 0)",
            )


def with_chosen(example: Example) -> Example:
    """The example with the chosen answer; one that has one answer already stays as it is."""
    return _answered(example, example.choices[0]) if example.choices else example


def _answered(example, answer):
    """The example with one answer: as the completion, and as the last turn of a conversation."""
    turns = example.fields
    if all(name.partition(":")[0].isdigit() for name in turns):
        turns = turns | {f"{len(turns)}:assistant": answer}
    return dataclasses.replace(example, fields=turns, completion=answer, choices=(), gold=None)


def is_whole(pair: Pair) -> bool:
    """Whether both answers are there in full: the two are compared, so that neither may be cut."""
    both = (pair.chosen, pair.rejected)
    return all(one.loss_mask[1:].any() and not one.truncated for one in both)
