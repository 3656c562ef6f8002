"""Changes between base and fine-tuned cells, with paired uncertainty: what the analyses share. No
jax.

Uncertainty is that of the test rows: 95 % intervals from paired bootstrap draws
(`results.Results.draws`), in which a row drawn for one model is drawn for all. Nothing here says
how much another training seed would change.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from amuro_jax.evals.statistics import benjamini_hochberg, effective_number, holm
from amuro_jax.results.estimate import EQUIVALENCE_MARGIN, Estimate
from amuro_jax.results.results import Results

RELATIVE = "relative_"  # prefix of ratios, to which the margin of equivalence does not apply
LEVEL = 0.05  # p-values below it, after correction, are called clear

INTERVAL_COLUMNS = {
    "stderr": "bootstrap standard error over test rows",
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
    "p": "two-sided bootstrap p-value of no change",
    "p_equivalent": f"p-value of a change of {EQUIVALENCE_MARGIN} or more either way (two "
    "one-sided tests): below 0.05 there is no change beyond that",
}
CORRECTED_COLUMNS = {
    "p_holm": "p with Holm's correction over the family",
    "p_bh": "p with Benjamini and Hochberg's correction over the family",
    "family": "the comparisons that the corrections are over, and their number",
}
PLACE_COLUMNS = {
    "task": "set that is scored",
    "tuned_on": "fine-tuning set of the model; empty: the base model",
    "checkpoint": "pre-training checkpoint",
    "format": "prompt format",
    "shots": "number of shots",
    "role": "of the set for the model: in_domain, out_of_domain, cross_task, multiple_choice",
}


def change(pairs):
    """Mean over pairs of (second − first).

    `pairs` is [..., 2 × pairs], base and fine-tuned side by side.
    """
    return np.mean(pairs[..., 1::2] - pairs[..., ::2], axis=-1)


def relative_change(pairs):
    """Mean over pairs of (second − first) / first."""
    return np.mean((pairs[..., 1::2] - pairs[..., ::2]) / pairs[..., ::2], axis=-1)


def in_views(
    items: Sequence[Any], view: Callable[[Any], Hashable], make: Callable[[Any], Any]
) -> list:
    """`make` of each item, in their order, but made view by view.

    Draws are made for many cells of a set, format and number of shots at once, and those of a large
    store do not fit into memory: in another order they would be made again for each item.

    Args:
        view: of an item, its set, format and number of shots.
    """
    places: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(view(item), []).append(place)
    made = [None] * len(items)
    for members in places.values():
        for place in members:
            made[place] = make(items[place])
    return made


_GAINS = "gains"  # where a study's changes of one pair of cells are kept


def gain(results: Results, base: dict | None, tuned: dict | None) -> Estimate:
    """Fine-tuned − base of one pair of cells; kept, since tables and curves want the same ones."""
    kept = results.derived.setdefault(_GAINS, {})
    key = tuple(None if cell is None else cell["key"] for cell in (base, tuned))
    if key not in kept:
        kept[key] = results.estimate(change, [base, tuned])
    return kept[key]


def mean(scores):
    """Mean over the last axis."""
    return np.mean(scores, axis=-1)


def uncertainty(estimate: Estimate, prefix: str = "") -> dict:
    """The columns of an estimate's uncertainty."""
    names = [name for name in INTERVAL_COLUMNS if name != "p_equivalent" or prefix != RELATIVE]
    return {f"{prefix}{name}": getattr(estimate, name) for name in names}


def beside(results: Results, cell: dict, other: dict | None, name: str) -> dict:
    """A score beside another one of the same set, in the column `name` (missing where there is
    none), with their difference and its uncertainty.
    """
    difference = results.estimate(change, [other, cell])
    return {
        "value": cell["value"],
        name: np.nan if other is None else other["value"],
        "difference": difference.value,
        **uncertainty(difference),
    }


def corrected(lines: Sequence[dict], by: Sequence[str]) -> pd.DataFrame:
    """Lines of `beside` as a table; `p_holm` is over the lines that agree in the columns `by`."""
    table = pd.DataFrame(lines)
    if len(table):
        table["p_holm"] = table.groupby(list(by))["p"].transform(holm)
    return table


def uncertainty_columns(prefix: str = "", of: str = "") -> dict[str, str]:
    """The data dictionary of `uncertainty`'s columns."""
    return {
        f"{prefix}{name}": text + (f" ({of})" if of else "")
        for name, text in INTERVAL_COLUMNS.items()
        if name != "p_equivalent" or prefix != RELATIVE
    }


def with_families(table: pd.DataFrame, of: str, by: Sequence[str] = ()) -> pd.DataFrame:
    """A table of changes with `CORRECTED_COLUMNS`: its column `p` corrected over families, which
    are the lines that agree in the columns `by` (all lines where there are none).

    Args:
        of: what the comparisons of a family are, in words.
    """
    if table.empty:
        return table
    families = [table[name] for name in by] or [pd.Series(0, table.index)]
    grouped = table["p"].groupby(families, sort=False)
    sizes = grouped.transform("count")
    return table.assign(
        p_holm=grouped.transform(holm),
        p_bh=grouped.transform(benjamini_hochberg),
        family=[f"{size} {of}" for size in sizes],
    )


def baseline(cell) -> float:
    """What a model must beat: majority class or chance, whichever is higher (for generation the
    score of another row's reference). NaN where neither is known (imported scores).
    """
    known = [value for value in (cell["majority"], cell["chance"]) if not pd.isna(value)]
    return max(known, default=np.nan)


def floor(height: float) -> float:
    """A baseline as what a score is compared with: zero where it is not known."""
    return 0.0 if np.isnan(height) else height


def pairs_of(results: Results, checkpoints, tuned_on: str, task: str, view=None) -> list[tuple]:
    """(base, fine-tuned) cells of a set, one per checkpoint, in a format and number of shots."""
    format, shots = view or results.main[task]
    return [
        (
            results.find(name, "", task, format, shots),
            results.find(name, tuned_on, task, format, shots),
        )
        for name in checkpoints
    ]


def pooled(results: Results, pairs: list[tuple], every_base: bool = False) -> dict:
    """Mean change and mean relative change over (base, fine-tuned) pairs, and what is left out.

    A pair has a ratio where its base score is clearly above zero and above its baseline; with
    `every_base`, as the study defines its ratios, where it is above zero.
    """
    known = [pair for pair in pairs if pair[0] is not None and pair[1] is not None]
    absolute = results.estimate(change, [cell for pair in known for cell in pair])
    divisible = [pair for pair in known if _has_ratio(results, pair[0], every_base)]
    ratio = results.estimate(relative_change, [cell for pair in divisible for cell in pair])
    return {
        "change": absolute.value,
        **uncertainty(absolute),
        "relative": ratio.value,
        **uncertainty(ratio, RELATIVE),
        "cells": len(known),
        "effective": _effective(results, known),
        "missing": len(pairs) - len(known),
        "no_ratio": len(known) - len(divisible),
    }


POOLED_COLUMNS = {
    "change": "mean of fine-tuned − base",
    **uncertainty_columns(),
    "relative": "mean of (fine-tuned − base) / base over the pairs that have a ratio",
    **uncertainty_columns(RELATIVE, "of `relative`"),
    "cells": "pairs of base and fine-tuned score that are known",
    "effective": "how many independent pairs they are worth: the same rows stand behind all "
    "checkpoints (participation ratio of the correlations between their draws)",
    "missing": "pairs of which a score is missing",
    "no_ratio": "known pairs whose base score is too low to divide by",
}


def _effective(results, pairs):
    """Effective number of the pairs' changes."""
    if not pairs:
        return np.nan
    changes = [results.draws[tuned["key"]] - results.draws[base["key"]] for base, tuned in pairs]
    return effective_number(np.stack(changes, axis=-1))


def _has_ratio(results, base, every_base):
    draws = results.draws[base["key"]]
    if base["value"] <= 0 or draws.min() <= 0:
        return False
    return every_base or float(np.quantile(draws, 0.025)) > floor(baseline(base))
