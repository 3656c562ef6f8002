"""Curves of a store: how a page and a sentence name them."""

import pandas as pd

from amuro_jax.analyses import series


def test_a_set_in_several_formats_is_named_with_them():
    lines = [("rte", "default", 4), ("paws", "io", 4), ("paws", "default", 4), ("boolq", "io", 0)]
    lines.append(("boolq", "io", 4))
    table = pd.DataFrame(lines, columns=["task", "format", "shots"])
    names = ["rte", "paws in io", "paws in default", "boolq, 0-shot", "boolq, 4-shot"]
    assert list(series.named_sets(table)) == names
