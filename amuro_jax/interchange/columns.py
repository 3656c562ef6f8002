"""Scores from a table of one's own: which column says what. No jax.

A column is recognised by its name (`ALIASES`), or named by the caller; a part that is the same in
the whole file is a constant.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from amuro_jax.config import Metric, Role
from amuro_jax.data import label_counts
from amuro_jax.data.registry import TASKS
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.interchange.text_table import TextTable, read_table
from amuro_jax.results import imported
from amuro_jax.results.imported import Import
from amuro_jax.storage import Storage

# What a score consists of → names of columns that say it, the first that is there.
ALIASES: dict[str, tuple[str, ...]] = {
    "suite": ("suite", "series", "model", "run", "model_id"),
    "checkpoint": ("checkpoint", "revision"),
    "step": ("step", "steps"),
    "tokens": ("tokens",),
    "tuned_on": ("tuned_on", "fine_tuned_on"),
    "variant": ("variant", "seed"),
    "task": ("task", "dataset", "eval dataset"),
    "role": ("role",),
    "format": ("format", "prompt"),
    "shots": ("shots", "num_fewshot"),
    "metric": ("metric", "kind"),
    "value": ("value", "score", "performance"),
    "stderr": ("stderr", "std", "standard_error"),
    "n": ("n", "rows", "samples"),
}
_ACCURACY = re.compile(r"^(acc|accuracy|acc_norm|exact_match|downstream)$|(^|_)acc(uracy)?($|_)")
_MOST_TOKENS = 2**63 - 1
_LARGEST_STDERR = 0.5  # of a share: that of one right and one wrong row
_ACCURACIES = ("acc", "exact_match")  # names of the harness for this project's `accuracy`


def import_csv(
    path,
    workdir,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    *,
    ignore: Collection[str] = (),
    tokens_per_step: int | None = None,
    replace: bool = False,
) -> Import:
    """Imports a table with one score per line.

    Args:
        path: comma-, tab- or semicolon-separated, perhaps compressed with gzip.
        workdir: of the store.
        columns: part of a score (a key of `ALIASES`) → column, where the name does not tell.
        constants: part of a score → its value in every line.
        ignore: columns that say nothing of use; any other column that is not used is an error.
        tokens_per_step: gives tokens where there is no such column.
        replace: see `imported.write`.

    Raises:
        ConfigError: an unknown part, or a column that is not there.
        DataError: a field that cannot be read, with line and column; two values of one score.
    """
    table = read_table(path)
    columns_of = _places(table, columns or {}, constants or {}, ignore)
    lines = _lines(table, columns_of, constants or {}, tokens_per_step)
    empty = lines["value"].isna()
    if empty.all():
        raise DataError("no line has a value", where=path)
    done = imported.write(
        Storage.open(workdir), lines[~empty], table.source, table.sha256, replace=replace
    )
    return Import(done.cells, done.new, done.repeated, int(empty.sum()))


def _lines(table: TextTable, at, constants, tokens_per_step) -> pd.DataFrame:
    """One line per score, columns of `index.COLUMNS`."""
    lines = pd.DataFrame({"line": table.lines})
    for part in ("suite", "task", "checkpoint", "metric", "format"):
        if part in at:
            lines[part] = table.texts(at[part])
    for part in ("tuned_on", "variant", "role"):
        lines[part] = table.optional_texts(at[part]) if part in at else ""
    for part in ("step", "tokens", "shots", "n"):
        if part in at:
            lines[part] = table.whole_numbers(at[part])
            if part == "shots" and lines[part].isna().any():
                table.fail(int(np.argmax(lines[part].isna())), at[part], "is empty")
    lines = lines.assign(**_typed(constants))
    lines["value"] = table.numbers(at["value"])
    lines["stderr"] = table.numbers(at["stderr"], low=0.0) if "stderr" in at else np.nan
    lines = _defaults(lines, table, tokens_per_step, at.get("step"))
    _check_range(table, at, lines)
    return with_interval(lines)


def _places(table, columns, constants, ignore):
    """Part of a score → the column that says it."""
    for part in (*columns, *constants):
        if part not in ALIASES:
            known = ", ".join(ALIASES)
            raise ConfigError(f"unknown part of a score {part!r}", where="--columns", hint=known)
    by_lower = {name.lower(): name for name in table.columns}
    at = {}
    for part, names in ALIASES.items():
        if part in constants:
            continue
        if part in columns:
            name = columns[part]
            if name not in table.columns:
                hint = "columns of the file: " + ", ".join(table.columns)
                raise ConfigError(f"no column {name!r}", where=f"{table.source}:1", hint=hint)
            at[part] = name
        elif column := next((by_lower[name] for name in names if name in by_lower), None):
            at[part] = column
    for part in ("task", "value"):
        if part not in at and part not in constants:
            hint = f"--columns={part}=NAME; columns of the file: " + ", ".join(table.columns)
            raise ConfigError(f"no column says the {part}", where=f"{table.source}:1", hint=hint)
    if "value" in constants or "stderr" in constants:
        raise ConfigError("value and stderr must be columns", where="--constants")
    if not {"step", "checkpoint"} & (at.keys() | constants.keys()):
        hint = "--columns=step=NAME, or --constants=checkpoint=main for a single model"
        raise ConfigError("no column says step or checkpoint", where=f"{table.source}:1", hint=hint)
    _require_all_used(table, at, ignore)
    return at


def _require_all_used(table, at, ignore):
    """A misspelt column would leave its part at a default, and give another score."""
    for name in ignore:
        if name not in table.columns:
            raise ConfigError(f"no column {name!r} to ignore", where=f"{table.source}:1")
    unused = [name for name in table.columns if name not in {*at.values(), *ignore}]
    if unused:
        what = f"line 1: it is not known what column {unused[0]!r} says"
        hint = (
            f"--columns=PART={unused[0]} with one of {', '.join(ALIASES)}; or --ignore={unused[0]}"
        )
        raise ConfigError(what, where=f"{table.source}:1", hint=hint)


def _typed(constants):
    typed: dict[str, object] = {}
    for part, text in constants.items():
        if part in ("step", "tokens", "shots", "n"):
            if not text.isdecimal():
                raise ConfigError(f"{text!r} is not a whole number", where=f"--constants {part}")
            typed[part] = int(text)
        else:
            typed[part] = text
    return typed


def _defaults(lines, table, tokens_per_step, step_column):
    """What the file does not say, as it is called elsewhere."""
    lines["suite"] = lines.get("suite", table.source.partition(".")[0])
    lines["format"] = lines.get("format", "default")
    lines["shots"] = lines.get("shots", 0)
    lines["metric"] = lines.get("metric", str(Metric.ACCURACY))
    lines["metric"] = lines["metric"].where(
        ~lines["metric"].isin(_ACCURACIES), str(Metric.ACCURACY)
    )
    if "checkpoint" not in lines:
        lines["checkpoint"] = _checkpoints(lines, table)
    if tokens_per_step and "tokens" not in lines and "step" in lines:
        large = lines["step"] > _MOST_TOKENS // tokens_per_step
        if large.any():
            what = f"× {tokens_per_step} tokens a step is out of range"
            table.fail(int(np.argmax(large)), step_column or "step", what)
        lines["tokens"] = lines["step"] * tokens_per_step
    return with_known_sets(lines)


def _checkpoints(lines, table):
    """`step1000`; `tokens4000000000` where the step is missing and the tokens are there."""
    named = "step" + lines["step"].astype("string")
    if "tokens" in lines:
        named = named.fillna("tokens" + lines["tokens"].astype("string"))
    if named.isna().any():
        table.fail(
            int(np.argmax(named.isna())), "step", "is empty, and no tokens tell the checkpoint"
        )
    return named.astype(str)


def with_known_sets(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines with role, majority and chance of sets that are known, where these are not given."""
    lines = lines.copy()
    tasks = list(lines["task"].unique())
    accuracy = lines["metric"] == Metric.ACCURACY
    stated = lines["role"] if "role" in lines else pd.Series("", lines.index)
    for is_accuracy in (True, False):
        roles = {task: _role(task, is_accuracy) for task in tasks}
        open_ = (stated == "") & (accuracy == is_accuracy)
        stated = stated.mask(open_, lines["task"].map(roles))
    lines["role"] = stated
    for name, known in (("majority", label_counts.majority), ("chance", label_counts.chance)):
        lines[name] = lines["task"].map({task: known(task) for task in tasks}).where(accuracy)
    return lines


def _role(task, is_accuracy):
    """Of a set in this program's sense: another set of its name may have another metric."""
    known = TASKS.get(task)
    if known is None or (known.metric == Metric.ACCURACY) != is_accuracy:
        return str(Role.MULTIPLE_CHOICE if is_accuracy else Role.IN_DOMAIN)
    of_set = (use for use in known.roles if use in (Role.MULTIPLE_CHOICE, Role.OUT_OF_DOMAIN))
    return str(next(of_set, Role.IN_DOMAIN))


def _check_range(table, at, lines):
    """Shares lie between 0 and 1, and their standard errors below that of two rows."""
    metrics = lines["metric"].unique()
    shares = {name for name in metrics if _ACCURACY.search(name) or name in set(Metric)}
    limits = (("value", 1.0), ("stderr", _LARGEST_STDERR))
    for part, high in limits if shares else ():
        value = lines[part]
        wrong = lines["metric"].isin(shares) & ((value < 0) | (value > high))
        if wrong.any():
            row = int(np.argmax(wrong))
            what = "standard error of " * (part == "stderr") + lines["metric"].iloc[row]
            hint = "scores are shares, not percentages" if value.iloc[row] > high else None
            said = f"{what} {value.iloc[row]:g} is not between 0 and {high:g}"
            table.fail(row, at[part], said, hint)


NORMAL_95 = 1.959964  # standard errors to either end of a 95 % interval


def with_interval(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines with the 95 % interval of the normal approximation; NaN without a standard error."""
    half = NORMAL_95 * lines["stderr"]
    return lines.assign(low=lines["value"] - half, high=lines["value"] + half)
