"""Figures that the study printed, beside the same figures of a store that has its sets: the
imported tables, or a study of one's own on OLMo-1B. No jax.

Source: arXiv 2408.06663 v5, Tables 3 and 6 and section 5.4.
"""

import dataclasses

import numpy as np
import pandas as pd

from amuro_jax.analyses import gains, transfer
from amuro_jax.analyses.analysis import Analysis
from amuro_jax.results.results import Results

LAST = "main"
CHECKPOINTS = (
    "step1000", "step18000", "step342000", "step424000", "step505000", "step592000", "step738000",
    LAST,
)  # fmt: skip
FINE = ("mnli_matched", "mnli_mismatched", "paws", "xsum", "xlsum", "socialiqa", "boolq")
CHOICE = ("sciq_choice", "hellaswag", "arc_challenge", "arc_easy", "openbookqa")
TABLE_6 = {
    "learned in pre-training": (
        CHOICE, (0.048, 0.048, 0.004, 0.010, 0.030, 0.027, 0.021, -0.005),
    ),
    "learned in fine-tuning": (FINE, (0.062, 0.149, 0.286, 0.297, 0.304, 0.297, 0.264, 0.290)),
}  # fmt: skip
# Set → fine-tuning set, printed score of the last fine-tuned model and of the last base model.
TABLE_3 = {
    "mnli_matched": ("mnli_matched", 0.792, 0.327),
    "rte": ("mnli_matched", 0.660, 0.241),
    "paws": ("paws", 0.878, 0.558),
    "stsb": ("paws", 0.744, 0.964),
}
TRANSFER = {("classification", "generation"): -0.614, ("generation", "classification"): 0.003}


@dataclasses.dataclass(frozen=True)
class _Figure:
    """A printed figure, ours with its interval, and ours without the published quirks."""

    figure: str
    where: str
    printed: float
    value: float
    low: float = np.nan
    high: float = np.nan
    strict: float = np.nan


def published(results: Results, _=None) -> pd.DataFrame:
    """A line per printed figure that the store determines; empty where it has none of them."""
    compared = [*_table_6(results), *_table_3(results), *_transfer(results)]
    lines = [dataclasses.asdict(one) for one in compared if not np.isnan(one.value)]
    table = pd.DataFrame(lines)
    if len(table):
        difference = table["value"] - table["printed"]
        table.insert(4, "difference", difference)
        # Printed with three digits, rounded or cut off.
        table.insert(5, "agrees", difference.abs() < 0.001)
    return table


def _table_6(results):
    names = {name: name for name in results.checkpoints}
    quirk = dataclasses.replace(results, published_averages=True)
    strict = dataclasses.replace(results, published_averages=False)
    for group, (tasks, printed) in TABLE_6.items():
        if not set(tasks) <= set(results.main):
            continue
        groups = pd.DataFrame({"task": tasks, "group": group})
        ours, once = (
            gains.gains_of(one, groups).set_index("checkpoint").to_dict("index")
            for one in (quirk, strict)
        )
        for checkpoint, value in zip(CHECKPOINTS, printed, strict=True):
            if checkpoint in names and not ours[checkpoint]["left_out"]:
                line = ours[checkpoint]
                yield _Figure(
                    f"Table 6, {group}", checkpoint, value, line["change"], line["low"],
                    line["high"], once[checkpoint]["change"],
                )  # fmt: skip


def _table_3(results):
    for task, (tuned_on, tuned, base) in TABLE_3.items():
        if task not in results.main or LAST not in results.checkpoints:
            continue
        for name, model, printed in (("fine-tuned", tuned_on, tuned), ("base", "", base)):
            cell = results.find(LAST, model, task)
            if cell is not None:
                yield _Figure(
                    f"Table 3, TokenProb, {name}", task, printed, cell["value"], cell["low"],
                    cell["high"],
                )  # fmt: skip


def _transfer(results):
    if not set(FINE[:1] + FINE[2:4]) <= set(results.main):
        return
    table = transfer.mrc_by_kind(results).set_index(["tuned_on", "task"])
    strict = transfer.transfer_by_kind(results).set_index(["tuned_on", "task"])
    for kinds, printed in TRANSFER.items():
        if kinds in table.index:
            line = table.loc[kinds]
            yield _Figure(
                "task transfer, mean ratio of change", " → ".join(kinds), printed,
                line["relative"], line["relative_low"], line["relative_high"],
                strict.loc[kinds, "change"],
            )  # fmt: skip


PUBLISHED = Analysis(
    "published",
    "Beside the published figures",
    published,
    {
        "figure": "table or statistic of the paper",
        "where": "checkpoint, set or kinds of task that it is of",
        "printed": "as printed",
        "value": "the same figure from this store",
        "difference": "value − printed",
        "agrees": "whether they differ by less than a unit of the last printed digit",
        "low": "lower end of the 95 % interval of `value`",
        "high": "upper end of that interval",
        "strict": "Table 6: with SciQ counted once; transfer: the mean change itself, which no "
        "small base score dominates",
    },
    "Beside the published figures",
    caption="Figures of arXiv 2408.06663 and the same figures from this store. `strict` is what "
    "the statistic comes to without the published quirks.",
)
