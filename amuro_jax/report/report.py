"""The report of a study: tables as CSV, figures as PNG and SVG, one self-contained page, and a
short table for the terminal. What is in it follows from the analyses (`analyses/registry.py`). No
jax.
"""

import tempfile
from pathlib import Path

import pandas as pd

from amuro_jax.analyses import words
from amuro_jax.analyses.analysis import Tables
from amuro_jax.analyses.figures import FigureSpec, within
from amuro_jax.analyses.scores import scores
from amuro_jax.analyses.units import unit_of
from amuro_jax.report import plots, render
from amuro_jax.report.training import with_training
from amuro_jax.results import loading
from amuro_jax.results.results import Results
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage

DICTIONARY = "dictionary"  # name of the table that says what the others' columns mean


def write_report(workdir, beside="", suite="") -> str:
    """Writes `<workdir>/report/` from the finished cells and returns the path of the page.

    Args:
        beside: work folder of a second study, whose scores the page shows beside this one's.
        suite: the series that the report is of, where the store has several; "": the study's, or
            the first one.

    Raises:
        AmuroError: no study there, no finished cell, or no such series.
    """
    loaded = loading.load(workdir, suite=suite, check_rows=True)
    storage = Storage.open(workdir)
    store, folder = Store(storage), storage.child("report")
    tables = with_training(loaded, store)
    files, figures = table_files(tables), draw(tables)
    for name, data in files.items():
        folder.replace(f"tables/{name}", data)
    with tempfile.TemporaryDirectory() as drawn:
        for name, spec in figures.items():
            plots.save(spec, name, Path(drawn))
        folder.upload(drawn, "figures")
    text = render.page(store, tables, figures, files, other=second(beside))
    folder.replace("index.html", text)
    return folder.where("index.html")


def served_page(workdir, beside="", suite="") -> str:
    """The page for `amuro report --serve`, which asks for rows instead of carrying them.

    Raises:
        AmuroError: no study there, or no finished cell.
    """
    store = Store.open(workdir)
    tables = with_training(loading.load(workdir, suite=suite, check_rows=True), store)
    files, figures = table_files(tables), draw(tables)
    return render.page(store, tables, figures, files, other=second(beside), served=True)


def second(workdir) -> tuple[Store, Results] | None:
    """The study to show beside another one, from its work folder; None without a folder."""
    return (Store.open(workdir), loading.load(workdir)) if workdir else None


def table_files(tables: Tables) -> dict[str, bytes]:
    """Every table and the data dictionary as CSV and Parquet, by file name."""
    by_name = {name: tables.across(name) for name in tables} | {DICTIONARY: dictionary(tables)}
    files = {}
    for name, table in by_name.items():
        files[f"{name}.csv"] = table.to_csv(index=False).encode()
        files[f"{name}.parquet"] = table.to_parquet(index=False)
    return files


def draw(tables: Tables) -> dict[str, FigureSpec]:
    """The figures of the analyses that have something to draw, by name."""
    drawn = {
        name: analysis.figure(tables.results, tables)
        for name, analysis in tables.analyses.items()
        if analysis.figure
    }
    return {name: within(spec) for name, spec in drawn.items() if spec is not None and spec.panels}


def dictionary(tables: Tables) -> pd.DataFrame:
    """What each column of each table means: columns table, column, unit, meaning."""
    lines = [
        {
            "table": name,
            "column": column,
            "unit": unit_of(column, pd.api.types.is_numeric_dtype(tables[name][column])),
            "meaning": analysis.columns.get(column, "see the analysis that makes the table"),
        }
        for name, analysis in tables.analyses.items()
        for column in tables[name].columns
    ]
    return pd.DataFrame(lines)


def summary(workdir, suite="") -> str:
    """Base and fine-tuned score by set and checkpoint as text, ± half the width of the 95 %
    interval; checkpoints without either, as an adaptive study leaves them, have no line.
    """
    loaded = loading.load(workdir, suite=suite)
    width = max(map(len, loaded.checkpoints)) + 2
    lines = [
        "± is half the width of the 95 % interval over test rows",
        f"{'set':<20}{'checkpoint':<{width}}{'base':>16}{'fine-tuned':>16}{'baseline':>10}",
    ]
    table = scores(loaded)
    for row in table[table[["base", "tuned"]].notna().any(axis=1)].itertuples():  # else no score
        height = "" if pd.isna(row.baseline) else f"{row.baseline:.3f}"
        base = words.plus_minus(row.base, row.base_low, row.base_high, sign=False)
        tuned = words.plus_minus(row.tuned, row.tuned_low, row.tuned_high, sign=False)
        lines.append(f"{row.task:<20}{row.checkpoint:<{width}}{base:>16}{tuned:>16}{height:>10}")
    if len(loaded.missing):
        total = len(loaded.missing) + len(loaded.cells)
        lines.append(f"missing: {len(loaded.missing)} cells of {total}; the report names them")
    return "\n".join(lines)
