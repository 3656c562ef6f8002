"""From a study's tables, figures, flags and records to the text of its page. No jax."""

import base64
import hashlib
from importlib import resources

import jinja2

from amuro_jax import __version__
from amuro_jax.analyses.analysis import Tables
from amuro_jax.analyses.figures import PALETTE, FigureSpec
from amuro_jax.config import StudyConfig
from amuro_jax.evals import audit
from amuro_jax.report import page as shown
from amuro_jax.report import payload, rows
from amuro_jax.report.prompts import Prompts
from amuro_jax.results import plan
from amuro_jax.results.store import Store

SCRIPTS = ("base", "data", "view", "curves", "scores", "cell", "main")  # in the order of their use


def page(store: Store, tables: Tables, figures: dict[str, FigureSpec], csv: dict[str, str]) -> str:
    """The page: one file, which asks the network for nothing."""
    found, asked = tables.results, plan.read_plan(store.storage)
    config = asked.config if asked else StudyConfig()  # imported results have no plan
    flags = _flags(store, found)
    scored = {key: store.read(key) for key in found.cells["key"].unique()}
    trained = store.records("train")
    flagged = shown.flag_table(found, flags)
    script = _script()
    study = payload.study(found, flags, scored, trained, config)
    packed = [("study", payload.packed(study))]
    packed += rows.embedded(store, found, scored, Prompts(config.data_root))
    return _template().render(
        css=_text("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        packed=packed,
        name=found.name,
        facts=shown.facts(found, flags),
        questions=shown.findings(tables, flagged),
        scores=shown.score_table(found, flags),
        steps=shown.steps(found),
        curves=shown.curves(tables, figures),
        sections=shown.sections(tables, figures),
        flags=flagged,
        missing=shown.missing_table(found.missing),
        provenance=shown.provenance(list(scored.values()), trained, config),
        tables=shown.table_links(tables, csv),
        palette=PALETTE,
        version=__version__,
    )


def _flags(store, results):
    """Findings of the auditor by key, those about checkpoints first."""
    flags = shown.duplicate_flags(results)
    for key in results.cells["key"].unique():
        flags[key] = [*flags.get(key, []), *audit.audit_cell(store, key)]
    return flags


def _template():
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amuro_jax.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _script():
    """The page's script: its parts in one scope of their own."""
    parts = "\n".join(_text(f"js/{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _text(name):
    return resources.files("amuro_jax.report").joinpath(f"templates/{name}").read_text()
