"""The study's published result tables (arXiv 2408.06663): `all_perf_table.csv` and
`official_eval_table.csv`. No jax.

A model is told by `model_id` (base `olmo1b_checkpoint-1000_original_hf_4shots`, fine-tuned
`olmo1b_hf_ckpt1000_mnli_3epoch_2e-6_4shots`), a format by the ending of the data set's name. The
first table has bootstrap standard errors; the second has none, and its scores are exact shares of
the rows of public splits, which gives binomial ones.
"""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from amuro_jax.config import Metric, Role
from amuro_jax.errors import DataError
from amuro_jax.interchange.columns import with_interval, with_known_sets
from amuro_jax.interchange.text_table import TextTable, read_table
from amuro_jax.results import imported
from amuro_jax.results.imported import Import
from amuro_jax.storage import Storage

SUITE = "OLMo-1B (published)"
# The study's checkpoints; main is the run's last step.
STEPS = (1000, 18000, 342000, 424000, 505000, 592000, 738000)
LAST_STEP = 738020
TOKENS_PER_STEP = 2048 * 2048  # sequences × context of the OLMo-1B run
SHOTS = 4  # of multiple choice, where the model's name does not say them

FORMATS = {"": "default", "_instruct": "instruct", "_inputoutput": "io"}
# Name in the first table → (set, fine-tuning sets that it belongs to, role, metric).
_NLI, _PAIR, _SUM, _ASK, _CHAT = ("mnli_matched",), ("paws",), ("xsum",), ("socialiqa",), ("tulu",)
SETS = {
    "mnli_matched": ("mnli_matched", _NLI, Role.IN_DOMAIN, Metric.ACCURACY),
    "mnli_mismatched": ("mnli_mismatched", _NLI, Role.IN_DOMAIN, Metric.ACCURACY),
    "rte": ("rte", _NLI, Role.OUT_OF_DOMAIN, Metric.ACCURACY),
    "gpt3nli": ("gpt3nli", _NLI, Role.OUT_OF_DOMAIN, Metric.ACCURACY),
    "paws": ("paws", _PAIR, Role.IN_DOMAIN, Metric.ACCURACY),
    "qqp": ("qqp", _PAIR, Role.OUT_OF_DOMAIN, Metric.ACCURACY),
    "stsb": ("stsb", _PAIR, Role.OUT_OF_DOMAIN, Metric.ACCURACY),
    "xsum": ("xsum", _SUM, Role.IN_DOMAIN, Metric.ROUGE_L),
    "xlsum": ("xlsum", _SUM, Role.IN_DOMAIN, Metric.ROUGE_L),
    "cnn": ("cnn", _SUM, Role.OUT_OF_DOMAIN, Metric.ROUGE_L),
    "socialiqa": ("socialiqa", _ASK, Role.IN_DOMAIN, Metric.ROUGE_L),
    "sciq": ("sciq", _ASK, Role.OUT_OF_DOMAIN, Metric.ROUGE_L),
    "tweetqa": ("tweetqa", _ASK, Role.OUT_OF_DOMAIN, Metric.ROUGE_L),
    "llmbar_Natural": ("llmbar_natural", _CHAT, Role.EXTRA, Metric.ACCURACY),
    "llmbar_Adversarial_Manual": ("llmbar_manual", _CHAT, Role.EXTRA, Metric.ACCURACY),
    "llmbar_Adversarial_Neighbor": ("llmbar_neighbor", _CHAT, Role.EXTRA, Metric.ACCURACY),
}
# Name in the second table → (set, role, rows of the split that is scored).
CHOICE_SETS = {
    "arc_challenge": ("arc_challenge", Role.MULTIPLE_CHOICE, 299),
    "arc_easy": ("arc_easy", Role.MULTIPLE_CHOICE, 570),
    "boolq": ("boolq", Role.MULTIPLE_CHOICE, 3270),
    "hellaswag": ("hellaswag", Role.MULTIPLE_CHOICE, 10042),
    "openbookqa": ("openbookqa", Role.MULTIPLE_CHOICE, 500),
    "sciq": ("sciq_choice", Role.MULTIPLE_CHOICE, 1000),
    "qqp": ("qqp_choice", Role.EXTRA, 40430),
    "rte": ("rte_choice", Role.EXTRA, 277),
}
# Name in `model_id` → fine-tuning set, and the learning rate that the study uses for it.
TUNED = {
    "mnli": ("mnli_matched", "2e-6"),
    "paws": ("paws", "2e-6"),
    "xsum": ("xsum", "2e-7"),
    "socialiqa": ("socialiqa", "2e-6"),
    "tulu": ("tulu", "2e-6"),
}
REPEATED = "repeated"  # variant of `checkpoint-1000_4shots`, which scores a base model once more
CROSSED = ("mnli_matched", "paws", "xsum", "socialiqa")  # sets of the study's task transfer

_MODEL = re.compile(
    r"(?:(?P<name>olmo1b_)?checkpoint-(?P<base>\d+)(?:_original(?:_hf)?)?|olmo1b_original_hf"
    r"|olmo1b_hf_(?:ckpt(?P<step>\d+)|main)_(?P<set>[a-z]+)_\d+epoch_(?P<rate>\de-\d))"
    r"(?:_(?P<shots>\d)shots)?"
)
_WHOLE = 1e-6  # how far a share of n rows may be from a whole number of them


def import_paper(paths: Iterable, workdir, *, replace: bool = False) -> Import:
    """Imports the published tables, either or both, in any order.

    Raises:
        DataError: a line that is no score of the study, with line and column.
    """
    storage, done = Storage.open(workdir), []
    tables = [read_table(path) for path in paths]
    parsed = [_lines(table) for table in tables]  # nothing is written before all can be read
    for table, lines in zip(tables, parsed, strict=True):
        done.append(imported.write(storage, lines, table.source, table.sha256, replace=replace))
    return Import(
        *(sum(getattr(one, name) for one in done) for name in ("cells", "new", "repeated"))
    )


def _lines(table: TextTable) -> pd.DataFrame:
    for column in ("model_id", "eval dataset", "Performance"):
        if column not in table.columns:
            listed = ", ".join(table.columns)
            raise DataError(
                f"no column {column!r}; there are {listed}",
                where=f"{table.source}:1",
                hint="give all_perf_table.csv or official_eval_table.csv",
            )
    first = "std" in table.columns
    names, models = table.texts("eval dataset"), table.texts("model_id")
    values = _present(table, "Performance", 1.0)
    errors = _present(table, "std", 0.5) if first else np.full(len(table), np.nan)
    lines = []
    for row, (name, model) in enumerate(zip(names, models, strict=True)):
        info = _set(table, row, name) if first else _choice_set(table, row, name, values[row])
        lines.append(info | _model(table, row, model, info))
    scores = pd.DataFrame(lines).assign(suite=SUITE, line=table.lines, value=values)
    scores["stderr"] = np.where(np.isnan(errors), scores["stderr"].astype(float), errors)
    scores["of"] = scores["of"].map(",".join)
    return with_interval(with_known_sets(scores))


def _present(table, column, high):
    values = table.numbers(column, low=0.0, high=high)
    if np.isnan(values).any():
        table.fail(int(np.argmax(np.isnan(values))), column, "is empty")
    return values


def _set(table, row, name):
    suffix = next((one for one in FORMATS if one and name.endswith(one)), "")
    known = SETS.get(name.removesuffix(suffix))
    if known is None:
        table.fail(row, "eval dataset", f"{name!r} is no set of the study", ", ".join(SETS))
    task, of, role, metric = known
    return {
        "task": task, "format": FORMATS[suffix], "of": of, "role": str(role),
        "metric": str(metric), "stderr": np.nan, "n": None,
    }  # fmt: skip


def _choice_set(table, row, name, value):
    if name not in CHOICE_SETS:
        table.fail(row, "eval dataset", f"{name!r} is no set of the study", ", ".join(CHOICE_SETS))
    task, role, rows = CHOICE_SETS[name]
    if abs(value * rows - round(value * rows)) > _WHOLE * rows:
        what = f"{value} is no share of the {rows} rows of {name}"
        table.fail(row, "Performance", what)
    return {
        "task": task, "format": "default", "of": ("tulu",), "role": str(role),
        "metric": str(Metric.ACCURACY), "stderr": np.sqrt(value * (1 - value) / rows), "n": rows,
    }  # fmt: skip


def _model(table, row, name, info):
    match = _MODEL.fullmatch(name)
    if match is None or (match["set"] and match["set"] not in TUNED):
        table.fail(row, "model_id", f"{name!r} is no model of the study")
    step = match["base"] or match["step"]
    if step is not None and int(step) not in STEPS:
        known = ", ".join(map(str, STEPS))
        table.fail(row, "model_id", f"step {step} is no checkpoint of the study", known)
    tuned_on, rate = TUNED[match["set"]] if match["set"] else ("", "")
    steps = int(step or LAST_STEP)
    implied = SHOTS if info["n"] else 0
    variant = f"lr {match['rate']}" if match["set"] and match["rate"] != rate else ""
    if match["base"] and match["shots"] and not match["name"]:
        variant = REPEATED
    return {
        "checkpoint": f"step{step}" if step else "main",
        "step": steps,
        "tokens": steps * TOKENS_PER_STEP,
        "tuned_on": tuned_on,
        "variant": variant,
        "shots": int(match["shots"]) if match["shots"] else implied,
        "role": _role(info, tuned_on),
    }


def _role(info, tuned_on):
    """Of the set for the model."""
    if not tuned_on or tuned_on in info["of"]:
        return info["role"]
    if info["task"] in CROSSED and tuned_on in CROSSED:
        return str(Role.CROSS_TASK)
    return str(Role.EXTRA)
