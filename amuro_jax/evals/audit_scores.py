"""The auditor of scores without rows (imported ones): what the number itself, its neighbours along
pre-training and the label counts of public splits tell. No jax.
"""

import pandas as pd

from amuro_jax.config import Metric
from amuro_jax.data import label_counts
from amuro_jax.data.registry import TASKS
from amuro_jax.data.task import Kind
from amuro_jax.evals.audit import Finding, flag
from amuro_jax.records import ScoreRecord

NEAR = 2.0  # standard errors within which a score is not distinguishable from a share
PERFECT = 0.98  # of a base model that has hardly been trained: no ability, but one gold label
EARLY_SHARE = 0.05  # of the series' steps, up to which a model has hardly been trained
SERIES = ["suite", "tuned_on", "variant", "task", "format", "shots", "metric"]


def audit_record(record: ScoreRecord) -> list[Finding]:
    """Findings on one score without rows: whether it is what one fixed answer earns."""
    value, error = record.metrics.get("value"), record.metrics.get("stderr")
    where = f"{record.model.label()}: {record.task} {record.format} {record.shots}-shot"
    if record.metrics.get("metric") != Metric.ACCURACY or value is None or error is None:
        return []
    counts, shares = (
        label_counts.LABEL_COUNTS.get(record.task, {}),
        label_counts.shares(record.task),
    )
    near = [label for label, share in shares.items() if abs(value - share) <= NEAR * error]
    if not near:
        return []
    label = min(near, key=lambda name: abs(value - shares[name]))
    what = (
        f"score {value:.4f} ± {NEAR * error:.4f}, the share of the gold label {label!r} is "
        f"{shares[label]:.4f} ({counts[label]:,} of {sum(counts.values()):,} rows)"
    )
    return [flag("near_label_share", what, where=where)]


def audit_series(scores: pd.DataFrame) -> dict[str, list[Finding]]:
    """Findings on curves over pre-training, by the key of each score that they are about.

    A base model that has hardly been trained and has nearly every row right cannot answer, so the
    rows must have one gold label.

    Args:
        scores: a line per score, columns of `index.COLUMNS`; those of sets with labels are judged.
    """
    findings: dict[str, list[Finding]] = {}
    base = scores[(scores["tuned_on"] == "") & (scores["metric"] == str(Metric.ACCURACY))]
    base = base[base["task"].map(_has_labels).astype(bool)]
    for _, curve in base.groupby(SERIES, sort=False, dropna=False):
        curve = curve.dropna(subset=["step"]).sort_values("step")
        if len(curve) < 2:
            continue
        first, last = curve.iloc[0], curve["step"].iloc[-1]
        if first["step"] <= EARLY_SHARE * last and first["value"] >= PERFECT:
            what = (
                f"the base model scores {first['value']:.4f} at step {first['step']:,.0f} of "
                f"{last:,.0f} already"
            )
            for line in curve.itertuples():
                where = f"{line.checkpoint} base: {line.task} {line.format} {line.shots}-shot"
                findings.setdefault(line.key, []).append(
                    flag("perfect_from_the_start", what, where=where)
                )
    return findings


def _has_labels(task):
    return task in TASKS and TASKS[task].kind == Kind.CLASSIFICATION
