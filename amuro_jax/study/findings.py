"""A few sentences from the numbers, each with its uncertainty; what the data cannot tell apart is said to be so."""

import numpy as np
import pandas as pd

from amuro_jax.data.registry import get_task
from amuro_jax.study.analyses import Results


def write_findings(results: Results, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Sentences for the head of the report, from the tables of `report.make_tables`."""
    makers = (_learned, _gains, _early_and_late, _domains, _forgetting, _formats)
    return [sentence for make in makers for sentence in make(results, tables) if sentence]


def _signed(value, error):
    return f"{value:+.3f} ± {1.96 * error:.3f}"


def _names(names):
    names = list(names)
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else "none"


def _learned(results, tables):
    table = tables["learned_in_pretraining"]
    yes, no = table[table["learned"]], table[~table["learned"]]
    if len(yes):
        figures = "; ".join(f"{row.task} {row.first:.3f} → {row.last:.3f}" for row in yes.itertuples())
        yield f"Learned in pre-training, without fine-tuning: {figures}. The last checkpoint is above the first and above the baseline by more than its 95 % interval."
    else:
        yield "No set is learned in pre-training alone: no last checkpoint is above its first and its baseline by more than its 95 % interval."
    if len(no):
        yield f"Not learned in pre-training as few-shot prompting can see it: {_names(no['task'])}."


def _gains(results, tables):
    for label, points in tables["group_gains"].groupby("group"):
        last = points.sort_values("step").iloc[-1]
        verdict = "" if abs(last["change"]) > 1.96 * last["stderr"] else ", not distinguishable from none"
        yield f"Fine-tuning the last checkpoint changes the sets {label} by {_signed(last['change'], last['stderr'])} on average{verdict}."


def _early_and_late(results, tables):
    """Whether fine-tuning pays more late than early, per set."""
    table = tables["changes"]
    own = table[(table["tuned_on"] == table["task"]) & (table["format"] == results.formats()[0])]
    grows, shrinks, same = [], [], []
    for name, points in own.groupby("task", sort=False):
        first, last = points.sort_values("step").iloc[0], points.sort_values("step").iloc[-1]
        difference, error = last["tuned"] - first["tuned"], np.hypot(first["stderr"], last["stderr"])
        (same if abs(difference) <= 1.96 * error else grows if difference > 0 else shrinks).append(
            f"{name} ({first['tuned']:.3f} → {last['tuned']:.3f})"
        )
    if grows:
        yield f"More pre-training makes fine-tuning better, first to last checkpoint: {_names(grows)}."
    if shrinks:
        yield f"More pre-training makes fine-tuning worse: {_names(shrinks)}."
    if same:
        yield f"Fine-tuned scores of the first and the last checkpoint are not distinguishable: {_names(same)}."


def _domains(results, tables):
    table = tables["out_of_domain"]
    for tuned_on, points in table.groupby("tuned_on", sort=False):
        inside, outside = (points[points["role"] == role] for role in ("in_domain", "out_of_domain"))
        if inside.empty or outside.empty:
            continue
        a, b = inside["change"].mean(), outside["change"].mean()
        error = np.sqrt((outside["change_stderr"] ** 2).sum()) / len(outside)
        clear = "" if abs(b) > 1.96 * error else " (not distinguishable from none)"
        yield f"After fine-tuning on {tuned_on}, in-domain sets change by {a:+.3f} and out-of-domain sets by {_signed(b, error)}{clear}, mean over checkpoints."


def _forgetting(results, tables):
    for row in tables["pooled_transfer"].itertuples():
        if pd.isna(row.relative):
            continue
        verdict = "" if abs(row.relative) > 1.96 * row.stderr else ", not distinguishable from none"
        yield f"Task transfer, {row.direction}: mean ratio of change {row.relative:+.1%} ± {1.96 * row.stderr:.1%}{verdict}."


def _formats(results, tables):
    table = tables["format_spread"]
    if table.empty:
        return
    last = table[table["step"] == table["step"].max()]
    for name, points in last.groupby("task", sort=False):
        base, own = points[points["tuned_on"] == ""], points[points["tuned_on"] == name]
        if len(base) and len(own):
            metric = "accuracy" if get_task(name).metric == "accuracy" else "ROUGE-L"
            spread = f"{base['spread'].iloc[0]:.3f} to {own['spread'].iloc[0]:.3f}"
            yield f"At the last checkpoint, fine-tuning on {name} moves the spread of {metric} over formats from {spread}."
