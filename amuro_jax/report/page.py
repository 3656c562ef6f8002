"""What the report's page shows: plain values for the template, made from results, tables, flags and
records. No jax.
"""

import base64
import collections
import itertools
import math
from collections.abc import Sequence

import pandas as pd

from amuro_jax.analyses import words
from amuro_jax.analyses.analysis import Tables
from amuro_jax.analyses.figures import (
    FigureSpec,
    HeatPanel,
    IntervalPanel,
    metric_name,
    short_number,
)
from amuro_jax.evals import audit
from amuro_jax.records import ModelRef
from amuro_jax.report import svg
from amuro_jax.results.results import Results

EXAMPLES = 40  # cells listed under one kind of flag
NAMED = 4  # sets that a line of flags names; more are counted
FIRST_FINDINGS = 5  # shown before the others
CURVES = "scores"  # the analysis whose figure the page's script draws itself
LARGEST_EMBEDDED = 150_000  # bytes of a table's file that the page carries along
MOST_EMBEDDED = 700_000  # bytes of all of them, the smallest first
# Of a large study the page shows a part of each table and says where the rest is.
MOST_LINES = 400  # of a table
MOST_DATA = 1_500  # lines of a figure's data
MOST_DRAWN = 300_000  # characters of a figure's panels; the published study's largest has 136,000
MOST_CHECKPOINTS = 30  # columns of the score table for readers without a script
MOST_MODELS = 120  # lines of it


def facts(results: Results, flags: dict) -> list[tuple[str, str]]:
    """The figures under the title: (figure, what it counts)."""
    cells = results.cells
    tuned = cells[cells["tuned_on"] != ""].drop_duplicates(["checkpoint", "tuned_on"])
    grave = sum(audit.worst(findings) == "error" for findings in flags.values())
    rows, protocols = int(cells["n"].sum()), sorted(cells["protocol"].dropna().unique())
    known = [
        (str(len(results.checkpoints)), "checkpoints"),
        (str(len(tuned)), "fine-tuned models"),
        (f"{len(cells)} of {len(cells) + len(results.missing)}", "scores done"),
        (f"{rows:,}" if rows else "", "scored rows"),
        (", ".join(filter(None, protocols)), "protocol"),
        (str(grave), "scores with a grave flag"),
    ]
    return [(figure, what) for figure, what in known if figure]


ARTEFACTS = "What is an artefact"


def findings(tables: Tables, flagged: Sequence[dict] = ()) -> list[dict]:
    """The questions that the study answers, each with its findings.

    The questions with the clearest findings come first, by effect in standard errors; `first` is
    that finding, of at most FIRST_FINDINGS questions, so that one kind of finding does not hide the
    others. What the auditor finds answers a question of its own, behind them.

    Args:
        flagged: lines of `flag_table`.
    """
    by_question: dict[str, list[dict]] = {}
    for analysis in tables.analyses.values():
        if analysis.sentences:
            for sentence in analysis.sentences(tables.results, tables):
                by_question.setdefault(analysis.question, []).append(_finding(analysis, sentence))
    ranked = sorted(by_question.items(), key=lambda item: -_strongest(item[1])["effect"])
    leading = [(name, ones) for name, ones in ranked if _strongest(ones)["effect"] > 0]
    leading = leading[:FIRST_FINDINGS]
    questions = [_question(name, ones, _strongest(ones)) for name, ones in leading]
    if flagged:
        artefacts = [_artefact(line) for line in flagged]
        questions.append(_question(ARTEFACTS, artefacts, artefacts[0]))
    later = [name for name in by_question if name not in dict(leading)]
    return questions + [_question(name, by_question[name], None) for name in later]


def _question(name, sentences, first):
    return {
        "question": name,
        "first": first,
        "sentences": sentences,
        "counted": words.count(len(sentences), "finding"),
    }


def _strongest(sentences):
    """The clear finding of the largest effect; the first one where none is clear."""
    clear = [one for one in sentences if one["clear"] and one["effect"] > 0]
    return max(clear, key=lambda one: one["effect"]) if clear else {**sentences[0], "effect": 0.0}


def _finding(analysis, sentence):
    return {
        "text": sentence.text,
        "clear": sentence.clear,
        "effect": sentence.effect,
        "anchor": analysis.name,
    }


def _artefact(line):
    """What the auditor finds, as a finding."""
    return {
        "text": f"{line['code'].capitalize()}: {line['counted']}. {line['effect']}",
        "clear": line["severity"] != "note",
        "anchor": f"flag-{line['id']}",
    }


def sections(tables: Tables, figures: dict[str, FigureSpec]) -> list[dict]:
    """The analyses that have something to show, but for the curves, grouped by question."""
    shown = []
    for analysis in tables.analyses.values():
        if analysis.name == CURVES:
            continue
        spec = figures.get(analysis.name)
        table = tables[analysis.name]
        rows = analysis.shown(table) if analysis.shown and len(table) else None
        if spec is not None or rows is not None:
            shown.append(_section(analysis, spec, rows))
    groups = itertools.groupby(shown, key=lambda section: section["question"])
    return [{"question": question, "parts": list(parts)} for question, parts in groups]


def curves(tables: Tables, figures: dict[str, FigureSpec]) -> dict:
    """The curves of all sets as a section, for readers without a script and for print."""
    return _section(tables.analyses[CURVES], figures.get(CURVES), None)


def _section(analysis, spec, rows):
    section = {
        "id": analysis.name,
        "title": analysis.title,
        "question": analysis.question,
        "caption": analysis.caption,
        "note": analysis.note,
        "figure": None,
        "heads": [] if rows is None else [head.strip() for head in rows.columns],
        "rows": [] if rows is None else rows.head(MOST_LINES).values.tolist(),
        "more": "",
    }
    file = f"report/tables/{analysis.name}.csv"
    if rows is not None:
        section["more"] = _rest(len(rows) - MOST_LINES, "line", file)
    if spec is not None:
        titles = [panel.title for panel in spec.panels]
        tasks = [getattr(panel, "task", "") for panel in spec.panels]
        data, drawn = figure_data(spec), svg.draw(spec)
        fit = _that_fit(drawn, MOST_DRAWN)
        section["figure"] = {
            "legend": [(svg.legend_key(entry), entry.label) for entry in spec.legend],
            "panels": list(zip(titles, tasks, drawn, strict=True))[:fit],
            "width": svg.width(spec),
            "data": data[:MOST_DATA],
            "more": _rest(len(data) - MOST_DATA, "line", file),
        }
        left_out = spec.left_out + len(drawn) - fit
        if left_out:
            where = f"`amuro plot --analysis={analysis.name} --where=…`"
            section["caption"] += f" {_rest(left_out, 'panel', where)}"
    return section


def _that_fit(texts, most):
    """How many of them, from the first on, have `most` characters together; 1 at least."""
    ends = list(itertools.accumulate(map(len, texts)))
    return max(1, sum(end <= most for end in ends))


def _rest(number, what, where):
    """What is not in the page; "" where nothing is missing."""
    return f"{words.count(number, f'more {what}')}: {where}." if number > 0 else ""


def figure_data(spec: FigureSpec) -> list[list[str]]:
    """What a figure shows, as lines of text: panel, series, where, value, 95 % interval."""
    lines = []
    for panel in spec.panels:
        if isinstance(panel, HeatPanel):
            lines += [
                [panel.title, row, column, *_value(value, value - half, value + half)]
                for row, values, halves in zip(
                    panel.rows, panel.values, panel.half_widths, strict=True
                )
                for column, value, half in zip(panel.columns, values, halves, strict=True)
            ]
        elif isinstance(panel, IntervalPanel):
            lines += [
                [panel.title, row.label, "", *_value(row.value, row.low, row.high)]
                for row in panel.rows
            ]
        else:
            for line in panel.series:
                names = line.names or [short_number(x) for x in line.x]
                lows = line.low or [math.nan] * len(line.y)
                highs = line.high or [math.nan] * len(line.y)
                lines += [
                    [panel.title, line.label, name, *_value(*values)]
                    for name, *values in zip(names, line.y, lows, highs, strict=True)
                ]
    return lines


def _value(value, low, high):
    if pd.isna(value):
        return ["–", "–"]
    interval = "–" if pd.isna(low) else f"{low:.3f} to {high:.3f}"
    return [f"{value:.3f}".replace("-", "−"), interval.replace("-", "−")]


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
            "label": name if pd.isna(plan[name]) else short_number(plan[name]),
        }
        for name in _columns(results)
    ]


def _columns(results):
    """The checkpoints of the score table: all, or some that are evenly spread over training."""
    names, most = results.checkpoints, MOST_CHECKPOINTS
    if len(names) <= most:
        return names
    return [names[round(at * (len(names) - 1) / (most - 1))] for at in range(most)]


def score_table(results: Results, flags: dict) -> list[dict]:
    """Per set a base line and one per fine-tuned model of its own, each with a cell per checkpoint
    and its flags.

    What the auditor finds in every score of a set is about the set: it is said once, beside the
    set's name.
    """
    rows, shown = [], _columns(results)
    for task in results.tasks():
        if len(rows) >= MOST_MODELS:
            break
        models = ["", *results.tuned_on(task)]
        cells = {
            name: [results.find(checkpoint, name, task) for checkpoint in shown] for name in models
        }
        known = [cell for line in cells.values() for cell in line if cell is not None]
        common = _common_flags([flags.get(cell["key"], []) for cell in known])
        for name in models:
            info = {"task": task, "metric": metric_name(results, task)}
            info |= {"tuned": bool(name), "label": f"after {name}"}
            info |= _dot([] if name else common)
            line = [_score(cell, flags, common) for cell in cells[name]]
            rows.append(info | {"cells": line})
    return rows


def _common_flags(each: list[list]) -> list:
    """Findings above notes that every score has, in the same words."""
    graver = [[one for one in findings if one.severity != "note"] for findings in each]
    if len(graver) < 2:
        return []
    shared = set.intersection(*({(one.code, one.what) for one in ones} for ones in graver))
    return [one for one in graver[0] if (one.code, one.what) in shared]


def _dot(findings):
    title = "; ".join(f"{one.code.replace('_', ' ')}: {one.what}" for one in findings)
    code = findings[0].code if findings else ""
    return {"flag": audit.worst(findings) or "", "title": title, "code": code}


def _score(cell, flags, common):
    if cell is None:
        return {"value": "", "half": "", **_dot([])}
    known = {(one.code, one.what) for one in common}
    shown = [
        finding
        for finding in flags.get(cell["key"], [])
        if finding.severity != "note" and (finding.code, finding.what) not in known
    ]
    half = 1.96 * cell["stderr"] if pd.isna(cell["low"]) else (cell["high"] - cell["low"]) / 2
    return {"value": f"{cell['value']:.3f}", "half": f"{half:.3f}", **_dot(shown)}


def missing_table(missing: pd.DataFrame) -> list[tuple[str, str]]:
    """Missing cells: (which, why)."""
    lines = []
    for row in missing.itertuples():
        seed = None if pd.isna(row.seed) else int(row.seed)
        model = ModelRef("", row.checkpoint, tuned_on=row.tuned_on, variant=row.variant, seed=seed)
        lines.append((f"{model.label()}: {row.task} {row.format} {row.shots}-shot", row.why))
    return lines


def duplicate_flags(results: Results) -> dict[str, list[audit.Finding]]:
    """Per cell key the finding that its checkpoint serves the weights of a later one, or an earlier
    one serves its.
    """
    same = collections.defaultdict(list)
    for name, latest in results.duplicate_of.items():
        same[latest].append(name)
    flags = {}
    for latest, names in same.items():
        what = f"{words.listed([*names, latest])} are one and the same weights"
        effect = (
            "a level stretch of a curve over them is no plateau; only the last of them counts in "
            "turning points, means over checkpoints, and where a set is learned"
        )
        finding = audit.Finding("duplicate_weights", "error", what, "checkpoints", effect)
        cells = results.cells[results.cells["checkpoint"].isin([*names, latest])]
        flags |= dict.fromkeys(cells["key"], [finding])
    return flags


def flag_table(results: Results, flags: dict) -> list[dict]:
    """Findings of the auditor over all cells, one line per kind, the gravest first.

    Scores of one set about which the same is said are one example.
    """
    by_code: dict[str, dict] = {}
    for cell in results.cells.itertuples():
        model = f"+ {cell.tuned_on}" if cell.tuned_on else "base"
        where = f"{cell.checkpoint} {model}: {cell.task} {cell.format}"
        for finding in flags.get(cell.key, []):
            examples = by_code.setdefault(finding.code, {})
            examples.setdefault((cell.task, finding.what), []).append((where, finding))
    lines = [_flag_line(code, examples) for code, examples in by_code.items()]
    return sorted(
        lines, key=lambda line: (-audit.SEVERITIES.index(line["severity"]), -line["count"])
    )


def _flag_line(code, examples):
    findings = [finding for group in examples.values() for _, finding in group]
    texts = [
        f"{group[0][0] if len(group) == 1 else f'{task} ({len(group)} scores)'} – {what}"
        for (task, what), group in examples.items()
    ]
    sets = list(dict.fromkeys(task for task, _ in examples))
    where = words.listed(sets) if len(sets) <= NAMED else words.count(len(sets), "set")
    effect = findings[0].effect
    return {
        "id": code,
        "code": code.replace("_", " "),
        "severity": audit.worst(findings),
        "count": len(findings),
        "counted": f"{words.count(len(findings), 'score')} of {where}",
        "effect": effect[0].upper() + effect[1:] + ".",
        "examples": texts[:EXAMPLES],
        "more": max(0, len(texts) - EXAMPLES),
    }


def table_links(tables: Tables, files: dict[str, bytes]) -> list[dict]:
    """Each table's name, title and contents, where it is small enough to travel with the page.

    Args:
        files: name with its ending (`cells.csv`, `cells.parquet`) → contents.
    """
    kinds = (("csv", "text/csv"), ("parquet", "application/vnd.apache.parquet"))
    names = [name.removesuffix(".csv") for name in files if name.endswith(".csv")]
    carried, left = set(), MOST_EMBEDDED
    for name in sorted(files, key=lambda name: len(files[name])):
        if len(files[name]) <= min(left, LARGEST_EMBEDDED):
            carried.add(name)
            left -= len(files[name])
    files = {name: data for name, data in files.items() if name in carried}
    return [
        {
            "name": name,
            "title": tables.analyses[name].title if name in tables.analyses else "Data dictionary",
            **{kind: _carried(files.get(f"{name}.{kind}", b""), media) for kind, media in kinds},
        }
        for name in names
    ]


def _carried(data, media):
    if not data:
        return ""
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
