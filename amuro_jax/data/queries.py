"""A set under one format with its shots → queries: text with candidates, fitted to the context
(quirk 8).
"""

import dataclasses

import numpy as np

from amuro_jax.data import choices, formats, sources
from amuro_jax.data.protocols import STRICT, Protocol
from amuro_jax.data.shots import Shots, choose_shots, instance_shots
from amuro_jax.data.task import Kind, Task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.data.types import Example, Query
from amuro_jax.errors import DataError

END_OF_TEXT = "<|endoftext|>"  # in a conversation, where no tokenizer says what it is


def build_queries(
    task: Task,
    format: str,
    shots: int,
    protocol: Protocol = STRICT,
    tokenizer: Tokenizer | None = None,
    *,
    data_root: str = "",
    max_length: int = 2048,
    max_new_tokens: int = 60,
    rows: int = 0,
    shot_seed: int = 0,
    shot_texts: tuple[str, ...] | None = None,
) -> list[Query]:
    """Queries of every scored row of a set, in the order of the file.

    Args:
        format: see `data.formats`.
        tokenizer: needed to fit contexts; None leaves them as they are.
        max_length: tokens of the model's context; of these, `max_new_tokens` are reserved for
            generation.
        rows: a seeded subsample of the scored rows, in the file's order; 0: all.
        shot_texts: rendered shots to use as they are.

    Raises:
        DataError: see `data.sources`; a row that does not fit even alone and cut.
    """
    task = task.under(protocol)
    split = sources.test_split(task, protocol, data_root)
    test = sources.load_examples(task, split, protocol)
    if shot_texts is None:
        chosen = choose_shots(task, shots, protocol, shot_seed, data_root, test)
    else:
        chosen = Shots((), (), task)
    end_of_text = tokenizer.token(tokenizer.eos_id) if tokenizer else END_OF_TEXT
    frame = _Frame(task, format, protocol, shots, end_of_text)
    scored = _subsample([example for example in test if example.row not in chosen.left_out], rows)
    if not scored:
        raise DataError(
            f"every row of {task.name} serves as a shot", where=split.path or task.source.hub
        )
    queries, each = _render(frame, scored, chosen, shot_texts)
    if tokenizer is None or protocol.no_fitting:
        return queries
    return _fit(queries, scored, frame, each, tokenizer, max_length, max_new_tokens)


def _render(frame, scored, chosen, shot_texts):
    """(queries, texts of the shots of each): the same shots for all rows, or each row's own."""
    if shot_texts is None:
        texts = [frame.shot(example, chosen.task) for example in chosen.examples]
    else:
        texts = list(shot_texts)
    names = chosen.names or tuple(f"given:{number}" for number in range(len(texts)))
    queries, each = [], []
    for example in scored:
        if chosen.pool:
            own = instance_shots(chosen, example.row, frame.shots, example)
            texts = [frame.shot(shot, chosen.task) for shot in own]
            names = tuple(f"{chosen.pool_split}:{shot.row}" for shot in own)
        each.append(texts)
        queries.append(frame.query(example, texts, names, shared=not chosen.pool))
    return queries, each


def _subsample(examples, rows):
    if not rows or rows >= len(examples):
        return examples
    return [
        examples[index]
        for index in sorted(np.random.default_rng(0).permutation(len(examples))[:rows])
    ]


@dataclasses.dataclass(frozen=True)
class _Frame:
    """How rows of one set become text."""

    task: Task
    format: str
    protocol: Protocol
    shots: int
    end_of_text: str = END_OF_TEXT

    def prompt(self, example: Example, task: Task | None = None) -> str:
        task = task or self.task
        if task.kind == Kind.MULTIPLE_CHOICE:
            return choices.choice_prompt(example, task, self.format, self.protocol)
        return formats.prompt(example, task, self.format, self.protocol)

    def shot(self, example: Example, task: Task) -> str:
        if task.kind == Kind.MULTIPLE_CHOICE:
            return choices.shot_text(example, task, self.format, self.protocol)
        prompt = self.prompt(example, task)
        completion = formats.completion(example, task, self.format, self.protocol)
        gap = "" if self.protocol.published_templates else formats.gap(prompt, completion)
        return f"{prompt}{gap}{completion}\n"

    def query(
        self,
        example: Example,
        texts: list[str],
        names: tuple[str, ...],
        shared: bool = True,
        **extra,
    ) -> Query:
        before, task = "".join(texts), self.task
        choice = task.kind == Kind.MULTIPLE_CHOICE
        text = self.prompt(example)
        if task.chat:
            text = formats.conversation(text, example, task, self.end_of_text)
        return Query(
            task=task.name,
            row=example.row,
            doc_id=example.doc_id,
            format=self.format,
            shots=self.shots,
            context=before + text,
            continuations=self.continuations(example),
            gold=example.gold,
            reference=formats.word_for(example.completion, task, self.format),
            unconditional=choices.UNCONDITIONAL if choice else None,
            stop=() if self.protocol.no_stop or task.kind != Kind.GENERATION else task.stop,
            shared=len(before) if shared else 0,
            joint=not (choice and self.protocol.published_choices),
            shot_rows=tuple(names),
            group=example.group,
            metric=task.metric,
            new_tokens=task.new_tokens,
            published=not task.lacks_published(self.format, self.protocol),
            **extra,
        )

    def continuations(self, example: Example) -> tuple[tuple[str, ...], ...]:
        """Per choice its forms: one space and the option.

        Label words with and without the space, whose probabilities are added.
        """
        if self.task.kind == Kind.MULTIPLE_CHOICE:
            return tuple(
                (f" {choices.choice_text(option, self.task, self.protocol)}",)
                for option in example.choices
            )
        words = [formats.word_for(word, self.task, self.format) for word in example.choices]
        if not self.task.answers:
            return tuple(map(_forms, words))
        word_of = dict(zip(example.choices, words, strict=True))
        return tuple(
            tuple(form for word in group for form in _forms(word_of[word]))
            for group in self.task.answers
        )


def _forms(word):
    return (f" {word}", word)


def _fit(queries, examples, frame, each, tokenizer, max_length, max_new_tokens):
    """Drops shots from the left until context and longest candidate fit, then cuts the longest
    field; rows that fit already stay as they are.
    """
    room = max_length - len(tokenizer.prefix_ids)
    # A token is at least one byte, so most sets are known to fit without being tokenised.
    doubtful = [
        i
        for i, query in enumerate(queries)
        if len(query.context.encode()) + _bytes_after(query, max_new_tokens) >= room
    ]
    shared = queries[0].shared if all(query.shared == queries[0].shared for query in queries) else 0
    sizes = tokenizer.encode_batch([queries[i].context for i in doubtful], shared)
    fitted, known = list(queries), {}
    for i, ids in zip(doubtful, sizes, strict=True):
        left = room - _tokens_after(queries[i], max_new_tokens, tokenizer, known)
        if len(ids) > left:
            fitted[i] = _shortened(queries[i], examples[i], frame, each[i], tokenizer, left)
    return fitted


def _forms_of(query):
    return [form for forms in query.continuations for form in forms]


def _bytes_after(query, max_new_tokens):
    """Never less than `_tokens_after`."""
    return (
        max(len(form.encode()) for form in _forms_of(query))
        if query.continuations
        else query.new_tokens or max_new_tokens
    )


def _tokens_after(query, max_new_tokens, tokenizer, known):
    """Tokens to keep free behind a context: those to be generated, or of the longest candidate.

    `known` remembers what was counted.
    """
    if not query.continuations:
        return query.new_tokens or max_new_tokens
    for form in _forms_of(query):
        if form not in known:
            known[form] = len(tokenizer.encode(form))
    return max(known[form] for form in _forms_of(query))


def _shortened(query, example, frame, texts, tokenizer, room):
    """One query with fewer shots, or a shorter document, so that its context has at most `room`
    tokens.

    Raises:
        DataError: what is left of the frame alone is longer.
    """
    own = list(zip(texts, query.shot_rows, strict=True))

    def make(example, first, cut):
        shots = own[first:]
        names = tuple(name for _, name in shots)
        return frame.query(
            example,
            [text for text, _ in shots],
            names,
            bool(query.shared),
            dropped_shots=first,
            cut_tokens=cut,
        )

    dropped, cut = 0, 0
    while (size := len(tokenizer.encode((shorter := make(example, dropped, cut)).context))) > room:
        if dropped < len(own):
            dropped += 1
            continue
        example, removed = cut_longest(example, size - room, tokenizer)
        if not removed:
            raise DataError(
                f"{size} tokens, {room} fit, and there is nothing left to cut",
                where=f"{query.task} row {query.row}",
            )
        cut += removed
    return shorter


def cut_longest(example: Example, tokens: int, tokenizer: Tokenizer) -> tuple[Example, int]:
    """The example with its longest field shortened at the end by at least `tokens` tokens (or to
    nothing), and how many went.
    """
    name = max(example.fields, key=lambda field: len(example.fields[field]))
    text = example.fields[name]
    ids, offsets = tokenizer.encode_with_offsets(text)
    keep = max(0, len(ids) - tokens)
    shorter = text[: offsets[keep - 1][1]].rstrip() if keep else ""
    return dataclasses.replace(example, fields={**example.fields, name: shorter}), len(ids) - keep
