"""What the page's script works on: a study's scores with all that is known of them, as compressed
JSON that travels in the page. No jax.

Columns, not records: 100,000 scores stay a few megabytes. The reader is `templates/js/data.js`.
"""

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping

import pandas as pd

from amuro_jax.analyses.changes import baseline
from amuro_jax.analyses.figures import metric_name
from amuro_jax.config import StudyConfig
from amuro_jax.records import ScoreRecord, TrainRecord
from amuro_jax.report import making
from amuro_jax.results.results import Results

DIGITS = 4  # of scores: intervals over test rows are never narrower than 1e-4


def packed(value) -> str:
    """A value as JSON, gzip and base64: text that no HTML parser can mistake for markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def study(
    results: Results,
    flags: Mapping[str, list],
    scored: Mapping[str, ScoreRecord],
    trained: Iterable[TrainRecord],
    config: StudyConfig,
    task_files: Mapping[str, str],
) -> dict:
    """A study for the script: its checkpoints, sets, models and formats by name, and its scores in
    columns that point into them.

    Args:
        flags: findings of the auditor by key.
        scored, trained: records of the scores by key, and of the fine-tunings.
        task_files: name → YAML file of the study's own sets.
    """
    cells, plan = results.cells, pd.concat([results.cells, results.missing])
    models = ["", *results.fine_tuning_sets()]
    models += sorted(set(cells["tuned_on"]) - set(models))
    formats = list(dict.fromkeys(cells["format"]))
    tasks = results.tasks()
    checkpoints, of_model, of_set, of_format = (
        {name: index for index, name in enumerate(names)}
        for names in (results.checkpoints, models, tasks, formats)
    )
    findings, makings = _Numbered(), _Numbered()
    lines = cells.assign(weights=cells["weights"].fillna("")).to_dict("records")
    return {
        "name": results.name,
        "checkpoints": [_checkpoint(results, plan, name) for name in results.checkpoints],
        "sets": [_set(results, task, models, formats) for task in tasks],
        "models": models,
        "formats": formats,
        "cells": {
            "key": [line["key"] for line in lines],
            "checkpoint": [checkpoints[line["checkpoint"]] for line in lines],
            "model": [of_model[line["tuned_on"]] for line in lines],
            "set": [of_set[line["task"]] for line in lines],
            "format": [of_format[line["format"]] for line in lines],
            "shots": [int(line["shots"]) for line in lines],
            "value": [number(line["value"]) for line in lines],
            "low": [number(line["low"]) for line in lines],
            "high": [number(line["high"]) for line in lines],
            "stderr": [number(line["stderr"]) for line in lines],
            "n": [number(line["n"]) for line in lines],
            "baseline": [number(baseline(line)) for line in lines],
            "flags": [
                [findings.place(_finding(one)) for one in flags.get(line["key"], [])]
                for line in lines
            ],
            "made": [
                makings.place(_making(scored[line["key"]], config, task_files)) for line in lines
            ],
            "weights": [line["weights"] for line in lines],
            "created": [scored[line["key"]].provenance.created for line in lines],
            "seconds": [number(line["seconds"], 1) for line in lines],
        },
        "flags": findings.values,
        "made": makings.values,
        "suite": config.suite,
        "trained": making.train_flags(trained),
    }


def _making(record, config, task_files):
    task = task_files.get(record.task, record.task)
    flags = [] if record.imported else making.score_flags(record, config.data_root, task)
    return {"parts": making.key_parts(record), "flags": flags}


class _Numbered:
    """Values that repeat, each once, by the place of its first use."""

    def __init__(self):
        self.values, self._places = [], {}

    def place(self, value) -> int:
        text = json.dumps(value, sort_keys=True)
        if text not in self._places:
            self._places[text] = len(self.values)
            self.values.append(value)
        return self._places[text]


def _checkpoint(results, plan, name):
    line = plan[plan["checkpoint"] == name].iloc[0]
    return {
        "name": name,
        "step": number(line["step"]),
        "tokens": number(line["tokens"]),
        "same": results.duplicate_of.get(name, ""),
    }


def _set(results, task, models, formats):
    format, shots = results.main[task]
    return {
        "name": task,
        "role": results.role(task),
        "metric": metric_name(results, task),
        "own": [models.index(name) for name in results.tuned_on(task)],
        "format": formats.index(format) if format in formats else -1,
        "shots": int(shots),
    }


def _finding(one):
    return {name: getattr(one, name) for name in ("code", "severity", "what", "effect")}


def number(value, digits: int = DIGITS):
    """A JSON number; None where there is none. Counts stay whole."""
    if value is None or pd.isna(value) or not math.isfinite(value):
        return None
    rounded = round(float(value), digits)
    return int(rounded) if rounded.is_integer() else rounded
