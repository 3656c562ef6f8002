"""The auditor of results: validity problems of a number, from stored rows and metrics alone. No
jax.

`audit_rows` looks at one cell, `audit_store` at all finished cells of a study; `evals.audit_data`
looks at data sets before anything is scored.
"""

import collections
import dataclasses

import numpy as np

from amuro_jax.errors import DataError
from amuro_jax.evals.metrics import apply_primary, as_rows, kind_of, metrics_record
from amuro_jax.results.store import Store

SEVERITIES = ("note", "warning", "error")
CONSTANT_SHARE = 0.98  # of the rows, predicted as one label
LOW_MASS = 0.01
FEW_ROWS = 20  # below this, shares are not judged


@dataclasses.dataclass(frozen=True)
class Finding:
    """One validity problem.

    Attributes:
        code: stable name, e.g. `constant_prediction`.
        severity: error (the number does not mean what it says), warning (read it with care), note.
        what, where: the fact with its figures; the set, split, cell or file.
        effect: what it does to the number.
    """

    code: str
    severity: str
    what: str
    where: str
    effect: str


# code → (severity, what it does to the number)
CODES = {
    "no_rows": ("error", "there is no number"),
    "unreadable": ("error", "a run on this set stops here"),
    "wrong_eos": (
        "error",
        "a model trained with it never learns to stop, or stops at a word of the text",
    ),
    "unlabelled": (
        "error",
        "the right answer is unknown: the score says how often the model gives one fixed answer",
    ),
    "single_label": (
        "error",
        "the score is the share of one answer, whatever the input; a constant predictor scores 1.0",
    ),
    "gold_in_prompt": ("error", "the answer can be read off the prompt"),
    "shot_scored": ("error", "the answers of these rows are in the prompt"),
    "unused_label": (
        "warning",
        "a candidate that is never right can only lose points; chance is not one over the labels",
    ),
    "train_split_scored": (
        "warning",
        "a model fine-tuned on this set has seen every row that is scored",
    ),
    "train_overlap": (
        "warning",
        "a fine-tuned model has seen these rows: its gain is partly memory",
    ),
    "ngram_overlap": ("note", "a fine-tuned model has seen parts of these texts"),
    "duplicate_rows": ("warning", "repeated rows count more than once; the interval is too narrow"),
    "contradictory_labels": ("note", "no model can have both right"),
    "context_overflow": (
        "warning",
        "positions never trained on, or text lost on the left: "
        "the score falls for no lack of ability",
    ),
    "context_fitted": (
        "note",
        "these rows see fewer shots or less of the document than the others",
    ),
    "glued_text": ("warning", "words run together at the seam, in a way the model has not seen"),
    "format_not_published": (
        "note",
        "no published number to compare with: the prompt is ours in this format",
    ),
    "format_falls_back": ("warning", "two formats are one: no difference between them can show"),
    "no_stop": (
        "note",
        "a base model runs on into the next example; "
        "a model that has learned to stop looks better for it",
    ),
    "labels_share_token": (
        "warning",
        "a method that looks at one token cannot distinguish these labels",
    ),
    "labels_split": (
        "note",
        "with and without the space, the label has a different number of tokens; "
        "count both complete forms",
    ),
    "boundary_space": (
        "warning",
        "the prompt's last token is a lone space, which fine-tuning never saw before a label",
    ),
    "constant_prediction": ("warning", "the score is what one fixed answer earns, not an ability"),
    "unanswered": (
        "warning",
        "they count as wrong: the score mixes ability with keeping to the form",
    ),
    "near_majority": ("warning", "indistinguishable from a constant answer"),
    "near_label_share": (
        "warning",
        "not distinguishable from giving that one answer to every row",
    ),
    "perfect_from_the_start": (
        "error",
        "the rows very likely have one gold label (an unlabelled split, in which every row counts "
        "as the same answer): the score says how often the model gives that answer, and a model "
        "that answers otherwise seems worse",
    ),
    "near_prior": ("note", "indistinguishable from answering without the question"),
    "low_label_mass": (
        "warning",
        "the labels are ranked in the tail of the distribution; "
        "the model does not answer in this form",
    ),
    "runs_on": (
        "warning",
        "text after the answer lowers ROUGE, and learning to stop looks like a gain",
    ),
    "empty_texts": ("warning", "each scores 0"),
}


def flag(code: str, what: str, severity: str = "", where: str = "") -> Finding:
    """A finding of the table `CODES`; `severity` replaces the table's."""
    usual, effect = CODES[code]
    return Finding(code, severity or usual, what, where, effect)


def worst(findings: list[Finding]) -> str | None:
    """The highest severity among findings, None where there are none."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default=None)


def once_per_set(findings: list[Finding]) -> list[Finding]:
    """Findings of several models, where a finding about a set that several of them share (repeated
    rows, an overflowing context) is one finding. `where` is `MODEL: SET` as `audit_cell` has it.
    """
    groups = collections.defaultdict(list)
    for finding in findings:
        scored_set = finding.where.rpartition(": ")[2]
        groups[finding.code, finding.what, scored_set].append(finding)
    return [
        group[0]
        if len(group) == 1
        else dataclasses.replace(group[0], where=f"{scored_set} ({len(group)} models)")
        for (_, _, scored_set), group in groups.items()
    ]


def audit_rows(
    rows,
    metrics: dict | None = None,
    *,
    where: str = "",
    primary: str = "raw",
    max_length: int = 0,
    split: str = "",
) -> list[Finding]:
    """Findings on one cell's rows.

    Args:
        metrics: the cell's record; None: computed from the rows.
        primary: multiple choice: normalisation of the headline number.
        max_length: the model's context in tokens; 0: overflow is not judged.
        split: name of the scored split, where shots go by it and not by `test`.
    """
    rows = as_rows(rows)
    if not rows:
        return [flag("no_rows", "no rows were scored", where=where)]
    metrics = metrics or metrics_record(rows, primary=primary, bootstrap=1000)
    rows = apply_primary(rows, primary)
    findings = _shots(rows, split) + _repeated(rows) + _context(rows, max_length)
    findings += _format(rows)
    if kind_of(rows) == "generation":
        findings += _generation(rows)
    else:
        findings += _labels(rows) + _predictions(rows) + _baseline(metrics) + _mass(rows)
    return [
        dataclasses.replace(finding, where=where)
        for finding in sorted(findings, key=lambda f: -SEVERITIES.index(f.severity))
    ]


def _format(rows):
    first = rows[0]
    if first.get("published") is not False:  # rows without the field are assumed to be
        return []
    what = f"the released code has no {first['format']} prompts of {first['task']}"
    return [flag("format_not_published", what)]


def _labels(rows):
    gold = np.asarray([row["gold"] for row in rows])
    if (gold < 0).any():
        return [flag("unlabelled", f"{int((gold < 0).sum())} of {len(rows)} rows have label -1")]
    if len(set(gold.tolist())) == 1 and len(rows) >= FEW_ROWS and kind_of(rows) == "classification":
        return [
            flag(
                "single_label",
                f"all {len(rows)} rows have the same gold label, {rows[0]['reference'].strip()!r}",
            )
        ]
    return []


def _predictions(rows):
    answers, count = np.unique([row["predicted"] for row in rows], return_counts=True)
    findings, share = [], count.max() / len(rows)
    if share >= CONSTANT_SHARE and len(rows) >= FEW_ROWS and len({row["gold"] for row in rows}) > 1:
        answer = next(
            row["prediction"] for row in rows if row["predicted"] == answers[count.argmax()]
        )
        shown = (
            f"option {answers[count.argmax()]}"
            if kind_of(rows) == "multiple_choice"
            else repr(answer)
        )
        findings.append(flag("constant_prediction", f"{share:.1%} of the predictions are {shown}"))
    silent = np.mean([row["predicted"] < 0 for row in rows])
    if silent > 0.05:
        findings.append(flag("unanswered", f"{silent:.1%} of the answers name no label"))
    return findings


def _baseline(metrics):
    low, high, majority, prior = (
        metrics.get(name) for name in ("low", "high", "majority", "prior")
    )
    value = f"{metrics['value']:.3f} [{low:.3f}, {high:.3f}]"
    if majority is not None and majority < 1 and low <= majority <= high:
        return [flag("near_majority", f"score {value}, majority baseline {majority:.3f}")]
    if prior is not None and prior < 1 and low <= prior <= high:
        return [flag("near_prior", f"score {value}, prior-only baseline {prior:.3f}")]
    return []


def _mass(rows):
    masses = [row["label_mass"] for row in rows if row.get("label_mass") is not None]
    if kind_of(rows) != "classification" or not masses or np.median(masses) >= LOW_MASS:
        return []
    return [
        flag(
            "low_label_mass",
            f"median probability of all labels together is {np.median(masses):.2e}",
        )
    ]


def _shots(rows, split):
    scored = {row["row"] for row in rows}
    used = {shot for row in rows for shot in _listed(row.get("shot_rows"))}
    hit = scored_shots(used, scored, split)
    if not hit:
        return []
    shown = ", ".join(hit[:6]) + (", …" if len(hit) > 6 else "")
    return [
        flag("shot_scored", f"{len(hit)} of {len(rows)} scored rows also serve as shots: {shown}")
    ]


def _listed(value):
    return [] if value is None else list(value)


def scored_shots(shots, scored: set[int], split: str = "") -> list[str]:
    """Those shots that stand among the scored rows.

    A shot is named `split:row`, or `set/split:row` where it comes from another set; the scored
    split is `test`, or goes by its own name.
    """
    parts = [(shot, *shot.rpartition(":")[::2]) for shot in sorted(shots)]
    return [
        shot
        for shot, name, row in parts
        if row.isdigit() and int(row) in scored and name in {"test", split or "test"}
    ]


def _repeated(rows):
    prompts = collections.defaultdict(list)
    for row in rows:
        if row.get("prompt_sha256"):
            prompts[row["prompt_sha256"]].append(row)
    extra = sum(len(group) - 1 for group in prompts.values())
    clash = sum(len({row["gold"] for row in group}) > 1 for group in prompts.values())
    findings = []
    if extra:
        findings.append(
            flag(
                "duplicate_rows",
                f"{extra} of {len(rows)} prompts occur again",
                "warning" if extra > 0.01 * len(rows) else "note",
            )
        )
    if clash and kind_of(rows) == "classification":
        findings.append(
            flag("contradictory_labels", f"{clash} prompts occur with different labels")
        )
    return findings


def _context(rows, max_length):
    sizes = np.asarray([row.get("context_tokens") or 0 for row in rows])
    over, findings = int((sizes > max_length).sum()) if max_length else 0, []
    if over:
        findings.append(
            flag(
                "context_overflow",
                f"{over} of {len(rows)} contexts are longer than {max_length} tokens "
                f"(longest {sizes.max()})",
            )
        )
    dropped, cut = (
        sum(bool(row.get(name)) for row in rows) for name in ("dropped_shots", "cut_tokens")
    )
    if dropped or cut:
        findings.append(
            flag("context_fitted", f"of {len(rows)} rows, {dropped} lost shots and {cut} lost text")
        )
    return findings


def _generation(rows):
    findings, ended = [], [row.get("ended") for row in rows]
    on = ended.count("length") / len(rows)
    if on > 0.5:
        findings.append(flag("runs_on", f"{on:.0%} of the texts ran to the length limit"))
    empty = np.mean([not row["prediction"].strip() for row in rows])
    if empty > 0.05:
        findings.append(flag("empty_texts", f"{empty:.0%} of the texts are empty"))
    text, count = collections.Counter(row["prediction"] for row in rows).most_common(1)[0]
    if count / len(rows) > 0.5 and len(rows) >= FEW_ROWS:
        findings.append(
            flag("constant_prediction", f"{count} of {len(rows)} texts are the same: {text[:60]!r}")
        )
    return findings


def audit_store(workdir) -> dict[str, list[Finding]]:
    """Findings on every finished score of a study or of `amuro score`, by cell key.

    Raises:
        DataError: no results there, or some that cannot be read.
    """
    store = Store.open(workdir)
    frame = store.frame()
    keys = list(frame["key"])
    if store.damaged:
        key, why = next(iter(store.damaged.items()))
        raise DataError(
            f"{len(store.damaged)} damaged cells, first {key}: {why}",
            where=store.storage,
            hint="run the study again: they are computed anew",
        )
    if not keys:
        raise DataError(
            "no finished cells",
            where=store.storage,
            hint="give the working folder of a study or of `amuro score`",
        )
    from amuro_jax.evals.audit_scores import audit_series

    of_series = audit_series(frame[frame["rows_sha256"].isna()])
    return {key: audit_cell(store, key) + of_series.get(key, []) for key in keys}


def audit_cell(store: Store, key: str) -> list[Finding]:
    """Findings on one finished score; of an imported one without rows, on the number alone.

    Raises:
        AmuroError: its record or rows are missing or damaged.
    """
    from amuro_jax.evals.audit_scores import audit_record

    record = store.read(key)
    if store.is_imported(key):
        return audit_record(record)
    return audit_rows(
        store.rows_table(key).to_pylist(),
        record.metrics or None,
        where=f"{record.model.label()}: {record.task} {record.format} {record.shots}-shot",
        max_length=record.context,
        primary=record.primary or "raw",
        split=record.split,
    )
