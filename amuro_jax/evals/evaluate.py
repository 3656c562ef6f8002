"""From queries to one record per row and their metrics, for one model."""

import dataclasses

import numpy as np

from amuro_jax.evals import metrics
from amuro_jax.evals.prepare import LABELS, SUB_TOKENS, Prepared, prepare, prompt_hash


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
    method="token_prob",
    candidates="labels",
    max_new_tokens=60,
    **summary,
) -> Evaluation:
    """Scores `queries` (a list, or what `prepare` made of it) with one model.

    Args:
        method: token_prob | constrained | free, for queries with choices; the others are generated.
        candidates: see `Prepared`.
        summary: passed on to the metrics (bootstrap, seed, …).
    """
    prepared = (
        queries
        if isinstance(queries, Prepared)
        else prepare(
            queries, tokenizer, method=method, candidates=candidates, max_new_tokens=max_new_tokens
        )
    )
    if prepared.method in ("generate", "free"):
        rows = _generated(scorer, params, tokenizer, prepared)
    else:
        rows = _ranked(scorer, params, prepared)
    if "primary" in summary:
        rows = _by_primary(prepared, rows, summary)
    return Evaluation(rows, metrics.summarise(rows, **summary))


def rules(task, protocol) -> tuple[dict, dict]:
    """What follows from a task and a protocol: options of `prepare`, and the `summary` of
    `evaluate`.
    """
    sub_tokens = protocol.sub_token_candidates and task.kind == "classification"
    summary = {"statistic": "midpoint" if protocol.interval_midpoint else "mean"}
    if task.kind == "multiple_choice":
        summary |= {"primary": task.primary, "count_space": protocol.published_choices}
    return {"candidates": SUB_TOKENS if sub_tokens else LABELS}, summary


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
    }


def _ranked(scorer, params, prepared):
    if prepared.plan is None:
        prepared.plan = scorer.plan(prepared.requests)
    results = scorer.loglikelihoods(params, prepared.plan)
    rows = []
    for index, query in enumerate(prepared.queries):
        forms = [
            [results[request].logprob[place] for request, place in choice]
            for choice in prepared.asked[index]
        ]
        values = [_combine(form, prepared) for form in forms]
        predicted = int(np.argmax(values))
        asked = prepared.asked_unconditional[index]
        rows.append(
            _common(prepared, index)
            | {
                "predicted": predicted,
                "correct": predicted == query.gold,
                "score": float(predicted == query.gold),
                "prediction": query.continuations[predicted][0].strip(),
                "choice_logprobs": values,
                "choice_chars": [len(choice[0].strip()) for choice in query.continuations],
                "choice_logprobs_unconditional": asked
                and [float(results[request].logprob[place]) for request, place in asked],
                "label_mass": _mass(forms, prepared.asked[index]),
            }
        )
    return rows


def _combine(logprobs, prepared):
    """One choice's value from its forms: added in probability, or the best where forms compete."""
    best = prepared.method == "constrained" or prepared.candidates == SUB_TOKENS
    return float(max(logprobs) if best else np.logaddexp.reduce(logprobs))


def _mass(forms, asked):
    """Probability of all distinct candidates together."""
    each = {
        place: logprob
        for choice, places in zip(forms, asked, strict=True)
        for logprob, place in zip(choice, places, strict=True)
    }
    return float(np.exp(np.logaddexp.reduce(list(each.values()))))


def _generated(scorer, params, tokenizer, prepared):
    stops = [request.stop for request in prepared.requests]

    def stopped(index, tokens):
        return stop_at(tokenizer, tokens, stops[index]) if stops[index] else None

    made = scorer.generate(params, prepared.requests, eos=tokenizer.eos_ids, stopped=stopped)
    rows = []
    for index, (query, generation) in enumerate(zip(prepared.queries, made, strict=True)):
        text = cut_at(tokenizer.decode(generation.tokens, skip_special=True), query.stop)
        row = _common(prepared, index) | {
            "prediction": text.strip(),
            "ended": generation.ended,
            "metric": query.metric,
        }
        free = prepared.method == "free"
        rows.append(
            row
            | (
                _found_label(query, text)
                if free
                else {"score": metrics.text_score(text, query.reference, query.metric)}
            )
        )
    return rows


def _found_label(query, text):
    """The label whose form stands first in the text; -1 where there is none."""
    places = [
        min((text.find(form.strip()) for form in forms if form.strip() in text), default=-1)
        for forms in query.continuations
    ]
    found = [
        (place, -max(map(len, query.continuations[i])), i)
        for i, place in enumerate(places)
        if place >= 0
    ]
    predicted = min(found)[2] if found else -1
    return {
        "predicted": predicted,
        "correct": predicted == query.gold,
        "score": float(predicted == query.gold),
    }


def cut_at(text: str, stops: tuple[str, ...]) -> str:
    """`text` up to the first of its stop strings."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


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
