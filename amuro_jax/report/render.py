"""From a study's tables, figures, flags and records to the text of its page. No jax."""

import base64
import functools
import hashlib
from importlib import resources

import jinja2

from amuro_jax import __version__
from amuro_jax.analyses.analysis import Tables
from amuro_jax.analyses.audited import findings
from amuro_jax.analyses.figures import PALETTE, FigureSpec
from amuro_jax.config import StudyConfig
from amuro_jax.report import page as shown
from amuro_jax.report import payload, rows
from amuro_jax.report.prompts import Prompts
from amuro_jax.report.provenance import provenance, reading
from amuro_jax.results import plan, pooled
from amuro_jax.results.results import Results
from amuro_jax.results.store import Store

SCRIPTS = ("base", "data", "view", "curves", "scores", "cell", "main")  # in the order of their use


def page(
    store: Store,
    tables: Tables,
    figures: dict[str, FigureSpec],
    files: dict[str, bytes],
    *,
    other: tuple[Store, Results] | None = None,
    served: bool = False,
) -> str:
    """The page: one file, which asks the network for nothing.

    Args:
        files: the tables' files by name.
        other: a second study, to be shown beside.
        served: it asks `amuro report --serve` for rows instead of carrying them.
    """
    results = tables.results
    study, flags, scored, trained, config = _read(store, results)
    flagged = shown.flag_table(results, flags)
    script = _script()
    packed = [("study", payload.packed(study))]
    if other is not None:
        packed.append(("beside", payload.packed(_read(*other)[0])))
    made = functools.partial(
        _template().render,
        css=_text("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        served=served,
        beside_name=other[1].name if other else "",
        name=results.name,
        facts=shown.facts(results, flags),
        questions=shown.findings(tables, flagged),
        scores=shown.score_table(results, flags),
        steps=shown.steps(results),
        curves=shown.curves(tables, figures),
        sections=shown.sections(tables, figures),
        flags=flagged,
        missing=shown.missing_table(results.missing),
        reading=reading(list(scored.values()), config),
        provenance=provenance(list(scored.values()), trained, config),
        tables=shown.table_links(tables, files),
        palette=PALETTE,
        version=__version__,
    )
    if not served:
        prompts = Prompts(config.data_root, plan.task_files(store.storage))
        packed += rows.embedded(store, results, scored, prompts, len(made(packed=packed)))
    return made(packed=packed)


def _read(store, results):
    """A study for the script, and what it was made of: flags and records by key, the records of its
    fine-tunings, its configuration.
    """
    planned = plan.read_plan(store.storage)
    config = planned.config if planned else StudyConfig()  # imported results have no plan
    # Of a mean over seeds the record is that of its first one.
    scored = {key: store.read(pooled.members(key)[0]) for key in results.cells["key"].unique()}
    flags, trained = _flags(store, results, scored), store.records("train")
    return (
        payload.study(results, flags, scored, trained, config, plan.task_files(store.storage)),
        flags,
        scored,
        trained,
        config,
    )


def _flags(store, results, scored):
    """Findings of the auditor by key, those about checkpoints first; of imported scores, which have
    no rows, those about the numbers.
    """
    flags, found = shown.duplicate_flags(results), findings(results, store)
    for key in scored:
        audited = [one for member in pooled.members(key) for one in found[member]]
        flags[key] = [*flags.get(key, []), *dict.fromkeys(audited)]
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
