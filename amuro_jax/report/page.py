"""What stands in the report's page: plain values for the template, made from results, tables, flags
and records. No jax.
"""

import pandas as pd

from amuro_jax import config as run_config
from amuro_jax.evals import audit
from amuro_jax.report import figures
from amuro_jax.results.results import Results

EXAMPLES = 40  # cells listed under one kind of flag
PIXELS = 132  # widest drawing in the page, per inch of the figure


def facts(results: Results, flags: dict) -> list[tuple[str, str]]:
    """The figures under the title: (figure, what it counts)."""
    cells = results.cells
    tuned = cells[cells["tuned_on"] != ""].drop_duplicates(["checkpoint", "tuned_on"])
    grave = sum(audit.worst(found) == "error" for found in flags.values())
    return [
        (str(len(results.checkpoints)), "checkpoints"),
        (str(len(tuned)), "fine-tuned models"),
        (f"{len(cells)} of {len(cells) + len(results.missing)}", "scores done"),
        (f"{int(cells['n'].sum()):,}", "scored rows"),
        (", ".join(sorted(cells["protocol"].unique())), "protocol"),
        (str(grave), "scores with a grave flag"),
    ]


def figure(drawn: figures.Figure, panels: list[str], caption: tuple[str, str]) -> dict:
    """One figure: title, caption, legend and its panels as SVG."""
    shown = [
        {"title": panel.title, "svg": svg} for panel, svg in zip(drawn.panels, panels, strict=True)
    ]
    legend = [
        {"label": mark.label, "color": mark.color, "shape": _shape(mark)} for mark in drawn.legend
    ]
    width = round(max(panel.size[0] for panel in drawn.panels) * PIXELS)
    return {
        "id": drawn.name,
        "title": caption[0],
        "caption": caption[1],
        "legend": legend,
        "panels": shown,
        "width": width,
    }


def _shape(mark):
    line = "dashed" if mark.style == "--" else "line"
    return {
        "o": "circle",
        "s": "square",
        "^": "triangle",
        "D": "diamond",
        "v": "down",
        "P": "plus",
    }.get(mark.marker, line)


def steps(results: Results) -> list[dict]:
    """Heads of the score table's columns."""
    plan = (
        pd.concat([results.cells, results.missing])
        .drop_duplicates("checkpoint")
        .set_index("checkpoint")["step"]
    )
    return [
        {
            "checkpoint": name,
            "label": name if pd.isna(plan[name]) else figures.short_number(plan[name]),
        }
        for name in results.checkpoints
    ]


def score_table(results: Results, flags: dict) -> list[dict]:
    """Per set a base line and one per fine-tuned model of its own, each with a cell per checkpoint
    and its flags.
    """
    rows = []
    for task in results.tasks():
        for tuned_on in ["", *results.tuned_on(task)]:
            cells = [
                _score(results.find(name, tuned_on, task), flags) for name in results.checkpoints
            ]
            about = (
                {"task": task, "metric": figures.metric_name(results, task)}
                if not tuned_on
                else {"label": f"after {tuned_on}"}
            )
            rows.append(about | {"tuned": bool(tuned_on), "cells": cells})
    return rows


def _score(cell, flags):
    if cell is None:
        return {"value": "", "error": "", "flag": "", "title": ""}
    shown = [finding for finding in flags.get(cell["key"], []) if finding.severity != "note"]
    title = "; ".join(finding.what for finding in shown)
    return {
        "value": f"{cell['value']:.3f}",
        "error": f"{cell['stderr']:.3f}",
        "flag": audit.worst(shown) or "",
        "title": title,
    }


def _pm(value, error, scale=1.0, unit="", digits=3):
    if pd.isna(value):
        return "–"
    text = f"{value * scale:+.{digits}f}{unit}".replace("-", "−")
    return text if pd.isna(error) else f"{text} ± {error * scale:.{digits}f}"


def learned_table(table: pd.DataFrame) -> list[list[str]]:
    """Lines of the table of groups: set, group, decided by, baseline, rise of the base model, gain
    of fine-tuning.
    """
    lines = []
    for row in table.itertuples():
        baseline = "–" if pd.isna(row.baseline) else f"{row.baseline:.3f}"
        lines.append(
            [
                row.task,
                row.group,
                row.decided_by,
                baseline,
                _pm(row.rise, row.rise_stderr),
                _pm(row.gain, row.gain_stderr),
            ]
        )
    return lines


def transfer_table(table: pd.DataFrame) -> list[list[str]]:
    """Lines of the pooled transfer table: direction, mean ratio of change, mean change, cells, left
    out.
    """
    lines = []
    for row in table.itertuples():
        ratio = _pm(row.relative, row.relative_stderr, 100, " %", 1)
        lines.append(
            [
                f"{row.tuned_on} → {row.task}",
                ratio,
                _pm(row.change, row.stderr),
                str(row.cells),
                _left_out(row),
            ]
        )
    return lines


def _left_out(row):
    parts = [f"{row.missing} missing"] * bool(row.missing) + [
        f"{row.zero_base} without ratio (base score zero)"
    ] * bool(row.zero_base)
    return ", ".join(parts) or "–"


def plateau_table(table: pd.DataFrame) -> list[list[str]]:
    """Lines of the table of plateaus: set, model, first checkpoint not distinguishable from the
    best, the best.
    """
    lines = []
    for row in table.itertuples():
        model = f"after {row.tuned_on}" if row.tuned_on else "base"
        lines.append(
            [
                row.task,
                model,
                f"{row.reached} ({row.reached_value:.3f})",
                f"{row.best} ({row.best_value:.3f})",
            ]
        )
    return lines


def missing_table(missing: pd.DataFrame) -> list[tuple[str, str]]:
    """Missing cells: (which, why)."""
    return [
        (
            f"{row.checkpoint} {('+ ' + row.tuned_on) if row.tuned_on else 'base'}: {row.task} {row.format} {row.shots}-shot",
            row.why,
        )
        for row in missing.itertuples()
    ]


def flag_table(results: Results, flags: dict) -> list[dict]:
    """Findings of the auditor over all cells, one line per kind, the gravest first."""
    by_code: dict[str, list] = {}
    cells = results.cells.set_index("key")
    for key, found in flags.items():
        cell = cells.loc[key]
        where = f"{cell['checkpoint']} {('+ ' + cell['tuned_on']) if cell['tuned_on'] else 'base'}: {cell['task']} {cell['format']}"
        for finding in found:
            by_code.setdefault(finding.code, []).append((finding, f"{where} – {finding.what}"))
    lines = [
        {
            "code": code.replace("_", " "),
            "severity": audit.worst([finding for finding, _ in items]),
            "count": len(items),
            "effect": items[0][0].effect,
            "examples": [text for _, text in items[:EXAMPLES]],
            "more": max(0, len(items) - EXAMPLES),
        }
        for code, items in by_code.items()
    ]
    return sorted(
        lines, key=lambda line: (-audit.SEVERITIES.index(line["severity"]), -line["count"])
    )


def provenance(results: Results, records: dict[str, dict], plan) -> dict:
    """What the numbers come from: settings, software, checkpoints with hashes, data checksums,
    time.
    """
    used = [records[key] for key in results.cells["key"]]
    trained = [record for record in records.values() if record["kind"] == "train"]
    score = run_config.from_dict(run_config.ScoreConfig, plan.config["score"])
    switches = sorted(
        {name for record in used for name, on in record["protocol"]["switches"].items() if on}
    )
    protocol = ", ".join(sorted({record["protocol"]["name"] for record in used}))
    software = {
        "amuro_jax {code}, jax {jax}, {devices}".format(**record["provenance"]) for record in used
    }
    minutes = [sum(record["seconds"] for record in group) / 60 for group in (trained, used)]
    about = {
        "checkpoints from": plan.config["suite"],
        "protocol": protocol + (f"; switches on: {', '.join(switches)}" if switches else ""),
        "shots": f"{plan.config['shots']}, drawn with seed {score.shot_seed}",
        "formats": plan.config["formats"],
        "method": f"{score.method} for labels; at most {score.max_new_tokens} new tokens; {score.rows or 'all'} rows per set",
        "uncertainty": f"bootstrap over test rows, {score.bootstrap} resamples; one training seed, so the variance of training is not in it; "
        "intervals are 95 % each, not corrected for their number",
        "fine-tuning": _recipe(plan.config["train"]),
        "software": "; ".join(sorted(software)),
        "tokenizer": ", ".join(sorted({record["provenance"]["tokenizer"][:16] for record in used})),
        "time": f"{minutes[0]:.1f} min fine-tuning, {minutes[1]:.1f} min scoring (sum over cells)",
    }
    hashes = {
        record["model"]["checkpoint"]: record["provenance"]["checkpoint_hash"] for record in used
    }
    data = {
        f"{record['specification']['task']} {split}": digest
        for record in used
        for split, digest in record["provenance"]["data"].items()
    }
    return {
        "about": about,
        "checkpoints": hashes,
        "data": {name: digest[:16] for name, digest in sorted(data.items())},
    }


def _recipe(train: dict) -> str:
    names = (
        "rows",
        "epochs",
        "batch_size",
        "learning_rate",
        "warmup_fraction",
        "weight_decay",
        "clip_norm",
        "max_length",
        "dtype",
        "seed",
    )
    return ", ".join(f"{name} {train[name]}" for name in names)
