"""The report of a study: tables as CSV, figures as PNG and SVG, one self-contained page, and a short table for the terminal."""

import dataclasses
import datetime
from pathlib import Path

import jinja2
import pandas as pd

from amuro_jax import __version__, files
from amuro_jax.evals import audit
from amuro_jax.study import analyses, figures, findings, store
from amuro_jax.study.analyses import Results

CAPTIONS = {
    "curves": ("Base and fine-tuned over pre-training", "Score of the base model (4 shots as configured) and of the model fine-tuned on the set. Bands: 95 % bootstrap over test rows."),
    "groups": ("What fine-tuning adds, by group of sets", "Sets are grouped by test: learned in pre-training when the last base checkpoint is above its first and its baseline."),
    "domains": ("In and out of domain", "Change after fine-tuning, mean over checkpoints, 95 % intervals of paired bootstraps over rows."),
    "transfer": ("Task transfer", "Change on every task's set after fine-tuning on each, mean over checkpoints. Below zero: forgotten."),
    "formats": ("Sensitivity to the prompt format", "The same rows under each format; the closer the lines, the less the wording matters."),
}  # fmt: skip


def make_tables(results: Results) -> dict[str, pd.DataFrame]:
    """Every analysis by name."""
    changed = analyses.changes(results)
    learned = analyses.learned_in_pretraining(results)
    tables = {"cells": results.cells, "overview": analyses.overview(results), "base_curves": analyses.base_curves(results)}
    tables |= {"learned_in_pretraining": learned, "format_spread": analyses.format_spread(results), "changes": changed}
    if len(changed):
        tables |= {"group_gains": analyses.group_gains(results, changed, learned), "transfer": analyses.transfer(results, changed)}
        tables |= {"out_of_domain": analyses.out_of_domain(results, changed), "pooled_transfer": analyses.pooled_transfer(results, changed)}
    return tables


def write_report(workdir) -> Path:
    """Writes `<workdir>/report/` from the finished cells and returns the page.

    Raises:
        DataError: no finished cell.
    """
    results = analyses.load(workdir)
    tables = make_tables(results)
    folder = Path(workdir) / "report"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        files.write_text(folder / "tables" / f"{name}.csv", table.to_csv(index=False))
    drawn = {name: figures.save(figure, folder / "figures", name) for name, figure in _figures(results, tables)}
    flags = {key: found for key, found in audit.audit_store(workdir).items() if key in set(results.cells["key"])}
    said = findings.write_findings(results, tables) if "group_gains" in tables else []
    page = folder / "index.html"
    files.write_text(page, _render(results, tables, drawn, flags, said))
    return page


def _figures(results, tables):
    yield "curves", figures.curves(tables["overview"], results)
    if len(tables.get("group_gains", ())):
        yield "groups", figures.groups(tables["group_gains"])
    if len(tables.get("out_of_domain", ())):
        yield "domains", figures.domains(tables["out_of_domain"])
    if len(tables.get("transfer", ())):
        yield "transfer", figures.transfer(tables["transfer"])
    if len(tables["format_spread"]):
        yield "formats", figures.formats(tables["format_spread"], results.formats())


def _render(results, tables, drawn, flags, said):
    environment = jinja2.Environment(loader=jinja2.PackageLoader("amuro_jax.study"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["short"] = figures.short_number
    return environment.get_template("report.html").render(
        name=results.config.name, facts=_facts(results, flags), findings=said, missing=results.missing,
        figures=[{"id": name, "title": CAPTIONS[name][0], "caption": CAPTIONS[name][1], "svg": svg} for name, svg in drawn.items()],
        overview=_overview_rows(results, tables["overview"], flags), steps=_steps(results), flags=_flag_rows(results, flags),
        provenance=_provenance(results), tables=sorted(tables), version=__version__,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip


def _facts(results, flags):
    cells = results.cells
    tuned = cells[cells["tuned_on"] != ""].drop_duplicates(["checkpoint", "tuned_on"])
    serious = sum(any(finding.severity == "error" for finding in found) for found in flags.values())
    return [
        (str(cells["checkpoint"].nunique()), "checkpoints"),
        (str(len(tuned)), "fine-tuned models"),
        (str(len(cells)), "scores"),
        (f"{int(cells['n'].sum()):,}", "scored rows"),
        (", ".join(sorted(cells["protocol"].unique())), "protocol"),
        (str(serious), "cells with a grave flag"),
    ]


def _steps(results):
    points = results.cells.drop_duplicates("checkpoint").sort_values("step")
    return [{"checkpoint": row.checkpoint, "step": row.step} for row in points.itertuples()]


def _overview_rows(results, overview, flags):
    """Per set a base line and, where there is one, a fine-tuned line, each with a cell per checkpoint."""
    main = results.main()
    keys = {(row.task, row.checkpoint, row.tuned_on): row.key for row in main.itertuples()}
    rows = []
    for name, points in overview.groupby("task", sort=False):
        by_step = {row.checkpoint: row for row in points.itertuples()}
        for label, tuned_on in (("base", ""), ("tuned", name)):
            cells = [_overview_cell(by_step.get(step["checkpoint"]), label, keys, tuned_on, name, flags) for step in _steps(results)]
            if any(cell["value"] for cell in cells):
                rows.append({"task": name, "label": "base" if label == "base" else "fine-tuned", "cells": cells})
    return rows


def _overview_cell(row, label, keys, tuned_on, name, flags):
    value = getattr(row, label, float("nan")) if row is not None else float("nan")
    if pd.isna(value):
        return {"value": "", "error": "", "flag": "", "title": ""}
    found = flags.get(keys.get((name, row.checkpoint, tuned_on)), [])
    grave = [finding for finding in found if finding.severity != "note"]
    return {
        "value": f"{value:.3f}", "error": f"{getattr(row, f'{label}_stderr'):.3f}",
        "flag": audit.worst(grave) or "", "title": "; ".join(finding.what for finding in grave),
    }  # fmt: skip


def _flag_rows(results, flags):
    """Findings of all cells, one line per kind, the gravest first."""
    by_code: dict[str, list] = {}
    cells = results.cells.set_index("key")
    for key, found in flags.items():
        for finding in found:
            cell = cells.loc[key]
            by_code.setdefault(finding.code, []).append(
                (finding, f"{cell['checkpoint']} {cell['tuned_on'] or 'base'}: {cell['task']} {cell['format']}")
            )
    lines = [
        {
            "code": code, "severity": audit.worst([finding for finding, _ in items]), "count": len(items),
            "effect": items[0][0].effect, "examples": [f"{where} — {finding.what}" for finding, where in items[:40]],
        }
        for code, items in by_code.items()
    ]  # fmt: skip
    return sorted(lines, key=lambda line: (-audit.SEVERITIES.index(line["severity"]), -line["count"]))


def _provenance(results):
    record = next(record for record in store.records(results.workdir) if record["key"] == results.cells["key"].iloc[0])
    source, score = record["provenance"], record["provenance"]["score"]
    switches = [name for name, on in record["protocol"]["switches"].items() if on]
    return {
        "suite": results.config.suite,
        "protocol": record["protocol"]["name"] + (f" (switches on: {', '.join(switches)})" if switches else ""),
        "shots": f"{results.config.shots}, drawn with seed {score['shot_seed']}",
        "uncertainty": f"bootstrap over test rows, {score['bootstrap']} resamples, seed {score['bootstrap_seed']}; test-set variance only, one training seed",
        "training": _recipe_line(results),
        "tokenizer": source["tokenizer"],
        "software": f"amuro_jax {source['code']}, jax {source['jax']}, {source['devices']}",
        "checkpoints": "; ".join(f"{row.checkpoint}" for row in results.cells.drop_duplicates("checkpoint").sort_values("step").itertuples()),
    }


def _recipe_line(results):
    train = dataclasses.asdict(results.config.train)
    return ", ".join(
        f"{name} {train[name]}" for name in ("rows", "epochs", "batch_size", "learning_rate", "warmup_fraction", "clip_norm", "dtype", "seed")
    )


def summary(workdir) -> str:
    """Base and fine-tuned score ± standard error by checkpoint, as text."""
    results = analyses.load(workdir)
    table = analyses.overview(results)

    def cell(row, label):
        value, error = getattr(row, label), getattr(row, f"{label}_stderr")
        return "" if pd.isna(value) else f"{value:.3f} ± {error:.3f}"

    lines = [f"{'set':<18}{'checkpoint':<24}{'base':>16}{'fine-tuned':>16}{'majority':>10}"]
    for row in table.itertuples():
        majority = "" if pd.isna(row.majority) else f"{row.majority:.3f}"
        lines.append(f"{row.task:<18}{row.checkpoint:<24}{cell(row, 'base'):>16}{cell(row, 'tuned'):>16}{majority:>10}")
    return "\n".join(lines)
