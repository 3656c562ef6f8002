"""The report of a study: tables as CSV, figures as PNG and SVG, one self-contained page, and a
short table for the terminal. No jax.
"""

from pathlib import Path

import jinja2
import pandas as pd

from amuro_jax import __version__, files
from amuro_jax.analyses import findings
from amuro_jax.analyses import study as analyses
from amuro_jax.evals import audit
from amuro_jax.report import figures, page
from amuro_jax.results import results, store
from amuro_jax.study import plan

CAPTIONS = {
    "curves": (
        "Base and fine-tuned over pre-training",
        "The base model, prompted with shots, and the model fine-tuned on the set's own task (multiple choice: mean over all fine-tuned models). "
        "Bands: 95 % intervals over test rows. Baseline: the majority class or chance, whichever is higher; for generated text the score of "
        "another row's reference.",
    ),
    "groups": (
        "What fine-tuning adds, by group of sets",
        "Mean of fine-tuned − base over the sets of a group, each after its own fine-tuning (multiple choice: after each). A set is learned in "
        "pre-training when its last base model lies clearly above the first and above the baseline; in fine-tuning when not, and its fine-tuned "
        "model does; groups named in the configuration are taken as given.",
    ),
    "domains": (
        "In and out of domain",
        "Change after fine-tuning, mean over checkpoints, with 95 % intervals.",
    ),
    "transfer": (
        "Task transfer",
        "Change of each task's in-domain set after fine-tuning on each set, mean over checkpoints ± standard error. "
        "Orange: below the base model, forgotten; blue: above it.",
    ),
    "ratios": (
        "Forgetting over pre-training",
        "Mean ratio of change: (fine-tuned − base) / base, mean over the other tasks' sets. A checkpoint at which a base score is zero has no ratio.",
    ),
    "formats": (
        "Sensitivity to the prompt format",
        "The same rows under each format. The closer the lines, the less the wording matters.",
    ),
    "spread": (
        "Spread over formats",
        "Best minus worst format, mean over sets. It is above zero by chance alone; the table format_spread.csv has the size to expect from chance.",
    ),
}


def make_tables(found: results.Results) -> dict[str, pd.DataFrame]:
    """Every analysis by name."""
    learned, spread = analyses.learned(found), analyses.formats(found)
    return {
        "cells": found.cells,
        "missing_cells": found.missing,
        "overview": analyses.overview(found),
        "base_curves": analyses.base_curves(found),
        "gains": analyses.gains(found),
        "learned": learned,
        "group_gains": analyses.group_gains(found, learned),
        "out_of_domain": analyses.out_of_domain(found),
        "transfer": analyses.transfer(found),
        "transfer_ratios": analyses.transfer_ratios(found),
        "transfer_by_kind": analyses.transfer_by_kind(found),
        "format_spread": spread,
        "spread_by_checkpoint": analyses.spread_by_checkpoint(found, spread)
        if len(spread)
        else pd.DataFrame(),
        "plateaus": analyses.plateaus(found),
    }


def write_report(workdir) -> Path:
    """Writes `<workdir>/report/` from the finished cells and returns the page.

    Raises:
        AmuroError: no study there, no finished cell, a damaged one.
    """
    found = results.load(workdir)
    tables, folder = make_tables(found), Path(workdir) / "report"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        files.write_text(folder / "tables" / f"{name}.csv", table.to_csv(index=False))
    drawn = [
        (figure, figures.save(figure, folder / "figures")) for figure in _figures(found, tables)
    ]
    flags = {key: audit.audit_cell(store.cell_folder(workdir, key)) for key in found.cells["key"]}
    said = findings.write_findings(found, tables)
    files.write_text(folder / "index.html", _render(workdir, found, tables, drawn, flags, said))
    return folder / "index.html"


def _figures(found, tables):
    made = {
        "curves": lambda: figures.curves(found, tables["overview"]),
        "group_gains": lambda: figures.groups(found, tables["group_gains"]),
        "out_of_domain": lambda: figures.domains(found, tables["out_of_domain"]),
        "transfer": lambda: figures.transfer(found, tables["transfer"]),
        "transfer_ratios": lambda: figures.ratios(found, tables["transfer_ratios"]),
        "format_spread": lambda: figures.formats(found, tables["format_spread"]),
        "spread_by_checkpoint": lambda: figures.spread(found, tables["spread_by_checkpoint"]),
    }
    drawable = {
        "format_spread": "spread",
        "spread_by_checkpoint": "spread",
        "transfer_ratios": "relative",
        "curves": None,
    }
    for name, make in made.items():
        column, table = drawable.get(name, "change"), tables.get(name, ())
        if column is None or (len(table) and table[column].notna().any()):
            yield make()


def _render(workdir, found, tables, drawn, flags, said):
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amuro_jax.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    records = {
        record["key"]: record
        for kind in ("score", "train")
        for record in store.records(workdir, kind)
    }
    return environment.get_template("report.html").render(
        name=found.name,
        facts=page.facts(found, flags),
        findings=said,
        scores=page.score_table(found, flags),
        steps=page.steps(found),
        figures=[page.figure(figure, panels, CAPTIONS[figure.name]) for figure, panels in drawn],
        learned=page.learned_table(tables["learned"]),
        transfer=page.transfer_table(tables["transfer_by_kind"]),
        plateaus=page.plateau_table(tables["plateaus"]),
        flags=page.flag_table(found, flags),
        missing=page.missing_table(found.missing),
        provenance=page.provenance(found, records, plan.read_plan(workdir)),
        tables=sorted(tables),
        version=__version__,
    )


def summary(workdir) -> str:
    """Base and fine-tuned score ± standard error by set and checkpoint, as text."""
    found = results.load(workdir)
    table = analyses.overview(found)
    width = max(map(len, found.checkpoints)) + 2
    lines = [f"{'set':<20}{'checkpoint':<{width}}{'base':>16}{'fine-tuned':>16}{'baseline':>10}"]
    for row in table.itertuples():
        bar = "" if pd.isna(row.baseline) else f"{row.baseline:.3f}"
        base, tuned = _cell(row.base, row.base_stderr), _cell(row.tuned, row.tuned_stderr)
        lines.append(f"{row.task:<20}{row.checkpoint:<{width}}{base:>16}{tuned:>16}{bar:>10}")
    if len(found.missing):
        lines.append(
            f"missing: {len(found.missing)} cells of {len(found.missing) + len(found.cells)}; the report names them"
        )
    return "\n".join(lines)


def _cell(value, error):
    return "–" if pd.isna(value) else f"{value:.3f} ± {error:.3f}"
