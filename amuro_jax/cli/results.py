"""Asks a store for its scores.

  amuro results --workdir=work/study --where="task=='paws' and format=='io'"
  amuro results --workdir=work/study --group=task,tuned_on --format=markdown
  amuro results --workdir=work/study --rows --where="task=='paws'" --format=csv --out=rows.csv
  amuro results --workdir=work/study --write_views

--where is a comparison of columns and constants (and, or, not, in); it is read, never run. Views
are cells, rows (one line per test row) and requests (one line per row and choice); docs/results.md
lists their columns. --write_views keeps them as Parquet files in <workdir>/views/, one line from
pandas, polars and DuckDB.
"""

import io
import sys

from absl import flags

from amuro_jax.cli.configure import require_flags, say_damaged, split_names

DESCRIPTION = "ask a store for its scores: select, group, export"
FIRST = "workdir"
FORMATS = ("table", "csv", "parquet", "json", "markdown")
# Columns that are shown where none are asked for.
USUAL = (
    "checkpoint", "tuned_on", "variant", "task", "format", "shots", "metric", "value", "stderr",
    "low", "high", "n",
)  # fmt: skip


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string("workdir", "", "Folder of the store.")
    flags.DEFINE_string("where", "", "Condition on cells, such as task=='paws' and shots > 0.")
    flags.DEFINE_string("where_rows", "", "Condition on rows or requests, such as correct==False.")
    flags.DEFINE_string("columns", "", "Columns to show, comma-separated; empty: the usual ones.")
    flags.DEFINE_string("group", "", "Columns by which scores are averaged, comma-separated.")
    flags.DEFINE_enum("format", "table", FORMATS, "How the lines are written.")
    flags.DEFINE_enum("view", "cells", ("cells", "rows", "requests"), "What is asked for.")
    flags.DEFINE_bool("rows", False, "The same as --view=rows.")
    flags.DEFINE_string("out", "", "File to write; empty: the terminal.")
    flags.DEFINE_bool("write_views", False, "Write all three views to <workdir>/views/*.parquet.")


def main() -> None:
    """Prints or writes what was asked for."""
    from amuro_jax.config import require
    from amuro_jax.results import views
    from amuro_jax.results.store import Store

    args = flags.FLAGS
    require_flags("workdir")
    store = Store.existing(args.workdir)
    say_damaged(store)
    if args.write_views:
        print("\n".join(views.write(store)))
        return
    view = "rows" if args.rows else args.view
    require(args.format != "parquet" or bool(args.out), "Parquet needs a file", where="--out")
    parts = views.tables(store, view, args.where, args.where_rows)
    if args.format == "parquet" and not (args.group or args.columns):
        buffer = io.BytesIO()
        views.write_parquet(buffer, view, parts)
        _write(args.out, buffer.getvalue())
        return
    text = _render(_shown(view, parts, args), args.format)
    if args.out:
        _write(args.out, text)
    else:
        sys.stdout.write(text)


def _shown(view, parts, args):
    """The lines that are shown, as a data frame."""
    import pandas as pd

    from amuro_jax.config import misspelt, require

    group, columns = (dict.fromkeys(split_names(text)) for text in (args.group, args.columns))
    table = pd.concat([part.to_pandas() for part in parts], ignore_index=True)
    for where, names in (("--group", group), ("--columns", columns)):
        for name in names:
            if name not in table:
                raise misspelt(name, table.columns, where=where, what=f"no column {name!r}")
    if group:
        require(view == "cells", "only cells are grouped", where="--group")
        require(not columns, "a grouped table has columns of its own", where="--columns")
        grouped = table.groupby(list(group), dropna=False, sort=False)
        metrics = sorted(table["metric"].unique())
        several = grouped["metric"].nunique() > 1
        require(
            not several.any(),
            f"scores of several metrics have no mean: {', '.join(metrics)}",
            where="--group",
            hint="add metric to --group, or choose one with --where",
        )
        grouped = grouped["value"]
        return grouped.agg(scores="size", mean="mean", lowest="min", highest="max").reset_index()
    if not columns and view == "cells" and args.format in ("table", "markdown"):
        several = table["suite"].nunique() > 1
        columns = (("suite",) if several else ()) + USUAL
        columns = [name for name in columns if name != "variant" or (table["variant"] != "").any()]
    return table[list(columns)] if columns else table


def _render(frame, format):
    """A table as bytes or text."""
    if format == "csv":
        return frame.to_csv(index=False)
    if format == "json":
        return frame.to_json(orient="records", lines=False, indent=1, double_precision=15) + "\n"
    if format == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if format == "markdown":
        return _markdown(frame)
    if frame.empty:
        return "no lines\n"
    text = frame.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep="")
    return f"{text}\n{len(frame):,} lines\n"


def _markdown(frame):
    def cell(value):
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return "" if text == "nan" else text.replace("|", "\\|").replace("\n", " ")

    lines = [list(frame.columns), ["---"] * len(frame.columns)]
    lines += [[cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _write(path, data):
    from amuro_jax import files

    files.write_bytes(path, data.encode() if isinstance(data, str) else data)
    print(path)
