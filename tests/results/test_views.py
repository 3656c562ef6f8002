"""Views of a store: documented, typed, and one line from other tools."""

import re

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from amuro_jax.errors import ConfigError
from amuro_jax.results import views
from amuro_jax.results.store import Store
from tests.study import synthetic


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    made = tmp_path_factory.mktemp("views") / "work" / "study"
    synthetic.make_store(made, rows=6, steps=(16, 1600))
    return made


def test_the_written_views_have_the_documented_columns(workdir, root):
    paths = views.write(Store.open(workdir))
    text = (root / "docs/results.md").read_text()
    for view, path in zip(views.VIEWS, paths, strict=True):
        found = pq.read_schema(path)
        assert found.equals(views.schema(view)) and path.endswith(f"views/{view}.parquet")
        assert found.metadata[b"amuro_view_schema"] == str(views.SCHEMA).encode()
        section = re.search(rf"### `{view}`\n(.*?)(\n#|\Z)", text, re.DOTALL)[1]
        for field in views.schema(view):
            line = f"| `{field.name}` | {field.type} | {field.metadata[b'meaning'].decode()} |"
            assert line in section, line


def test_rows_are_those_of_the_cells(workdir):
    store = Store.open(workdir)
    views.write(store)
    rows = pd.read_parquet(workdir / "views" / "rows.parquet")
    cells = store.frame().set_index("key")["value"]
    means = rows.groupby("key")["score"].mean()
    assert len(rows) == 6 * len(cells)
    pd.testing.assert_series_equal(means, cells.sort_index(), check_names=False)


def test_requests_are_the_choices(workdir):
    store = Store.open(workdir)
    (part,) = views.tables(store, "requests", "task == 'lab_nli' and step == 16 and tuned_on == ''")
    found = part.to_pandas()
    rows = 6 * found["key"].nunique()
    assert len(found) == 3 * rows and set(found["choice"]) == {0, 1, 2}
    best = found.loc[found.groupby(["key", "row"])["logprob"].idxmax()]
    assert (best["choice"] == best["predicted"]).all()
    generated = "task == 'lab_summary'"
    assert views_of(store, "rows", generated) and not views_of(store, "requests", generated)


def views_of(store, view, where):
    return sum(part.num_rows for part in views.tables(store, view, where))


def test_conditions_on_cells_and_on_rows(workdir):
    store = Store.open(workdir)
    where = "tuned_on == 'lab_nli' and format == 'io'"
    whole = views_of(store, "rows", where)
    right = sum(p.num_rows for p in views.tables(store, "rows", where, "score == 1.0"))
    assert 0 < right < whole
    with pytest.raises(ConfigError, match="no column 'scroe'"):
        list(views.tables(store, "rows", where, "scroe == 1"))


def test_one_line_in_each_tool(workdir, root, monkeypatch):
    """The lines of the documentation."""
    views.write(Store.open(workdir))
    monkeypatch.chdir(workdir.parents[1])
    text = (root / "docs/results.md").read_text()
    block = re.search(r"<!-- one line -->\n```python\n(.*?)```", text, re.DOTALL)[1]
    names = {"pd": pd, "pl": pl, "duckdb": duckdb}
    lines = [line for line in block.splitlines() if line and not line.startswith("import")]
    found = [eval(line, names) for line in lines]
    cells = len(Store.open(workdir).frame())
    assert len(found[0]) == cells and found[1].height == 6 * cells
    assert len(found) == 3 and found[2].fetchall()
