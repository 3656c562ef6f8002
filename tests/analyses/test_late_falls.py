"""Falls of a study's curves, and what the table says of faulty ones."""

import numpy as np
import pytest

from amuro_jax.analyses import late_falls
from amuro_jax.analyses.registry import tables_of
from tests.analyses import imported
from tests.analyses.hand import made
from tests.analyses.test_change_points import COUNT, curve_cells


@pytest.mark.parametrize(
    "values,said",
    [
        ([0.5], "one checkpoint only"),
        ([0.5] * COUNT, "the scores are all equal"),
        ([np.nan] * COUNT, "no score"),
        ([0.1, 0.2, 0.3], "3 checkpoints, 5 are needed"),
    ],
)
def test_faulty_curves_are_answered_in_words(values, said):
    results = made(curve_cells(values))
    tables = tables_of(results)
    (line,) = tables["late_falls"].to_dict("records")
    assert line["verdict"] == said and np.isnan(line["p_holm"])
    assert not list(late_falls.say_falls(results, tables))
    late_falls.show_falls(tables["late_falls"])


def test_pythias_small_models_fall_and_their_twins_repeat_it(shared):
    """LAMBADA and SciQ of the two smallest models, in the plain and the deduplicated series."""
    table = imported.pythia_tables(shared)["late_falls"]
    worse = table[(table["verdict"] == late_falls.WORSE) & (table["shots"] == 0)]
    worse = worse[worse["metric"] == "accuracy"]
    for task in ("lambada_openai", "sciq"):
        for size in ("70m", "160m"):
            of_size = worse[(worse["task"] == task) & (worse["suite"] == f"pythia-{size}")]
            assert f"pythia-{size}-deduped" in of_size["repeated_by"].item()
    line = worse[(worse["task"] == "lambada_openai") & (worse["suite"] == "pythia-70m-deduped")]
    assert line["peak"].item() == pytest.approx(
        0.254, abs=0.001
    )  # .253 is the highest single point
    large = worse[worse["suite"].str.contains("2.8b|6.9b|12b")]
    assert large.empty
