"""Training rows as tokens with a loss mask: prompt and completion, or chat.

Joint tokenisation, the mask by character offsets.
"""

import numpy as np

from amuro_jax.data import formats, sources
from amuro_jax.data.protocols import STRICT, Protocol
from amuro_jax.data.queries import cut_longest
from amuro_jax.data.task import Task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.data.types import Example, TrainExample
from amuro_jax.errors import DataError


def subsample(count: int, rows: int, seed: int) -> np.ndarray:
    """Indices of the training rows: the first `rows` of the permutation of PCG64(seed), which is
    also that of `datasets.Dataset.shuffle(seed)`.
    """
    return np.random.default_rng(seed).permutation(count)[: rows or count]


def encode_training_set(
    task: Task,
    format: str,
    protocol: Protocol,
    tokenizer: Tokenizer,
    *,
    max_length: int = 2048,
    rows: int = 6000,
    seed: int = 42,
    data_root: str = "",
) -> list[TrainExample]:
    """The training split, subsampled and encoded, in the subsample's order.

    Raises:
        DataError: no training split, a bad row, or a row whose completion alone does not fit.
    """
    examples = sources.load_examples(task, sources.train_split(task, data_root), STRICT)
    chosen = [examples[index] for index in subsample(len(examples), rows, seed)]
    if task.kind == "chat":
        return [_encode_chat(example, tokenizer, max_length) for example in chosen]
    texts = [_text(example, task, format, protocol) for example in chosen]
    encoded = tokenizer.encode_batch_with_offsets(["".join(pair) for pair in texts])
    return [
        _encode_pair(example, pair, ids, offsets, task, format, protocol, tokenizer, max_length)
        for example, pair, (ids, offsets) in zip(chosen, texts, encoded, strict=True)
    ]


def _text(example, task, format, protocol):
    """(prompt, gap and completion)."""
    if task.kind == "multiple_choice":
        raise DataError(
            f"{task.name} is a multiple-choice set; it is scored, not trained on", where="task"
        )
    prompt, completion = (
        formats.prompt(example, task, format, protocol),
        formats.word_for(example.completion, task, format).strip(),
    )
    return prompt, formats.gap(prompt, completion) + completion


def _encode_pair(example, pair, ids, offsets, task, format, protocol, tokenizer, max_length):
    start = list(tokenizer.prefix_ids)
    over, cut = len(start) + len(ids) + 1 - max_length, 0
    while over > 0 and not protocol.no_fitting:
        example, removed = cut_longest(example, over, tokenizer)
        if not removed:
            raise DataError(
                f"the completion alone has more than {max_length} tokens",
                where=f"{task.name} row {example.row}",
            )
        cut += removed
        pair = _text(example, task, format, protocol)
        ids, offsets = tokenizer.encode_with_offsets("".join(pair))
        over = len(start) + len(ids) + 1 - max_length
    border = len(pair[0])
    # A token that crosses the border (a space that belongs to the label's token) is learned.
    learned = [end > border for _, end in offsets]
    if protocol.published_templates:
        learned = _published_mask(pair[0], len(ids), tokenizer)
    tokens = np.asarray(start + ids + [tokenizer.eos_id], np.int32)
    mask = np.asarray([False] * len(start) + learned + [True])
    return TrainExample(
        tokens[:max_length], mask[:max_length], example.row, cut + max(0, len(tokens) - max_length)
    )


def _published_mask(prompt, size, tokenizer):
    """The released code's mask: the prompt's length is that of its own tokens, without a last
    character of white space.
    """
    prompt = prompt[:-1] if prompt[-1:].isspace() else prompt
    border = len(tokenizer.encode(prompt))
    return [position >= border for position in range(size)]


def _encode_chat(example: Example, tokenizer: Tokenizer, max_length: int) -> TrainExample:
    """`<|user|>\\n…\\n<|assistant|>\\n…{eos}\\n`; assistant turns, their eos included, are learned
    (paper.md).

    What stands between two eos is tokenised as one text, and each token is learned whose characters
    reach into an assistant's turn.
    """
    ids, learned = list(tokenizer.prefix_ids), [False] * len(tokenizer.prefix_ids)
    for text, start in chat_pieces(example):
        part, offsets = tokenizer.encode_with_offsets(text)
        ids, learned = (
            ids + part,
            learned + [start is not None and end > start for _, end in offsets],
        )
        if start is not None:
            ids, learned = ids + [tokenizer.eos_id], learned + [True]
    tokens = np.asarray(ids[:max_length], np.int32)
    return TrainExample(
        tokens, np.asarray(learned[:max_length], bool), example.row, max(0, len(ids) - max_length)
    )


def chat_pieces(example: Example) -> list[tuple[str, int | None]]:
    """Texts of a conversation between its eos, each with the character where the assistant's words
    begin (None: there are none).
    """
    pieces, text = [], ""
    for name, content in example.fields.items():
        role = name.partition(":")[2]
        text += f"<|{role}|>\n"
        if role == "assistant":
            pieces.append((text + content.strip(), len(text)))
            text = "\n"
        else:
            text += content.strip() + "\n"
    return [*pieces, (text, None)]
