"""Units go by a column's name; names of columns that mean something else have none."""

import pytest

from amuro_jax.analyses.units import SCORE, unit_of


@pytest.mark.parametrize(
    "column,unit",
    [
        ("p_holm", "probability"),
        ("rise_p_holm", "probability"),
        ("relative_low", "share of the base score"),
        ("change", SCORE),
        ("base_stderr", SCORE),
        ("step", "optimiser steps"),
        ("n", "count"),
        ("effective", "pairs"),
        ("anything", ""),
    ],
)
def test_unit_of_a_column(column, unit):
    assert unit_of(column, True) == unit and unit_of(column, False) == ""
