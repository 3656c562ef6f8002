"""A few sentences from the numbers, each with its uncertainty.

What the rows cannot tell apart is said to be so. No jax.
"""

import dataclasses

import pandas as pd

from amuro_jax.analyses.study import FINE, NEITHER, PRE, change
from amuro_jax.data.registry import get_task
from amuro_jax.results.results import Results

FAR = 2.0  # a larger relative change says more about a base score near zero than about the change
UNCLEAR = "not distinguishable from no change"


@dataclasses.dataclass(frozen=True)
class Sentence:
    """One finding; `clear` says whether its interval leaves zero out."""

    text: str
    clear: bool = True


def write_findings(results: Results, tables: dict[str, pd.DataFrame]) -> list[Sentence]:
    """Sentences for the head of the report, from the tables of `report.make_tables`."""
    makers = (_learned, _gains, _early_and_late, _domains, _forgetting, _formats)
    return [sentence for make in makers for sentence in make(results, tables)]


def _signed(value, digits=3):
    return f"{value:+.{digits}f}".replace("-", "−")


def _with_interval(row, name="change", prefix="", scale=1.0, unit="", digits=3):
    value, low, high = (
        row[name] * scale,
        row[f"{prefix}low"] * scale,
        row[f"{prefix}high"] * scale,
    )
    return f"{_signed(value, digits)}{unit} (95 % interval {_signed(low, digits)} to {_signed(high, digits)}{unit})"


def _clear(row, prefix=""):
    return bool(row[f"{prefix}low"] > 0 or row[f"{prefix}high"] < 0)


def _names(names):
    names = list(names)
    return (
        ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else "none"
    )


def _learned(results, tables):
    table = tables["learned"]
    tested = table[table["decided_by"] == "test"]
    before = tested[tested["group"] == PRE]
    if len(before):
        figures = _names(
            f"{row.task} ({_signed(row.rise)} ± {1.96 * row.rise_stderr:.3f})"
            for row in before.itertuples()
        )
        yield Sentence(
            f"Learned in pre-training: {figures}; the last base model lies clearly above the first one and above the baseline."
        )
    elif len(tested):
        yield Sentence(
            "No set is learned in pre-training alone: no last base model lies clearly above both the first one and the baseline.",
            False,
        )
    after = tested[tested["group"] == FINE]
    if len(after):
        figures = _names(
            f"{row.task} ({_signed(row.gain)} ± {1.96 * row.gain_stderr:.3f})"
            for row in after.itertuples()
        )
        yield Sentence(
            f"Learned only in fine-tuning, the last checkpoint against its fine-tuned version: {figures}."
        )
    if len(never := tested[tested["group"] == NEITHER]):
        yield Sentence(
            f"Neither base nor fine-tuned model is clearly above the baseline and its start: {_names(never['task'])}.",
            False,
        )


def _gains(results, tables):
    for group, points in tables["group_gains"].groupby("group", sort=False):
        known = points.dropna(subset=["low"])
        if known.empty:
            continue
        last, positive = known.iloc[-1], int((known["low"] > 0).sum())
        text = f"Sets {group}: fine-tuning {last['checkpoint']} changes the mean score by {_with_interval(last)}"
        text += "" if _clear(last) else f", {UNCLEAR}"
        yield Sentence(
            f"{text}; the gain is clear at {positive} of {len(known)} checkpoints.", _clear(last)
        )


def _early_and_late(results, tables):
    """Whether fine-tuning ends higher from the last checkpoint than from the first, per fine-tuning
    set on its own test.
    """
    grows, falls, same = [], [], []
    for task in [name for name in results.tasks("in_domain") if name in results.fine_tuning_sets()]:
        ends = [results.find(results.checkpoints[place], task, task) for place in (0, -1)]
        found = results.estimate(change, ends)
        if not pd.isna(found.low):
            place = grows if found.low > 0 else falls if found.high < 0 else same
            place.append(f"{task} ({ends[0]['value']:.3f} → {ends[1]['value']:.3f})")
    if grows:
        yield Sentence(
            f"More pre-training makes for a better fine-tuned model, first to last checkpoint: {_names(grows)}."
        )
    if falls:
        yield Sentence(f"More pre-training makes for a worse fine-tuned model: {_names(falls)}.")
    if same:
        yield Sentence(
            f"Fine-tuned from the first or from the last checkpoint, the scores are not distinguishable: {_names(same)}.",
            False,
        )


def _domains(results, tables):
    table = tables["out_of_domain"]
    outside = table[(table["role"] == "out_of_domain")].dropna(subset=["low"])
    for _, row in outside.iterrows():
        inside = table[
            (table["tuned_on"] == row["tuned_on"]) & (table["role"] == "in_domain")
        ].dropna(subset=["low"])
        beside = (
            f"; in domain {_names(_signed(value) for value in inside['change'])}"
            if len(inside)
            else ""
        )
        ratio = (
            f", {_signed(100 * row['relative'], 0)} % of the base score"
            if abs(row["relative"]) < FAR
            else ""
        )
        note = "" if _clear(row) else f", {UNCLEAR}"
        text = f"Out of domain, fine-tuning on {row['tuned_on']} changes {row['task']} by {_with_interval(row)}{ratio}{note}{beside}"
        yield Sentence(f"{text}; mean over checkpoints.", _clear(row))


def _forgetting(results, tables):
    for _, row in tables["transfer_by_kind"].iterrows():
        direction = f"{row['tuned_on']} → {row['task']}"
        if not pd.isna(row["relative_low"]):
            clear = _clear(row, "relative_")
            text = f"Task transfer, {direction}: mean ratio of change {_with_interval(row, 'relative', 'relative_', 100, ' %', 1)}"
            aside = (
                f"; {row['zero_base']} of {row['cells']} cells have no ratio, their base score is or may be zero"
                if row["zero_base"]
                else ""
            )
        elif not pd.isna(row["low"]):
            clear = _clear(row)
            text, aside = (
                f"Task transfer, {direction}: mean change {_with_interval(row)}",
                "; base scores of zero leave no ratio",
            )
        else:
            continue
        yield Sentence(text + ("" if clear else f", {UNCLEAR}") + aside + ".", clear)


def _formats(results, tables):
    table = tables["format_spread"]
    if table.empty:
        return
    last = table[table["checkpoint"] == results.checkpoints[-1]].dropna(subset=["spread"])
    for task, points in last.groupby("task", sort=False):
        base, own = points[points["tuned_on"] == ""], points[points["tuned_on"] == task]
        if len(base) and len(own):
            yield _spread_sentence(results, task, base.iloc[0], own.iloc[0])


def _spread_sentence(results, task, base, own):
    metric = "accuracy" if get_task(task).metric == "accuracy" else "ROUGE-L"
    apart = base["low"] > own["high"] or own["low"] > base["high"]
    text = f"Formats, last checkpoint, {task}: {metric} differs by {base['spread']:.3f} between best and worst format of the base model"
    text += f" (expected from chance {base['expected']:.3f}) and by {own['spread']:.3f} after fine-tuning (chance {own['expected']:.3f})"
    return Sentence(text + ("." if apart else "; the two are not distinguishable."), bool(apart))
