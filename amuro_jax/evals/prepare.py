"""Queries as token requests: tokenised once, scored for every checkpoint. No jax."""

import dataclasses
import hashlib
import itertools

from amuro_jax.config import Method
from amuro_jax.data.types import Query
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.scoring.requests import Request

LABELS, SUB_TOKENS = "labels", "sub_tokens"
GENERATE = "generate"  # what becomes of every method for queries without choices
FREE_TOKENS = 5  # new tokens of the `free` method (paper.md)


@dataclasses.dataclass(eq=False)
class Prepared:
    """Queries of one set under one format, ready for any checkpoint of a family. Equal to itself
    alone, so that a scorer can keep the plan of its requests.

    Attributes:
        queries: in order.
        method: token_prob | constrained | free | generate.
        candidates: labels (complete forms, their probabilities added) | sub_tokens (of all forms,
            each alone; the best names its label).
        requests: for the scorer.
        indices: per query, per choice, the (request, continuation) of each form; of the
            unconditional contexts in `unconditional_indices`.
        choice_tokens: per query and choice, tokens of its first form.
        context_tokens: per query.
        fixed_order: `free` looks for labels in the published order (`published_label_search`).
    """

    queries: list[Query]
    method: str
    candidates: str
    requests: list[Request]
    indices: list[list[list[tuple[int, int]]]]
    unconditional_indices: list[list[tuple[int, int]] | None]
    choice_tokens: list[list[int]]
    context_tokens: list[int]
    fixed_order: bool = False


def prepare(
    queries: list[Query],
    tokenizer,
    *,
    method: str = Method.TOKEN_PROB,
    candidates: str = LABELS,
    fixed_order: bool = False,
    max_new_tokens: int = 60,
) -> Prepared:
    """Tokenises queries; those without continuations are generated whatever the method.

    Raises:
        ConfigError: an unknown method or kind of candidates.
        DataError: a candidate without tokens, or queries of both kinds in one list.
    """
    for name, value, known in (
        ("method", method, [*Method]),
        ("candidates", candidates, [LABELS, SUB_TOKENS]),
    ):
        if value not in known:
            hint = "one of " + ", ".join(known)
            raise ConfigError(f"unknown {name} {value!r}", where=name, hint=hint)
    generated = {not query.continuations for query in queries}
    if len(generated) > 1:
        raise DataError("queries with and without choices in one list", where=queries[0].task)
    if generated == {True}:
        method = GENERATE
    table = _RequestTable(tokenizer)
    if method in (Method.TOKEN_PROB, Method.CONSTRAINED) and candidates == LABELS:
        table.split_all(queries)
    empty = [], [], [], []
    prepared = Prepared(list(queries), method, candidates, table.requests, *empty, fixed_order)
    for query in queries:
        if method in (GENERATE, Method.FREE):
            context = table.context(query.context)
            length = FREE_TOKENS if method == Method.FREE else query.new_tokens or max_new_tokens
            prepared.requests.append(Request(context, (), length, query.stop))
            prepared.indices.append([])
            prepared.unconditional_indices.append(None)
            prepared.choice_tokens.append([])
            prepared.context_tokens.append(len(context))
        else:
            _rank(prepared, table, query, candidates)
    table.finish()
    return prepared


def _rank(prepared, table, query, candidates):
    if candidates == SUB_TOKENS:
        context = table.context(query.context)
        pairs = [
            [(context, (token,)) for token in table.sub_tokens(forms)]
            for forms in query.continuations
        ]
    else:
        pairs = [
            [table.split(query.context, form, query.joint) for form in forms]
            for forms in query.continuations
        ]
    prepared.indices.append([[table.index(*pair) for pair in forms] for forms in pairs])
    prepared.choice_tokens.append([len(forms[0][1]) for forms in pairs])
    prepared.context_tokens.append(max(len(context) for forms in pairs for context, _ in forms))
    first_forms = [forms[0] for forms in query.continuations]
    unconditional = query.unconditional
    prepared.unconditional_indices.append(
        None
        if unconditional is None
        else [table.index(*table.split(unconditional, form, query.joint)) for form in first_forms]
    )


class _RequestTable:
    """Collects continuations by context, so that each context is one request, and remembers what
    was tokenised.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.requests: list[Request] = []
        self.contexts: dict = {}  # context ids → (request, {continuation ids: index})
        self.splits: dict = {}  # (context, continuation, joint) → ids of both

    def split_all(self, queries, chunk=512):
        """Tokenises all jointly tokenised pairs, `chunk` at a time, in parallel; shots that
        neighbouring queries share are tokenised once.
        """
        for head, group in itertools.groupby(
            (query for query in queries if query.joint),
            key=lambda query: query.context[: query.shared],
        ):
            pairs = [
                (query.context, form)
                for query in group
                for forms in query.continuations
                for form in forms
            ]
            self._split_pairs(pairs, len(head), chunk)

    def _split_pairs(self, pairs, shared, chunk):
        for start in range(0, len(pairs), chunk):
            part = pairs[start : start + chunk]
            encoded = self.tokenizer.encode_batch_with_offsets(
                [context + form for context, form in part], shared
            )
            for (context, form), (ids, offsets) in zip(part, encoded, strict=True):
                self.splits[context, form, True] = self._checked(
                    context, form, self._joint(context, ids, offsets)
                )

    def context(self, text):
        return self._begun(self.tokenizer.encode(text))

    def _begun(self, ids):
        """Ids of a context after bos, where the tokenizer adds one and the text has none."""
        start = self.tokenizer.prefix_ids
        ids = tuple(ids) if start == tuple(ids[:1]) else (*start, *ids)
        return ids or (self.tokenizer.eos_id,)  # something must predict the first token

    def sub_tokens(self, forms):
        return list(dict.fromkeys(token for form in forms for token in self.tokenizer.encode(form)))

    def split(self, context, continuation, joint):
        """Ids of context and continuation.

        Jointly tokenised, a token that crosses the border belongs to the continuation.
        """
        key = (context, continuation, joint)
        if key not in self.splits:
            self.splits[key] = self._split(*key)
        return self.splits[key]

    def _split(self, context, continuation, joint):
        if joint:
            return self._checked(
                context,
                continuation,
                self._joint(context, *self.tokenizer.encode_with_offsets(context + continuation)),
            )
        return self._checked(
            context,
            continuation,
            (self.context(context), tuple(self.tokenizer.encode(continuation))),
        )

    def _joint(self, context, ids, offsets):
        border = len(ids)
        while border and offsets[border - 1][1] > len(context):
            border -= 1
        return self._begun(ids[:border]), tuple(ids[border:])

    def _checked(self, context, continuation, pair):
        if not pair[1]:
            raise DataError(
                f"the candidate {continuation!r} has no tokens after its context",
                where=repr(context[-40:]),
            )
        return pair

    def index(self, context, continuation):
        """(request, continuation) of a pair; equal pairs have the same."""
        request, continuations = self.contexts.setdefault(context, (len(self.contexts), {}))
        return request, continuations.setdefault(continuation, len(continuations))

    def finish(self):
        self.requests += [
            Request(context, tuple(continuations))
            for context, (_, continuations) in self.contexts.items()
        ]


def prompt_hash(text: str) -> str:
    """Hex SHA-256 of a prompt's text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
