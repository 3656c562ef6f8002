"""Training rows as tokens with a loss mask: prompt and completion, or chat.

Prompt and completion are tokenised together. Under `strict` the mask follows from character
offsets, under `paper` from token counts, as the released trainer has it.
"""

import dataclasses
import logging

import numpy as np

from amuro_jax.data import formats, sources
from amuro_jax.data.protocols import STRICT, Protocol
from amuro_jax.data.queries import cut_longest
from amuro_jax.data.streamed import STREAM_ROWS, Streamed
from amuro_jax.data.task import Task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.data.types import Example, TrainExample
from amuro_jax.errors import DataError

log = logging.getLogger(__name__)

ASSISTANT = "<|assistant|>\n"  # the header of a turn that is learned


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """The encoded rows that a model is fine-tuned on.

    Attributes:
        examples: in the subsample's order; each has at least one token to learn, but for a streamed
            set, which is encoded while it is trained on.
        dropped: rows of the subsample that had none within the length limit; None: streamed, not
            counted.
    """

    examples: list[TrainExample] | Streamed
    dropped: int | None = 0

    @property
    def truncated(self) -> int | None:
        """Number of examples that lost tokens so that they fit; None: streamed, not counted."""
        if isinstance(self.examples, Streamed):
            return None
        return sum(example.truncated > 0 for example in self.examples)


def subsample(count: int, rows: int | None, seed: int) -> np.ndarray:
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
    rows: int | None = 6000,
    seed: int = 42,
    data_root: str = "",
) -> TrainingSet:
    """The training split, subsampled and encoded.

    Args:
        max_length: tokens of an example. A row with nothing to learn within it is left out, as the
            released code does, and a warning says how many were.
        rows: None: all of them. More than STREAM_ROWS are encoded while they are trained on.

    Raises:
        DataError: no training split, a bad row, or no row with something to learn.
    """
    if task.kind == "multiple_choice":
        raise DataError(
            f"{task.name} is a multiple-choice set; it is scored, not trained on", where="task"
        )
    encode = _encoder(task, format, protocol, tokenizer, max_length)
    split = sources.train_split(task, data_root)
    if rows is None or rows > STREAM_ROWS:
        native = sources.rows_by_number(task, split)
        chosen = subsample(len(native), rows, seed)
        if len(chosen) > STREAM_ROWS:
            under = task.under(STRICT)
            read = lambda row: sources.example(under, *native[row], row)  # noqa: E731
            return TrainingSet(Streamed(chosen, read, encode), dropped=None)
    examples = sources.load_examples(task, split, STRICT)
    encoded = encode([examples[index] for index in subsample(len(examples), rows, seed)])
    usable = [example for example in encoded if example.loss_mask[1:].any()]
    dropped = len(encoded) - len(usable)
    if not usable:
        raise DataError(
            f"none of {len(encoded)} training rows of {task.name} has a token to learn within "
            f"{max_length} tokens",
            where="max_length",
            hint="give a larger max_length, or another set",
        )
    if dropped:
        log.warning(
            "%s: %d of %d training rows are left out: nothing to learn within %d tokens",
            task.name,
            dropped,
            len(encoded),
            max_length,
        )
    return TrainingSet(usable, dropped)


def _encoder(task, format, protocol, tokenizer, max_length):
    """Rows → encoded examples."""
    if task.kind != "chat":
        return _Pairs(task, format, protocol, tokenizer, max_length).encode
    encode = _encode_published_chat if protocol.published_templates else _encode_chat
    return lambda examples: [encode(example, tokenizer, max_length) for example in examples]


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """How rows with a prompt and a completion become tokens."""

    task: Task
    format: str
    protocol: Protocol
    tokenizer: Tokenizer
    max_length: int

    def encode(self, examples: list[Example]) -> list[TrainExample]:
        pairs = [self._texts(example) for example in examples]
        tokens = self.tokenizer.encode_batch_with_offsets(["".join(pair) for pair in pairs])
        return [
            self._encode(example, pair, ids, offsets)
            for example, pair, (ids, offsets) in zip(examples, pairs, tokens, strict=True)
        ]

    def _texts(self, example):
        """(prompt, gap and completion)."""
        prompt = formats.prompt(example, self.task, self.format, self.protocol)
        completion = formats.completion(example, self.task, self.format, self.protocol)
        return prompt, formats.gap(prompt, completion) + completion

    def _encode(self, example, pair, ids, offsets):
        start, cut = list(self.tokenizer.prefix_ids), 0
        room = self.max_length - len(start) - 1  # for the end of the text
        while len(ids) > room and not self.protocol.no_fitting:
            example, removed = cut_longest(example, len(ids) - room, self.tokenizer)
            if not removed:
                return TrainExample(np.zeros(0, np.int32), np.zeros(0, bool), example.row)
            cut += removed
            pair = self._texts(example)
            ids, offsets = self.tokenizer.encode_with_offsets("".join(pair))
        if self.protocol.published_templates:
            learned = self._published_mask(pair[0], len(ids))
        else:
            # A token that crosses the border (the space of a label's token) is learned.
            learned = [end > len(pair[0]) for _, end in offsets]
        tokens = [*start, *ids, self.tokenizer.eos_id]
        mask = [False] * len(start) + learned + [True]
        return _cut(tokens, mask, example.row, self.max_length, cut)

    def _published_mask(self, prompt, size):
        """The released code takes the prompt for as long as its own tokens, without a last
        character of white space.
        """
        prompt = prompt[:-1] if prompt.endswith(formats.PUBLISHED_SPACES) else prompt
        border = len(self.tokenizer.encode(prompt))
        return [position >= border for position in range(size)]


def _cut(tokens, mask, row, max_length, cut=0):
    """An example that ends at `max_length` tokens; `cut` were lost before."""
    lost = cut + max(0, len(tokens) - max_length)
    tokens, mask = np.asarray(tokens[:max_length], np.int32), np.asarray(mask[:max_length], bool)
    return TrainExample(tokens, mask, row, lost)


def _turns(example: Example) -> list[tuple[str, str]]:
    """(role, content without outer white space) of a conversation."""
    return [(name.partition(":")[2], text.strip()) for name, text in example.fields.items()]


def _encode_chat(example: Example, tokenizer: Tokenizer, max_length: int) -> TrainExample:
    """`<|user|>\\n…\\n<|assistant|>\\n…{eos}\\n`; assistant turns, their eos included, are learned
    (arXiv 2408.06663, appendix).

    The text between two eos is tokenised together, and each token is learned whose characters
    reach into an assistant's turn.
    """
    ids, learned = list(tokenizer.prefix_ids), [False] * len(tokenizer.prefix_ids)
    for text, start in chat_pieces(example):
        part, offsets = tokenizer.encode_with_offsets(text)
        ids += part
        learned += [start is not None and end > start for _, end in offsets]
        if start is not None:
            ids.append(tokenizer.eos_id)
            learned.append(True)
    return _cut(ids, learned, example.row, max_length)


def chat_pieces(example: Example) -> list[tuple[str, int | None]]:
    """Texts of a conversation between its eos, each with the character where the assistant's words
    begin (None: there are none).
    """
    pieces, text = [], ""
    for role, content in _turns(example):
        text += f"<|{role}|>\n"
        if role == "assistant":
            pieces.append((text + content, len(text)))
            text = "\n"
        else:
            text += content + "\n"
    return [*pieces, (text, None)]


def _encode_published_chat(example: Example, tokenizer: Tokenizer, max_length: int) -> TrainExample:
    """A conversation as the released trainer encodes it: one text without outer white space; the
    tokens of the other turns, and of the header of the assistant's turn behind them, are not
    learned.

    It counts them by tokenising the conversation up to the turn, so that the line end behind an eos
    in the middle is learned.
    """
    end = tokenizer.token(tokenizer.eos_id)
    turns = _turns(example)
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
    return _cut(ids, learned, example.row, max_length)
