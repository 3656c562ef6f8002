"""From queries to one record per row and their metrics, for one model."""

import dataclasses

import numpy as np

from amuro_jax.config import Method
from amuro_jax.evals import metrics
from amuro_jax.evals.prepare import GENERATE, LABELS, SUB_TOKENS, Prepared, prepare, prompt_hash
from amuro_jax.scoring.requests import NonFiniteError

# The order in which the study's released code looks for a label in a generated text.
LABEL_ORDER = ("no", "yes", "contradiction", "neutral", "entailment")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One model on one set: records of docs/architecture.md "Rows", and metrics by name."""

    rows: list[dict]
    metrics: dict


def evaluate(
    scorer,
    params,
    tokenizer,
    queries,
    *,
    method=Method.TOKEN_PROB,
    candidates=LABELS,
    fixed_order=False,
    max_new_tokens=60,
    model="",
    **summary,
) -> Evaluation:
    """Scores `queries` (a list, or what `prepare` made of it) with one model.

    Args:
        method: token_prob | constrained | free, for queries with choices; the others are generated.
        candidates, fixed_order: see `Prepared`.
        model: the checkpoint, for errors.
        summary: passed on to the metrics (bootstrap, seed, …).

    Raises:
        NonFiniteError: a score that is not finite; names checkpoint, set and row.
        ConfigError, DataError: see `prepare`.
    """
    prepared = (
        queries
        if isinstance(queries, Prepared)
        else prepare(
            queries,
            tokenizer,
            method=method,
            candidates=candidates,
            fixed_order=fixed_order,
            max_new_tokens=max_new_tokens,
        )
    )
    try:
        if prepared.method in (GENERATE, Method.FREE):
            rows = _generated(scorer, params, tokenizer, prepared)
        else:
            rows = _ranked(scorer, params, prepared)
    except NonFiniteError as error:
        raise _located(error, prepared, model) from error
    if "primary" in summary:
        rows = _by_primary(prepared, rows, summary)
    return Evaluation(rows, metrics.metrics_record(rows, **summary))


def rules(task, protocol) -> tuple[dict, dict]:
    """What follows from a task and a protocol: options of `prepare`, and the `summary` of
    `evaluate`.
    """
    sub_tokens = protocol.sub_token_candidates and task.kind == "classification"
    summary = {"statistic": "midpoint" if protocol.interval_midpoint else "mean"}
    if task.kind == "multiple_choice":
        summary |= {"primary": task.primary, "count_space": protocol.published_choices}
    options = {"candidates": SUB_TOKENS if sub_tokens else LABELS}
    return options | {"fixed_order": protocol.published_label_search}, summary


def _located(error, prepared, model):
    """The error of a request as one of the first row that needs it."""
    index = error.request
    for number, indices in enumerate(prepared.indices):
        needed = [*(position for forms in indices for position in forms)]
        needed += prepared.unconditional_indices[number] or []
        if any(request == error.request for request, _ in needed):
            index = number
            break
    query = prepared.queries[index]
    where = f"{query.task} ({query.format}, {query.shots} shots), row {query.row}"
    where = f"{model}: {where}" if model else where
    return NonFiniteError(error.what, where=where, hint=error.hint, request=error.request)


def _by_primary(prepared, rows, summary):
    ranked = metrics.apply_primary(rows, summary["primary"], summary.get("count_space", False))
    queries = prepared.queries
    return [
        row | {"prediction": query.continuations[row["predicted"]][0].strip()}
        for row, query in zip(ranked, queries, strict=True)
    ]


def _common(prepared, index):
    query = prepared.queries[index]
    return {
        "task": query.task,
        "format": query.format,
        "shots": query.shots,
        "row": query.row,
        "doc_id": query.doc_id,
        "group": query.group,
        "gold": query.gold,
        "predicted": None,
        "correct": None,
        "score": None,
        "prediction": "",
        "reference": query.reference,
        "choice_logprobs": None,
        "choice_tokens": prepared.choice_tokens[index] or None,
        "choice_chars": None,
        "choice_logprobs_unconditional": None,
        "label_mass": None,
        "context_tokens": prepared.context_tokens[index],
        "prompt_sha256": prompt_hash(query.context),
        "shot_rows": list(query.shot_rows),
        "dropped_shots": query.dropped_shots,
        "cut_tokens": query.cut_tokens,
        "ended": None,
        "published": query.published,
    }


def _ranked(scorer, params, prepared):
    results = scorer.loglikelihoods(params, scorer.plan_once(prepared))
    rows = []
    for index, query in enumerate(prepared.queries):
        forms = [
            [results[request].logprob[position] for request, position in choice]
            for choice in prepared.indices[index]
        ]
        values = [_combine(form, prepared) for form in forms]
        predicted = int(np.argmax(values))
        unconditional = prepared.unconditional_indices[index]
        rows.append(
            _common(prepared, index)
            | {
                "predicted": predicted,
                "correct": predicted == query.gold,
                "score": float(predicted == query.gold),
                "prediction": query.continuations[predicted][0].strip(),
                "choice_logprobs": values,
                "choice_chars": [len(choice[0].strip()) for choice in query.continuations],
                "choice_logprobs_unconditional": unconditional
                and [
                    float(results[request].logprob[position]) for request, position in unconditional
                ],
                "label_mass": _mass(forms, prepared.indices[index]),
            }
        )
    return rows


def _combine(logprobs, prepared):
    """One choice's value from its forms: added in probability, or the best where forms compete."""
    best = prepared.method == Method.CONSTRAINED or prepared.candidates == SUB_TOKENS
    return float(max(logprobs) if best else np.logaddexp.reduce(logprobs))


def _mass(forms, indices_of):
    """Probability of all distinct candidates together."""
    each = {
        index: logprob
        for choice, indices in zip(forms, indices_of, strict=True)
        for logprob, index in zip(choice, indices, strict=True)
    }
    return float(np.exp(np.logaddexp.reduce(list(each.values()))))


def _generated(scorer, params, tokenizer, prepared):
    stops = [request.stop for request in prepared.requests]

    def stopped(index, tokens):
        return stop_at(tokenizer, tokens, stops[index]) if stops[index] else None

    generated = scorer.generate(params, prepared.requests, eos=tokenizer.eos_ids, stopped=stopped)
    rows = []
    for index, (query, generation) in enumerate(zip(prepared.queries, generated, strict=True)):
        text = cut_at(tokenizer.decode(generation.tokens, skip_special=True), query.stop)
        row = _common(prepared, index) | {
            "prediction": text.strip(),
            "ended": generation.ended,
            "metric": str(query.metric),
        }
        free = prepared.method == Method.FREE
        rows.append(
            row
            | (
                _labelled(query, text, prepared.fixed_order)
                if free
                else {"score": metrics.text_score(text, query.reference, query.metric)}
            )
        )
    return rows


def _labelled(query, text, fixed_order):
    """The label that the text names, -1 where it names none.

    Args:
        fixed_order: the first of LABEL_ORDER that is anywhere in the text, as the released code has
            it, in place of the one that stands first.
    """
    predicted = _first_label(query, text)
    if fixed_order:
        names = {form.strip(): i for i, forms in enumerate(query.continuations) for form in forms}
        known = [names[name] for name in LABEL_ORDER if name in names and name in text]
        predicted = known[0] if known else predicted
    return {
        "predicted": predicted,
        "correct": predicted == query.gold,
        "score": float(predicted == query.gold),
    }


def _first_label(query, text):
    starts = [
        min((text.find(form.strip()) for form in forms if form.strip() in text), default=-1)
        for forms in query.continuations
    ]
    matches = [
        (start, -max(map(len, query.continuations[i])), i)
        for i, start in enumerate(starts)
        if start >= 0
    ]
    return min(matches)[2] if matches else -1


def cut_at(text: str, stops: tuple[str, ...]) -> str:
    """`text` up to the first of its stop strings."""
    ends = [end for stop in stops if (end := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def stop_at(tokenizer, tokens, stops):
    """Number of tokens up to the stop string, its first token included.

    None where the text has none.
    """
    if not any(stop in tokenizer.decode(tokens) for stop in stops):
        return None
    low, high = 1, len(tokens)  # the shortest beginning whose text has a stop
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle)
            if any(stop in tokenizer.decode(tokens[:middle]) for stop in stops)
            else (middle + 1, high)
        )
    return low
