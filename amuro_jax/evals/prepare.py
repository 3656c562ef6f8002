"""Queries as token requests: tokenised once, scored for every checkpoint. No jax."""

import dataclasses
import hashlib
import itertools

from amuro_jax.data.types import Query
from amuro_jax.errors import DataError
from amuro_jax.scoring.requests import Request

LABELS, SUB_TOKENS = "labels", "sub_tokens"
FREE_TOKENS = 5  # new tokens of the `free` method (paper.md)


@dataclasses.dataclass
class Prepared:
    """Queries of one set under one format, ready for any checkpoint of a family.

    Attributes:
        queries: as given.
        method: token_prob | constrained | free | generate.
        candidates: labels (whole forms, added in probability) | sub_tokens (of all forms, each
            alone; the best names its label).
        requests: what the scorer is asked.
        asked: per query, per choice, the (request, continuation) of each form; of the unconditional
            contexts in `asked_unconditional`.
        choice_tokens: per query and choice, tokens of its first form.
        context_tokens: per query.
        plan: of `requests`, made at the first evaluation.
    """

    queries: list[Query]
    method: str
    candidates: str
    requests: list[Request]
    asked: list[list[list[tuple[int, int]]]]
    asked_unconditional: list[list[tuple[int, int]] | None]
    choice_tokens: list[list[int]]
    context_tokens: list[int]
    plan: object = None


def prepare(
    queries: list[Query],
    tokenizer,
    *,
    method: str = "token_prob",
    candidates: str = LABELS,
    max_new_tokens: int = 60,
) -> Prepared:
    """Tokenises queries; those without continuations are generated whatever the method.

    Raises:
        DataError: a candidate without tokens, or queries of both kinds in one list.
    """
    generated = {not query.continuations for query in queries}
    if len(generated) > 1:
        raise DataError("queries with and without choices in one list", where=queries[0].task)
    if generated == {True}:
        method = "generate"
    book = _Book(tokenizer)
    if method in ("token_prob", "constrained") and candidates == LABELS:
        book.split_ahead(queries)
    prepared = Prepared(list(queries), method, candidates, book.requests, [], [], [], [])
    for query in queries:
        if method in ("generate", "free"):
            context = book.context(query.context)
            prepared.requests.append(
                Request(
                    context,
                    (),
                    (query.new_tokens or max_new_tokens) if method == "generate" else FREE_TOKENS,
                    query.stop,
                )
            )
            (
                prepared.asked.append([]),
                prepared.asked_unconditional.append(None),
                prepared.choice_tokens.append([]),
            )
            prepared.context_tokens.append(len(context))
        else:
            _ask(prepared, book, query, candidates)
    book.close()
    return prepared


def _ask(prepared, book, query, candidates):
    if candidates == SUB_TOKENS:
        context = book.context(query.context)
        pairs = [
            [(context, (token,)) for token in book.sub_tokens(forms)]
            for forms in query.continuations
        ]
    else:
        pairs = [
            [book.split(query.context, form, query.joint) for form in forms]
            for forms in query.continuations
        ]
    prepared.asked.append([[book.ask(*pair) for pair in forms] for forms in pairs])
    prepared.choice_tokens.append([len(forms[0][1]) for forms in pairs])
    prepared.context_tokens.append(max(len(context) for forms in pairs for context, _ in forms))
    first_forms = [forms[0] for forms in query.continuations]
    unconditional = query.unconditional
    asked = (
        None
        if unconditional is None
        else [book.ask(*book.split(unconditional, form, query.joint)) for form in first_forms]
    )
    prepared.asked_unconditional.append(asked)


class _Book:
    """Collects continuations by context, so that each context is one request, and remembers what
    was tokenised.
    """

    def __init__(self, tokenizer):
        self.tokenizer, self.requests, self.places, self.split_before = tokenizer, [], {}, {}
        self.start = tuple(tokenizer.prefix_ids)

    def split_ahead(self, queries, chunk=512):
        """Tokenises all jointly tokenised pairs, many at a time, in parallel.

        Shots that neighbours share, once.
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
                self.split_before[context, form, True] = self._checked(
                    context, form, self._joint(context, ids, offsets)
                )

    def context(self, text):
        ids = self.start + tuple(self.tokenizer.encode(text))
        return ids or (self.tokenizer.eos_id,)  # something must predict the first token

    def sub_tokens(self, forms):
        return list(dict.fromkeys(token for form in forms for token in self.tokenizer.encode(form)))

    def split(self, context, continuation, joint):
        """Ids of context and continuation.

        Jointly tokenised, a token that crosses the border belongs to the continuation.
        """
        key = (context, continuation, joint)
        if key not in self.split_before:
            self.split_before[key] = self._split(*key)
        return self.split_before[key]

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
        return (self.start + tuple(ids[:border]) or (self.tokenizer.eos_id,)), tuple(ids[border:])

    def _checked(self, context, continuation, pair):
        if not pair[1]:
            raise DataError(
                f"the candidate {continuation!r} has no tokens after its context",
                where=repr(context[-40:]),
            )
        return pair

    def ask(self, context, continuation):
        """Place (request, continuation) of a pair; equal pairs have one place."""
        request, continuations = self.places.setdefault(context, (len(self.places), {}))
        return request, continuations.setdefault(continuation, len(continuations))

    def close(self):
        self.requests += [
            Request(context, tuple(continuations))
            for context, (_, continuations) in self.places.items()
        ]


def prompt_hash(text: str) -> str:
    """Hex SHA-256 of a prompt's text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
