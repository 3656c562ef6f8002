"""Results of lm-evaluation-harness: its `results_*.json`, and the `samples_*.jsonl` beside it. No
jax, and nothing of the harness itself.

Source: lm_eval 0.4 (`EvaluationTracker.save_results_aggregated`, `save_results_samples`).
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Iterable

import pandas as pd

from amuro_jax.config import Metric
from amuro_jax.errors import DataError
from amuro_jax.files import read_json, read_jsonl
from amuro_jax.interchange.columns import with_interval, with_known_sets
from amuro_jax.results import imported
from amuro_jax.results.imported import Import
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage

NO_FILTER = "none"
ACCURACY = "acc"  # the harness's name of this project's `accuracy`
_STEP = re.compile(r"(?:^|[^a-z])(?:global_)?step[-_]?(\d+)", re.IGNORECASE)
_TOKENS = re.compile(r"tokens(\d+)([BMT])")
_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}
_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
_RESULTS = re.compile(r".*?_?(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.json")
_CLOSE = 1e-6  # how far the mean of the samples may be from the harness's own


@dataclasses.dataclass(frozen=True)
class _Run:
    """One results file: its name and checksum, what it says, its date, and its model."""

    path: str
    source: str
    sha256: str
    content: dict
    date: str
    suite: str
    checkpoint: str


def import_lm_eval(
    paths: Iterable,
    workdir,
    *,
    suite: str = "",
    checkpoint: str = "",
    replace: bool = False,
) -> Import:
    """Imports results files, with rows where their samples files are given too.

    Every metric of every task is a score; a group's averages are left out. The series and the
    checkpoint are the model's name and revision (`model_args`), the step is read off the revision.

    Args:
        paths: results files, and samples files of the same date (or of the only results file).
        suite, checkpoint: in place of what the file says; for one results file.

    Raises:
        DataError: a file that is not one of the harness, or samples that do not give its score.
    """
    paths = [str(path) for path in paths]
    runs = [_run(path, suite, checkpoint) for path in paths if path.endswith(".json")]
    if not runs:
        raise DataError("no results file", where=", ".join(paths), hint="give results_*.json too")
    samples = _samples([path for path in paths if not path.endswith(".json")], runs)
    storage, done = Storage.open(workdir), []
    tables = [(run, _lines(run)) for run in runs]
    for run, lines in tables:
        done.append(imported.write(storage, lines, run.source, run.sha256, replace=replace))
        for task, path in samples.get(run.path, {}).items():
            _commit_rows(Store(storage), run, lines, task, path)
    return Import(
        *(sum(getattr(one, name) for one in done) for name in ("cells", "new", "repeated"))
    )


def _run(path, suite, checkpoint):
    storage, name = Storage.of_file(path)
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise DataError("no `results` in it", where=path, hint="give the harness's results_*.json")
    named = _RESULTS.fullmatch(name)
    sha256 = hashlib.sha256(storage.read_bytes(name)).hexdigest()
    model, revision = _model(content)
    return _Run(
        path, name, sha256, content, named["date"] if named else "", suite or model,
        checkpoint or revision,
    )  # fmt: skip


def _model(content):
    """Name and revision of the model that was scored."""
    arguments = (content.get("config") or {}).get("model_args") or {}
    if isinstance(arguments, str):
        pairs = (part.partition("=") for part in arguments.split(","))
        arguments = {name.strip(): value.strip() for name, _, value in pairs}
    name = arguments.get("pretrained") or arguments.get("checkpoint") or content.get("model_name")
    return str(name or "lm-eval"), str(arguments.get("revision") or "main")


def _lines(run) -> pd.DataFrame:
    tasks = run.content.get("configs") or run.content["results"]
    shots, counts = (run.content.get(name) or {} for name in ("n-shot", "n-samples"))
    step, tokens = _STEP.search(run.checkpoint), _TOKENS.search(run.checkpoint)
    lines = []
    for task, scores in run.content["results"].items():
        if task not in tasks or not isinstance(scores, dict):
            continue  # the average of a group
        for name, value in scores.items():
            metric, comma, chosen = name.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            value = _number(value, run, task, name)
            error = scores.get(f"{metric}_stderr,{chosen}")
            error = None if error in (None, "N/A") else _number(error, run, task, f"{name} stderr")
            lines.append(
                {
                    "suite": run.suite,
                    "checkpoint": run.checkpoint,
                    "step": int(step[1]) if step else None,
                    "tokens": int(tokens[1]) * _UNITS[tokens[2]] if tokens else None,
                    "tuned_on": "",
                    "variant": "",
                    "task": task,
                    "format": "default",
                    "shots": int(shots.get(task) or 0),
                    "metric": _metric(metric, chosen),
                    "value": value,
                    "stderr": math.nan if error is None else error,
                    "n": (counts.get(task) or {}).get("effective"),
                    "line": None,
                    "created": run.date,
                }
            )
    if not lines:
        raise DataError("no score in it", where=run.path)
    return with_interval(with_known_sets(pd.DataFrame(lines)))


def _metric(metric, chosen):
    """`acc,none` → accuracy, `exact_match,strict-match` → exact_match (strict-match)."""
    name = str(Metric.ACCURACY) if metric == ACCURACY else metric
    return name if chosen == NO_FILTER else f"{name} ({chosen})"


def _number(value, run, task, name):
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{task}, {name}: {value!r} is not a finite number", where=run.path)
    return float(value)


def _samples(paths, runs):
    """Path of a results file → task → path of its samples file."""
    hashes: dict[str, dict[str, str]] = {}
    for path in paths:
        named = _SAMPLES.fullmatch(path.rpartition("/")[2])
        own = [run for run in runs if len(runs) == 1 or (named and run.date == named["date"])]
        task = named["task"] if named else ""
        if len(own) != 1 or task not in own[0].content["results"]:
            what = "it is not known which results file the samples belong to"
            hint = "keep the harness's names: samples_TASK_DATE.jsonl beside results_DATE.json"
            raise DataError(what, where=path, hint=hint)
        hashes.setdefault(own[0].path, {})[task] = path
    return hashes


def _commit_rows(store, run, lines, task, path):
    """Writes the scores of a task as cells with rows."""
    lines = lines[lines["task"] == task]
    lines = lines.assign(
        key=imported.keys_of(lines), imported=run.source, source_sha256=run.sha256
    ).astype(object)
    lines = lines.where(lines.notna(), None)
    samples = list(read_jsonl(path))
    for line in lines.to_dict("records"):
        name, _, chosen = line["metric"].partition(" (")
        metric = ACCURACY if name == Metric.ACCURACY else name
        own = [
            (number, one)
            for number, one in samples
            if one.get("filter", NO_FILTER) == (chosen.rstrip(")") or NO_FILTER)
        ]
        if own and all(isinstance(one.get(metric), int | float) for _, one in own):
            rows = [_row(number, one, metric, line, path) for number, one in own]
            _check(rows, line, path)
            store.commit(imported.record_of(line), rows)


def _row(number, sample, metric, line, path):
    where = f"{path}:{number}"
    if not isinstance(sample.get("doc_id"), int):
        raise DataError("no whole number in doc_id", where=where)
    row = {
        "row": sample["doc_id"],
        "doc_id": str(sample["doc_id"]),
        "group": "",
        "task": line["task"],
        "format": line["format"],
        "shots": line["shots"],
        "score": float(sample[metric]),
        "reference": str(sample.get("target", "")),
        "prompt_sha256": str(sample.get("prompt_hash", "")),
        "shot_rows": [],
        "dropped_shots": 0,
        "cut_tokens": 0,
        "context_tokens": None,
        "ended": None,
    }
    answers = sample.get("filtered_resps") or []
    if answers and all(isinstance(one, list | tuple) and len(one) == 2 for one in answers):
        return row | _choices(answers, sample, metric, where)
    return row | {"prediction": " ".join(map(str, answers)), "gold": None, "predicted": None}


def _choices(answers, sample, metric, where):
    """Of a row whose answers are (log-probability, whether it is the greedy one)."""
    try:
        logprobs = [float(logprob) for logprob, _ in answers]
    except (TypeError, ValueError) as error:
        raise DataError(f"a log-probability is no number: {error}", where=where) from error
    target = str(sample.get("target", ""))
    gold = int(target) if target.isdigit() and int(target) < len(logprobs) else None
    best = max(range(len(logprobs)), key=logprobs.__getitem__)
    known = metric == ACCURACY and len(logprobs) > 1
    return {
        "gold": gold,
        "predicted": best if known else None,
        "correct": bool(sample[metric]) if sample[metric] in (0, 1) else None,
        "prediction": str(best) if known else "",
        "choice_logprobs": logprobs,
        "choice_tokens": None,
        "choice_chars": None,
        "choice_logprobs_unconditional": None,
        "label_mass": None,
    }


def _check(rows, line, path):
    """Samples give the score of the results file, each row once."""
    numbers = [row["row"] for row in rows]
    if len(set(numbers)) != len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise DataError(f"doc_id {twice} occurs more than once", where=path)
    mean = sum(row["score"] for row in rows) / len(rows)
    if abs(mean - line["value"]) > _CLOSE:
        what = f"the mean {line['metric']} of {len(rows)} samples is {mean:.6f}, the results file "
        what += f"says {line['value']:.6f}"
        raise DataError(what, where=path, hint="give the samples of the same run, all of them")
