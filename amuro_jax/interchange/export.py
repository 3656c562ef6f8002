"""A store's scores in the files of lm-evaluation-harness: `results_*.json` and `samples_*.jsonl`.
No jax.
"""

import hashlib
import json
import re

from amuro_jax import __version__, files
from amuro_jax.config import Metric
from amuro_jax.errors import AmuroError
from amuro_jax.interchange.lm_eval import ACCURACY, NO_FILTER
from amuro_jax.results import conditions
from amuro_jax.results.store import Store

_MODEL = ("suite", "checkpoint", "tuned_on", "variant")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def export_lm_eval(store: Store, out, where: str = "") -> list[str]:
    """Writes one folder per model, as the harness does; returns the paths of the results files.

    A set in its first format and number of shots has its own name, in others
    `SET_FORMAT_Nshot`. Rows become samples, each with its score under the metric's name.

    Args:
        where: condition on cells (`results/conditions.py`).

    Raises:
        AmuroError: no finished score fits.
    """
    frame = conditions.select(store.table(), where).to_pandas()
    if frame.empty:
        raise AmuroError("no finished score fits", where=store.storage.url)
    written = []
    for model, cells in frame.groupby(list(_MODEL), sort=False, dropna=False):
        named = dict(zip(_MODEL, model, strict=True))
        folder = f"{out}/{_safe('__'.join(str(part) for part in model if part))}"
        date = _date(cells)
        names = _names(cells)
        path = f"{folder}/results_{date}.json"
        for line in cells[cells["rows_sha256"].notna()].itertuples():
            samples = f"{folder}/samples_{names[line.Index]}_{date}.jsonl"
            files.write_text(samples, _samples(store, line))
        files.write_json(path, _results(cells, names, named))
        written.append(path)
    return written


def _safe(text):
    return _UNSAFE.sub("_", text)


def _date(cells):
    """When the last of the scores was made, in the harness's form."""
    latest = max((str(text) for text in cells["created"].dropna() if text), default="1970-01-01")
    day, _, clock = latest.replace(":", "-").partition("+")[0].partition("T")
    return f"{day}T{clock or '00-00-00'}"


def _names(cells):
    """Index of a line → task's name."""
    first, names = {}, {}
    for line in cells.itertuples():
        view = (line.format, line.shots)
        usual = first.setdefault(line.task, view) == view
        name = line.task if usual else f"{line.task}_{line.format}_{line.shots}shot"
        names[line.Index] = _safe(name)
    return names


def _metric(name):
    """`accuracy` → acc,none; `exact_match (strict-match)` → exact_match,strict-match."""
    metric, _, chosen = str(name).partition(" (")
    metric = ACCURACY if metric == Metric.ACCURACY else metric
    return metric, chosen.rstrip(")") or NO_FILTER


def _results(cells, names, named):
    results, counts, shots, configs, better = {}, {}, {}, {}, {}
    for line in cells.itertuples():
        task, (metric, chosen) = names[line.Index], _metric(line.metric)
        stderr = "N/A" if line.stderr != line.stderr else line.stderr
        entry = results.setdefault(task, {"alias": task})
        entry |= {f"{metric},{chosen}": line.value, f"{metric}_stderr,{chosen}": stderr}
        if line.n == line.n:
            counts[task] = {"original": int(line.n), "effective": int(line.n)}
        shots[task] = int(line.shots)
        better.setdefault(task, {})[metric] = True
        configs[task] = {
            "task": task,
            "dataset_name": line.task,
            "num_fewshot": int(line.shots),
            "metadata": {"format": line.format, "protocol": line.protocol, "key": line.key},
        }
    revision = named["checkpoint"] + (f" + {named['tuned_on']}" if named["tuned_on"] else "")
    return {
        "results": results,
        "group_subtasks": {task: [] for task in results},
        "configs": configs,
        "versions": dict.fromkeys(results, "N/A"),
        "n-shot": shots,
        "higher_is_better": better,
        "n-samples": counts,
        "config": {
            "model": "amuro",
            "model_args": {"pretrained": named["suite"], "revision": revision, **named},
        },
        "amuro_jax": __version__,
    }


def _samples(store, line):
    metric, chosen = _metric(line.metric)
    lines = []
    for row in store.rows_table(line.key).to_pylist():
        logprobs = row.get("choice_logprobs")
        answers = (
            [row.get("prediction") or ""]
            if logprobs is None
            else [[str(value), str(value == max(logprobs))] for value in logprobs]
        )
        gold = row.get("gold")
        target = row.get("reference") if gold is None or logprobs is None else gold
        lines.append(
            {
                "doc_id": row["row"],
                "doc": {"doc_id": row.get("doc_id")},
                "target": str(target),
                "arguments": {},
                "resps": [[answer] for answer in answers],
                "filtered_resps": answers,
                "filter": chosen,
                "metrics": [metric],
                "doc_hash": _hash(row.get("doc_id")),
                "prompt_hash": row.get("prompt_sha256") or "",
                "target_hash": _hash(target),
                metric: row["score"],
            }
        )
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)


def _hash(value):
    return hashlib.sha256(str(value).encode()).hexdigest()
