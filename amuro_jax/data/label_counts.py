"""How often each gold label occurs in public test splits, so that a score without its rows can be
recognised as what one fixed answer earns. No jax.

Counts are those of the complete splits: GLUE's MNLI validation splits and RTE's training split
(which the published pipeline scores), PAWS labeled_final's test split, BoolQ's validation split.
"""

LABEL_COUNTS: dict[str, dict[str, int]] = {
    "mnli_matched": {"entailment": 3479, "contradiction": 3213, "neutral": 3123},
    "mnli_mismatched": {"entailment": 3463, "contradiction": 3240, "neutral": 3129},
    "rte": {"entailment": 1249, "not entailment": 1241},
    "paws": {"no": 4464, "yes": 3536},
    "boolq": {"yes": 2033, "no": 1237},
}
# Options of multiple-choice sets, of which one is right: a guess earns one over their number.
OPTIONS: dict[str, int] = {
    "arc_challenge": 4,
    "arc_easy": 4,
    "openbookqa": 4,
    "hellaswag": 4,
    "sciq": 4,
    "sciq_choice": 4,
    "boolq": 2,
    "piqa": 2,
    "winogrande": 2,
    "wsc": 2,
    "logiqa": 4,
    "mnli_matched": 3,
    "mnli_mismatched": 3,
    "gpt3nli": 3,
    "paws": 2,
    "qqp": 2,
    "stsb": 2,
}


def shares(task: str) -> dict[str, float]:
    """Label → its share of the gold labels; empty where it is not known."""
    counts = LABEL_COUNTS.get(task, {})
    return {label: count / sum(counts.values()) for label, count in counts.items()}


def majority(task: str) -> float | None:
    """Share of the most frequent label; None where it is not known."""
    return max(shares(task).values(), default=None)


def chance(task: str) -> float | None:
    """Score of guessing; None where it is not known."""
    return 1 / OPTIONS[task] if task in OPTIONS else None
