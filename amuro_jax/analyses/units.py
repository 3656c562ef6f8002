"""Units of the tables' columns, by their names. No jax."""

import re

SCORE = "score: a share of 1 for accuracy and ROUGE-L, else the metric's own unit"
# The first pattern that a column's whole name matches decides.
_UNITS = (
    (r"(.*_)?p(_holm|_bh|_mcnemar|_equivalent|_bootstrap)?|(rise|gain)_p(_holm)?", "probability"),
    (r"relative(_stderr|_low|_high)?", "share of the base score"),
    (r"step|steps", "optimiser steps"),
    (r"(.*_)?tokens", "tokens"),
    (r"seconds", "seconds"),
    (r"n|cells|missing|no_ratio|sets|models|formats|formats_agree|count|scores|shots|gained|lost"
     r"|checkpoints|.*_levels|line", "count"),
    (r"effective", "pairs"),
    (r"agrees|paired|clear|clear_over_rows|own|above_baseline|same_format|rose", "true or false"),
    (r"value|score|base|effect|without|with|expected.*|tuned|change|difference|printed|strict"
     r"|rise|gain|spread|baseline|majority|chance|one_score|rest|rows|format|seed|shot_seed"
     r"|checkpoint|fall|peak|end|noise|best_value|error"
     r"|reached_value|.*(stderr|low|high)", SCORE),
)  # fmt: skip


def unit_of(column: str, numeric: bool) -> str:
    """The unit of a column of numbers; "" of names, and of numbers without one."""
    if not numeric:
        return ""
    return next((unit for pattern, unit in _UNITS if re.fullmatch(pattern, column)), "")
