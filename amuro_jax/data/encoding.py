"""Training rows as tokens with a loss mask: prompt and completion, or chat.

Prompt and completion are tokenised together. Under `strict` the mask follows from character
offsets, under `paper` from token counts, as the released trainer has it.
"""

import dataclasses
import logging

import numpy as np

from amuro_jax.data import formats, sources
from amuro_jax.data.chats import cut_end, encode_chat
from amuro_jax.data.preferences import encode_pairs, is_chat, is_whole, with_chosen
from amuro_jax.data.protocols import STRICT, Protocol
from amuro_jax.data.queries import cut_longest
from amuro_jax.data.streamed import STREAM_ROWS, Streamed
from amuro_jax.data.task import Kind, Task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.data.types import Example, Pair, TrainExample
from amuro_jax.errors import DataError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """The encoded rows that a model is fine-tuned on.

    Attributes:
        examples: in the subsample's order; each has at least one token to learn, but for a streamed
            set, which is encoded while it is trained on.
        dropped: rows of the subsample that had none within the length limit; None: streamed, not
            counted.
    """

    examples: list[TrainExample] | list[Pair] | Streamed
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
    chat_template: bool = False,
    pairs: bool = False,
) -> TrainingSet:
    """The training split, subsampled and encoded.

    Args:
        max_length: tokens of an example. A row with nothing to learn within it is left out, as the
            released code does, and a warning says how many were.
        rows: None: all of them. More than STREAM_ROWS are encoded while they are trained on, pairs
            excepted.
        chat_template: conversations under the tokenizer's own template.
        pairs: of a set of preferences both answers, as `Pair`s; else the chosen ones alone.

    Raises:
        DataError: no training split, a bad row, pairs whose answers are equal or empty, or no row
            with something to learn.
    """
    if task.kind == Kind.MULTIPLE_CHOICE:
        raise DataError(
            f"{task.name} is a multiple-choice set; it is scored, not trained on", where="task"
        )
    encode = _encoder(task, format, protocol, tokenizer, max_length, chat_template)
    split = sources.train_split(task, data_root)
    if (rows is None or rows > STREAM_ROWS) and not pairs:
        native = sources.rows_by_number(task, split)
        chosen = subsample(len(native), rows, seed)
        if len(chosen) > STREAM_ROWS:
            under = task.under(STRICT)
            read = lambda row: sources.example(under, *native[row], row)  # noqa: E731
            return TrainingSet(Streamed(chosen, read, encode, max_length), dropped=None)
    examples = sources.load_examples(task, split, STRICT)
    chosen = [examples[index] for index in subsample(len(examples), rows, seed)]
    if pairs:
        encoded = encode_pairs(task, chosen, encode)
        usable = [pair for pair in encoded if is_whole(pair)]
    else:
        encoded = encode(chosen)
        usable = [example for example in encoded if example.loss_mask[1:].any()]
    _check_usable(len(usable), len(encoded), task, max_length)
    return TrainingSet(usable, len(encoded) - len(usable))


def _check_usable(usable, count, task, max_length):
    """Warns of rows with nothing to learn; refuses a set of nothing else."""
    if not usable:
        raise DataError(
            f"none of {count} training rows of {task.name} has a token to learn within "
            f"{max_length} tokens",
            where="max_length",
            hint="give a larger max_length, or another set",
        )
    if usable < count:
        log.warning(
            "%s: %d of %d training rows are left out: nothing to learn within %d tokens",
            task.name,
            count - usable,
            count,
            max_length,
        )


def _encoder(task, format, protocol, tokenizer, max_length, chat_template):
    """Rows → encoded examples; of a set of preferences with the chosen answer where it is not one
    of the two already.
    """
    if not is_chat(task):
        encode = _Completions(task, format, protocol, tokenizer, max_length).encode
    else:
        last_only = task.kind == Kind.PREFERENCE
        arguments = (tokenizer, max_length, protocol, chat_template, last_only)

        def encode(examples):
            return [encode_chat(example, *arguments) for example in examples]

    if task.kind != Kind.PREFERENCE:
        return encode
    return lambda examples: encode([with_chosen(example) for example in examples])


@dataclasses.dataclass(frozen=True)
class _Completions:
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
        return cut_end(tokens, mask, example.row, self.max_length, cut)

    def _published_mask(self, prompt, size):
        """The released code takes the prompt for as long as its own tokens, without a last
        character of white space.
        """
        prompt = prompt[:-1] if prompt.endswith(formats.PUBLISHED_SPACES) else prompt
        border = len(self.tokenizer.encode(prompt))
        return [position >= border for position in range(size)]
