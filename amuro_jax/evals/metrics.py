"""Every metric of one cell, from its stored rows alone ("Rows" in docs/architecture.md). No jax, no
model.

Rows are dicts or a pandas DataFrame. Three kinds are told apart by their columns: classification (a
fixed set of labels), multiple choice (options differ by row, with unconditional log-probabilities),
generation (no gold index).
"""

import functools
import math
import re

import numpy as np

from amuro_jax import spelling
from amuro_jax.config import Metric
from amuro_jax.data.task import Kind
from amuro_jax.errors import DataError
from amuro_jax.evals.statistics import Comparison, bootstrap, paired

NORMALISATIONS = ("raw", "per_token", "per_char", "unconditional")
CALIBRATION_BINS = 15


def as_rows(rows) -> list[dict]:
    """Rows as dicts, whatever they came as; missing values of a DataFrame become None."""
    if hasattr(rows, "to_dict"):
        rows = rows.to_dict("records")
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if isinstance(value, float) and math.isnan(value) else value


def kind_of(rows: list[dict]) -> Kind:
    """What the rows were answered as, from their columns."""
    if all(row.get("gold") is None for row in rows):
        return Kind.GENERATION
    if any(row.get("choice_logprobs_unconditional") is not None for row in rows):
        return Kind.MULTIPLE_CHOICE
    return Kind.CLASSIFICATION


def normalised(row: dict, normalisation: str, count_space: bool = False) -> np.ndarray:
    """Score of each choice of a row: its log-probability raw, per token, per character, or less
    that given "Answer:" alone.

    Args:
        count_space: characters include the space before the choice, as in the published suite.
    """
    logprobs = np.asarray(row["choice_logprobs"], np.float64)
    if normalisation == "raw":
        return logprobs
    if normalisation == "per_token":
        return logprobs / np.asarray(row["choice_tokens"], np.float64)
    if normalisation == "per_char":
        return logprobs / (np.asarray(row["choice_chars"], np.float64) + count_space)
    if normalisation == "unconditional":
        return logprobs - np.asarray(row["choice_logprobs_unconditional"], np.float64)
    raise DataError(
        f"unknown normalisation {normalisation!r}",
        where="primary",
        hint="one of " + ", ".join(NORMALISATIONS),
    )


def apply_primary(rows: list[dict], primary: str, count_space: bool = False) -> list[dict]:
    """Multiple-choice rows with `predicted`, `correct` and `score` as the set's primary
    normalisation has them; others as they are.
    """
    if primary == "raw" or kind_of(rows) != Kind.MULTIPLE_CHOICE:
        return rows
    applied = []
    for row in rows:
        predicted = int(np.argmax(normalised(row, primary, count_space)))
        applied.append(
            row
            | {
                "predicted": predicted,
                "correct": predicted == row["gold"],
                "score": float(predicted == row["gold"]),
            }
        )
    return applied


def metrics_record(
    rows,
    *,
    primary: str = "raw",
    statistic: str = "mean",
    bootstrap: int = 3000,
    seed: int = 0,
    count_space: bool = False,
) -> dict:
    """The metrics record of one cell: {metric, value, stderr, low, high, n, majority, chance,
    prior, extra: {name: value}}.

    Args:
        primary: normalisation that names the predicted option of multiple choice (quirk 17).
        statistic: mean | midpoint (of the bootstrap interval, quirk 9).
        bootstrap: resamples; 0: normal approximation.

    Raises:
        DataError: no rows, or an unknown normalisation or statistic.
    """
    rows = as_rows(rows)
    if not rows:
        raise DataError(
            "no rows to make a metric of",
            where="results",
            hint="was every row left out, as a shot or by --rows?",
        )
    if primary not in NORMALISATIONS or statistic not in ("mean", "midpoint"):
        raise DataError(
            f"unknown normalisation or statistic: {primary!r}, {statistic!r}", where="metrics"
        )
    kind, rows = kind_of(rows), apply_primary(rows, primary, count_space)
    name = metric_of(rows) if kind == Kind.GENERATION else Metric.ACCURACY
    record = _mean_record(name, [row["score"] for row in rows], statistic, bootstrap, seed)
    if kind == Kind.GENERATION:
        parts = generation_parts(rows)
    else:
        parts = choice_parts(rows) | (
            multiple_choice_parts(rows, primary, count_space)
            if kind == Kind.MULTIPLE_CHOICE
            else label_parts(rows)
        )
    baselines = {name: parts.pop(name, None) for name in ("majority", "chance", "prior")}
    return record | baselines | {"extra": parts | context_parts(rows) | group_parts(rows)}


def metric_of(rows: list[dict]) -> Metric:
    """What the scores of generated texts are; rows that do not say have ROUGE-L."""
    name = rows[0].get("metric")
    return Metric.EXACT_NUMBER if name == Metric.EXACT_NUMBER else Metric.ROUGE_L


def _mean_record(metric, scores, statistic, resamples, seed):
    interval = bootstrap(scores, resamples, seed)
    value = interval.value if statistic == "mean" else (interval.low + interval.high) / 2
    return {
        "metric": metric,
        "value": value,
        "stderr": interval.stderr,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
    }


def choice_parts(rows: list[dict]) -> dict:
    """What classification and multiple choice share: majority, log-loss, calibration, bits per byte
    of the gold.

    The label distribution is the softmax of the choices' log-probabilities; rows of free generation
    have none.
    """
    gold = np.asarray([row["gold"] for row in rows])
    parts = {
        "majority": float(np.bincount(gold[gold >= 0]).max() / len(gold))
        if (gold >= 0).any()
        else None
    }
    predicted = np.asarray([row["predicted"] for row in rows])
    parts["predicted_share_max"] = float(
        np.unique(predicted, return_counts=True)[1].max() / len(rows)
    )
    parts["unanswered"] = float((predicted < 0).mean())
    scored = [row for row in rows if row.get("choice_logprobs") is not None and row["gold"] >= 0]
    parts["chance"] = (
        float(np.mean([1 / len(row["choice_logprobs"]) for row in scored])) if scored else None
    )
    if scored:
        parts |= distribution_parts(scored)
    return parts


def distribution_parts(rows: list[dict]) -> dict:
    """Log-loss (nats), expected calibration error, label mass, bits per byte of the gold."""
    tables = [_softmax(row["choice_logprobs"]) for row in rows]
    gold = [row["gold"] for row in rows]
    right = np.asarray([table[g] for table, g in zip(tables, gold, strict=True)])
    confidence = np.asarray([table.max() for table in tables])
    hit = np.asarray([int(table.argmax()) == g for table, g in zip(tables, gold, strict=True)])
    size = sum(len((" " + row["reference"]).encode()) for row in rows)
    parts = {
        "log_loss": float(-np.log(np.maximum(right, 1e-300)).mean()),
        "ece": calibration_error(confidence, hit),
        "bits_per_byte": float(
            -sum(row["choice_logprobs"][row["gold"]] for row in rows) / math.log(2) / size
        ),
    }
    masses = [row["label_mass"] for row in rows if row.get("label_mass") is not None]
    if masses:
        parts |= {
            "label_mass_mean": float(np.mean(masses)),
            "label_mass_median": float(np.median(masses)),
        }
    return parts


def _softmax(logprobs):
    logprobs = np.asarray(logprobs, np.float64)
    scaled = np.exp(logprobs - logprobs.max())
    return scaled / scaled.sum()


def calibration_error(confidence, correct, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: |accuracy − mean confidence| in equal-width bins of confidence,
    weighted by rows.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_index, correct - confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))


def label_parts(rows: list[dict]) -> dict:
    """Per-class and macro F1, and the prior: the one answer that the model's mean label
    distribution names, given to every row.
    """
    names = label_names(rows)
    gold, predicted = (np.asarray([row[name] for row in rows]) for name in ("gold", "predicted"))
    scores = {label: f1(gold == label, predicted == label) for label in sorted(set(gold.tolist()))}
    parts = {f"f1_{names.get(label, label)}": value for label, value in scores.items()} | {
        "f1_macro": float(np.mean(list(scores.values())))
    }
    if all(row.get("choice_logprobs") is not None for row in rows):
        mean = np.mean([_softmax(row["choice_logprobs"]) for row in rows], axis=0)
        parts |= {
            "prior": float((gold == mean.argmax()).mean()),
            "prior_log_loss": float(-np.log(np.maximum(mean[gold], 1e-300)).mean()),
        }
    else:
        parts["chance"] = 1 / max(2, len(scores))
    return parts


def label_names(rows: list[dict]) -> dict[int, str]:
    """Index → word of the labels that occur as gold or prediction."""
    names = {
        row["predicted"]: row["prediction"]
        for row in rows
        if (row["predicted"] or 0) >= 0 and row.get("choice_logprobs") is not None
    }
    return names | {row["gold"]: row["reference"].strip() for row in rows}


def f1(gold, predicted) -> float:
    """F1 of one class from two boolean arrays [N]; 0 where nothing is right."""
    both = int((gold & predicted).sum())
    return 2 * both / int(gold.sum() + predicted.sum()) if both else 0.0


def multiple_choice_parts(rows: list[dict], primary: str, count_space: bool = False) -> dict:
    """Accuracy under all four normalisations, the primary named.

    The prior answers without the question: by "Answer:" alone.
    """
    parts = {"primary": primary}
    for name in NORMALISATIONS:
        right = [
            int(np.argmax(normalised(row, name, count_space))) == row["gold"]
            for row in rows
            if _has(row, name)
        ]
        parts[f"accuracy_{name}"] = float(np.mean(right)) if right else None
    blind = [
        int(np.argmax(row["choice_logprobs_unconditional"])) == row["gold"]
        for row in rows
        if _has(row, "unconditional")
    ]
    return parts | {"prior": float(np.mean(blind)) if blind else None}


def _has(row, normalisation):
    column = {"raw": "choice_logprobs", "per_token": "choice_tokens", "per_char": "choice_chars"}
    return row.get(column.get(normalisation, "choice_logprobs_unconditional")) is not None


def generation_parts(rows: list[dict]) -> dict:
    """Baselines of ROUGE-L: chance scores the reference of another row, the prior the model's text
    for another row.

    Both pair row i with row i + 1. Besides: mean lengths in words, share of empty texts, why
    generation ended.
    """
    references, texts = [row["reference"] for row in rows], [row["prediction"] for row in rows]
    others, metric = references[1:] + references[:1], metric_of(rows)
    parts = {
        "chance": float(
            np.mean([text_score(a, b, metric) for a, b in zip(others, references, strict=True)])
        )
        if len(rows) > 1
        else None,
        "prior": float(
            np.mean([text_score(a, b, metric) for a, b in zip(texts, others, strict=True)])
        )
        if len(rows) > 1
        else None,
        "empty": float(np.mean([not text.strip() for text in texts])),
        "words": float(np.mean([len(text.split()) for text in texts])),
        "reference_words": float(np.mean([len(text.split()) for text in references])),
    }
    ended = [row.get("ended") for row in rows]
    parts |= {
        f"ended_{name}": ended.count(name) / len(rows)
        for name in ("eos", "stop", "length")
        if name in ended
    }
    if all(row.get("reference_logprob") is not None for row in rows):
        size = sum(len((" " + text).encode()) for text in references)
        parts["bits_per_byte"] = float(
            -sum(row["reference_logprob"] for row in rows) / math.log(2) / size
        )
    return parts


def context_parts(rows: list[dict]) -> dict:
    """Context sizes in tokens, and rows that lost shots or text so that they fit (quirk 8)."""
    sizes = [row["context_tokens"] for row in rows if row.get("context_tokens") is not None]
    parts = (
        {"context_tokens_median": float(np.median(sizes)), "context_tokens_max": int(max(sizes))}
        if sizes
        else {}
    )
    parts["rows_with_dropped_shots"] = sum(bool(row.get("dropped_shots")) for row in rows)
    parts["rows_cut"] = sum(bool(row.get("cut_tokens")) for row in rows)
    return parts


def group_parts(rows: list[dict]) -> dict:
    """Mean score of each group (subject, subset), where rows have several."""
    groups = sorted({row.get("group") or "" for row in rows})
    if len(groups) < 2:
        return {}
    return {
        f"group_{name or 'none'}": float(
            np.mean([row["score"] for row in rows if (row.get("group") or "") == name])
        )
        for name in groups
    }


@functools.cache
def _rouge():
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F measure, without stemming."""
    return _rouge().score(reference, prediction)["rougeL"].fmeasure


def exact_number(prediction: str, reference: str) -> float:
    """1 where both name the same number: the one after `####`, or else the last one of the text."""
    ours, theirs = _number(prediction), _number(reference)
    return float(ours is not None and ours == theirs)


def _number(text):
    _, mark, tail = text.partition("####")
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", tail if mark else text)
    return float(numbers[0 if mark else -1].replace(",", "")) if numbers else None


def text_score(prediction: str, reference: str, metric: Metric) -> float:
    """Score of one generated text.

    Raises:
        DataError: not a metric of texts.
    """
    if metric == Metric.EXACT_NUMBER:
        return exact_number(prediction, reference)
    if metric in (Metric.ROUGE_L, Metric.ACCURACY):  # accuracy: the text of a set with labels
        return rouge_l(prediction, reference)
    known = (Metric.ROUGE_L, Metric.EXACT_NUMBER)
    raise DataError(f"unknown metric {metric!r}", where="metric", hint=spelling.hint(metric, known))


def compare(
    first, second, *, primary: str = "raw", bootstrap: int = 3000, seed: int = 0
) -> Comparison:
    """Second against first model on the rows that both have (by task, format, row).

    Raises:
        DataError: no row in common, or the same row with another gold.
    """
    tables = []
    for rows in (first, second):
        rows = apply_primary(as_rows(rows), primary)
        tables.append({(row["task"], row["format"], row["row"]): row for row in rows})
    common = [key for key in tables[0] if key in tables[1]]
    if not common:
        raise DataError(
            "the two results have no row in common",
            where="compare",
            hint="same set, format and rows?",
        )
    changed = [key for key in common if tables[0][key]["gold"] != tables[1][key]["gold"]]
    if changed:
        raise DataError(
            f"row {changed[0]} has gold {tables[0][changed[0]]['gold']} and "
            f"{tables[1][changed[0]]['gold']}",
            where="compare",
        )
    scores = [[table[key]["score"] for key in common] for table in tables]
    return paired(*scores, bootstrap, seed)
