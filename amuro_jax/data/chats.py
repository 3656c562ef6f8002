"""Conversations as tokens with a loss mask: in the study's layout or under the tokenizer's own chat
template; the assistant's turns are learned, all or the last one.
"""

import numpy as np

from amuro_jax.data.protocols import Protocol
from amuro_jax.data.tokenizer import Tokenizer, render_chat
from amuro_jax.data.types import Example, TrainExample
from amuro_jax.errors import DataError

ASSISTANT = "<|assistant|>\n"  # the header of a turn that is learned


def encode_chat(
    example: Example,
    tokenizer: Tokenizer,
    max_length: int,
    protocol: Protocol,
    template: bool = False,
    last_only: bool = False,
) -> TrainExample:
    """A conversation, cut at `max_length` tokens.

    Args:
        template: under the tokenizer's chat template, not in the study's layout.
        last_only: only the last turn is learned, which must be the assistant's, and nothing follows
            it.

    Raises:
        DataError: no chat template, or one that cannot be split into turns.
    """
    if template:
        return _under_template(example, tokenizer, max_length, last_only)
    if protocol.published_templates and not last_only:
        return _published(example, tokenizer, max_length)
    return _in_layout(example, tokenizer, max_length, last_only)


def cut_end(tokens, mask, row: int, max_length: int, cut: int = 0) -> TrainExample:
    """An example that ends at `max_length` tokens; `cut` were lost before."""
    lost = cut + max(0, len(tokens) - max_length)
    tokens, mask = np.asarray(tokens[:max_length], np.int32), np.asarray(mask[:max_length], bool)
    return TrainExample(tokens, mask, row, lost)


def turns_of(example: Example) -> list[tuple[str, str]]:
    """(role, content without outer white space) of a conversation."""
    return [(name.partition(":")[2], text.strip()) for name, text in example.fields.items()]


def _in_layout(example, tokenizer, max_length, last_only):
    """`<|user|>\\n…\\n<|assistant|>\\n…{eos}\\n`; assistant turns, their eos included, are learned
    (arXiv 2408.06663, appendix).

    The text between two eos is tokenised together, and each token is learned whose characters
    reach into an assistant's turn.
    """
    ids, learned = list(tokenizer.prefix_ids), [False] * len(tokenizer.prefix_ids)
    pieces = _pieces(example)
    pieces = pieces[:-1] if last_only else pieces  # the line end behind the last eos
    for number, (text, start) in enumerate(pieces):
        taught = start is not None and (not last_only or number == len(pieces) - 1)
        part, offsets = tokenizer.encode_with_offsets(text)
        ids += part
        learned += [taught and end > start for _, end in offsets]
        if start is not None:
            ids.append(tokenizer.eos_id)
            learned.append(taught)
    return cut_end(ids, learned, example.row, max_length)


def _under_template(example, tokenizer, max_length, last_only):
    """The conversation as the template renders it, one text; what the template adds to a
    conversation by an assistant's turn is learned, without the beginning that asks for it and
    without white space behind its end.
    """
    messages = [{"role": role, "content": content} for role, content in turns_of(example)]
    text, spans = render_chat(tokenizer, messages), []
    for number, message in enumerate(messages):
        if message["role"] != "assistant" or (last_only and number < len(messages) - 1):
            continue
        before = render_chat(tokenizer, messages[:number], generate=True)
        after = render_chat(tokenizer, messages[: number + 1]).rstrip()
        if not (after.startswith(before) and text.startswith(after)):
            raise DataError(
                "the chat template renders a turn otherwise when others follow it",
                where=f"row {example.row}",
                hint="leave chat_template unset: the study's layout is then used",
            )
        spans.append((len(before), len(after)))
    if last_only:
        text = text.rstrip()
    begun = tokenizer.bos_id is not None and text.startswith(tokenizer.token(tokenizer.bos_id))
    start = [] if begun else list(tokenizer.prefix_ids)
    ids, offsets = tokenizer.encode_with_offsets(text)
    learned = [any(end > first and begin < last for first, last in spans) for begin, end in offsets]
    return cut_end([*start, *ids], [False] * len(start) + learned, example.row, max_length)


def _pieces(example):
    """Texts of a conversation between its eos, each with the character where the assistant's words
    begin (None: there are none).
    """
    pieces, text = [], ""
    for role, content in turns_of(example):
        text += f"<|{role}|>\n"
        if role == "assistant":
            pieces.append((text + content, len(text)))
            text = "\n"
        else:
            text += content + "\n"
    return [*pieces, (text, None)]


def _published(example, tokenizer, max_length):
    """A conversation as the released trainer encodes it: one text without outer white space; the
    tokens of the other turns, and of the header of the assistant's turn behind them, are not
    learned.

    It counts them by tokenising the conversation up to the turn, so that the line end behind an
    eos in the middle is learned.
    """
    end = tokenizer.token(tokenizer.eos_id)
    turns = turns_of(example)
    texts = [
        f"<|{role}|>\n{content}{end if role == 'assistant' else ''}\n" for role, content in turns
    ]
    start = list(tokenizer.prefix_ids)
    ids = start + tokenizer.encode("".join(texts).strip())
    learned = [True] * len(ids)
    for index, (role, _) in enumerate(turns):
        if role == "assistant":
            continue
        before = "".join(texts[:index])
        answered = index + 1 < len(turns) and turns[index + 1][0] == "assistant"
        until = before + texts[index] + (ASSISTANT if answered else "")
        first = len(start) + len(tokenizer.encode(before)) if index else 0
        last = len(start) + len(tokenizer.encode(until))
        learned[first:last] = [False] * (min(last, len(ids)) - first)
    return cut_end(ids, learned, example.row, max_length)
