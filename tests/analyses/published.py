"""The study's published result tables, imported where the real data lie."""

import pytest

from amuro_jax.interchange import paper
from amuro_jax.results import loading
from amuro_jax.results.results import Results

OWNERS = ("mnli_matched", "paws", "xsum", "socialiqa", "mnli_mismatched", "xlsum")
CHOICE = ("boolq", "sciq_choice", "hellaswag", "arc_challenge", "arc_easy", "openbookqa")
FILES = ("all_perf_table.csv", "official_eval_table.csv")


def tables(shared) -> list:
    """Paths of the two published tables; skips where they are missing."""
    folder = shared / "paper_results"
    if not folder.is_dir():
        pytest.skip(f"no published tables at {folder}")
    return [folder / name for name in FILES]


def imported(shared, workdir) -> Results:
    """The published tables as results."""
    paper.import_paper(tables(shared), workdir)
    return loading.load(workdir, 400)
