"""The auditor: silent on clean results and sets, outspoken on every constructed fault."""

import dataclasses

import numpy as np
import pytest

from amuro_jax.config import Scoring
from amuro_jax.data.protocols import PAPER, STRICT, resolve
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.errors import DataError
from amuro_jax.evals import audit
from amuro_jax.evals.audit_data import audit_task, label_tokens
from amuro_jax.records import ModelRef, Provenance, ScoreRecord
from amuro_jax.results.store import Store
from tests.data.worlds import make_tokenizer, nli_rows, pair_rows, write_rows

from .test_metrics import label_row, option_row, text_row


def clean_rows(count=200, seed=0):
    """A model that is right in 80 % of the rows."""
    rng = np.random.default_rng(seed)
    return [
        label_row(i, i % 2, 0.9 if (i % 2 == 0) == (rng.random() < 0.8) else 0.1)
        | {"prompt_sha256": f"p{i}", "shot_rows": ["train:1", "train:2"]}
        for i in range(count)
    ]


def codes(findings):
    return {finding.code for finding in findings}


def test_clean_rows_raise_no_alarm():
    assert audit.audit_rows(clean_rows(), where="cell") == []


FAULTS = {
    "unlabelled": lambda row: {"gold": -1},
    "single_label": lambda row: {"gold": 1, "reference": "no"},
    "constant_prediction": lambda row: {
        "predicted": 1,
        "prediction": "no",
        "score": float(row["gold"] == 1),
    },
    "near_majority": lambda row: {"score": float(row["row"] % 4 < 2)},
    "low_label_mass": lambda row: {"label_mass": 0.002},
    "shot_scored": lambda row: {"shot_rows": ["test:3", "test:999"]},
    "duplicate_rows": lambda row: {"prompt_sha256": f"p{row['row'] // 2}"},
    "contradictory_labels": lambda row: {"prompt_sha256": f"p{row['row'] // 2}"},
    "context_fitted": lambda row: {"dropped_shots": 1},
    "context_overflow": lambda row: {"context_tokens": 3000},
    "unanswered": lambda row: {"predicted": -1} if row["row"] % 4 == 0 else {},
}


@pytest.mark.parametrize("code", FAULTS)
def test_each_fault_is_found(code):
    rows = [row | FAULTS[code](row) for row in clean_rows()]
    findings = audit.audit_rows(rows, where="cell", max_length=2048)
    found = next(finding for finding in findings if finding.code == code)
    assert found.where == "cell" and found.effect and found.severity in audit.SEVERITIES
    assert [audit.SEVERITIES.index(f.severity) for f in findings] == sorted(
        (audit.SEVERITIES.index(f.severity) for f in findings), reverse=True
    )


def test_shots_of_other_splits_or_rows_left_out_are_no_fault():
    rows = [row | {"shot_rows": ["paws/train:3", "given:1", "test:999"]} for row in clean_rows()]
    assert "shot_scored" not in codes(audit.audit_rows(rows))


def test_multiple_choice_near_its_prior():
    rows = [option_row(i, i % 2, [-1.0, -2.0], [1, 1], [3, 3], [-1.0, -2.0]) for i in range(60)]
    assert {"near_majority"} <= codes(audit.audit_rows(rows)) and "low_label_mass" not in codes(
        audit.audit_rows(rows)
    )


def test_generation_that_runs_on_or_says_nothing():
    good = [text_row(i, f"word {i} here", f"word {i} here") for i in range(40)]
    assert audit.audit_rows(good) == []
    assert "runs_on" in codes(audit.audit_rows([row | {"ended": "length"} for row in good]))
    assert {"empty_texts", "constant_prediction"} <= codes(
        audit.audit_rows([row | {"prediction": "", "score": 0.0} for row in good])
    )


def test_what_is_said_of_a_set_is_said_once():
    rows = [row | FAULTS["duplicate_rows"](row) for row in clean_rows()]
    constant = [row | FAULTS["constant_prediction"](row) for row in rows]
    findings = [
        *audit.audit_rows(rows, where="step1 base: qqp io 4-shot"),
        *audit.audit_rows(constant, where="step2 base: qqp io 4-shot"),
        *audit.audit_rows(rows, where="step1 base: rte io 4-shot"),
    ]
    said = [(one.code, one.where) for one in audit.once_per_set(findings)]
    assert ("duplicate_rows", "qqp io 4-shot (2 models)") in said
    assert ("duplicate_rows", "step1 base: rte io 4-shot") in said
    assert ("constant_prediction", "step2 base: qqp io 4-shot") in said
    assert sum(code == "duplicate_rows" for code, _ in said) == 2


def test_a_format_that_is_not_of_the_released_code_is_named(tmp_path):
    rows = [row | {"published": False} for row in clean_rows()]
    (found,) = [one for one in audit.audit_rows(rows) if one.code == "format_not_published"]
    assert found.severity == "note" and "no default prompts of t" in found.what
    write_rows(
        tmp_path,
        "glue_qqp",
        "test",
        [{"question1": f"a {i}", "question2": f"b {i}", "label": i % 2} for i in range(30)],
    )
    for format, protocol, said in (("io", PAPER, True), ("default", PAPER, False)):
        findings = of("qqp", tmp_path, protocol, format=format)
        assert ("format_not_published" in codes(findings)) == said


def test_no_rows_are_an_error():
    assert (
        codes(audit.audit_rows([])) == {"no_rows"}
        and audit.worst(audit.audit_rows([])) == "error"
        and audit.worst([]) is None
    )


def record(key, **changes):
    """The record of one made-up score."""
    provenance = Provenance("m", {}, "t", {}, "0", "none", "none", "2026-01-01T00:00:00+00:00")
    made = ScoreRecord(
        key=key,
        model=ModelRef("nowhere", "step1", tuned_on="paws"),
        task="qqp",
        format="io",
        shots=4,
        split="validation",
        primary="",
        method="token_prob",
        protocol="strict",
        switches={},
        scoring=Scoring(),
        metrics={},
        provenance=provenance,
        context=4096,
        seconds=1.0,
    )
    return dataclasses.replace(made, **changes)


def test_a_store_of_cells(tmp_path):
    store = Store.open(tmp_path)
    store.commit(record("a" * 16), clean_rows())
    store.commit(record("b" * 16), [row | FAULTS["single_label"](row) for row in clean_rows()])
    found = audit.audit_store(tmp_path)
    assert (
        found["a" * 16] == []
        and {"single_label"} <= codes(found["b" * 16])
        and found["b" * 16][0].where == "step1 + paws: qqp io 4-shot"
    )
    (tmp_path / "cells" / ("b" * 16) / "rows.parquet").write_bytes(b"cut off")
    with pytest.raises(DataError, match="1 damaged cells, first bbbb"):
        audit.audit_store(tmp_path)
    with pytest.raises(DataError, match="no finished cells"):
        audit.audit_store(tmp_path / "nothing")


def test_a_store_knows_the_context_and_the_scored_split(tmp_path):
    rows = [row | {"context_tokens": 70, "shot_rows": ["train:3"]} for row in clean_rows()]
    store, base = Store.open(tmp_path), {"task": "rte", "split": "validation", "context": 128}
    for change, expected in (
        ({}, set()),
        ({"context": 64}, {"context_overflow"}),
        ({"split": "train"}, {"shot_scored"}),
    ):
        store.commit(record("c" * 16, **base | change), rows)
        assert codes(audit.audit_cell(store, "c" * 16)) == expected


# Data sets


@pytest.fixture
def root(tmp_path):
    write_rows(tmp_path, "glue_mnli", "train", nli_rows(60))
    write_rows(tmp_path, "glue_mnli", "validation_matched", nli_rows(40, "tree"))
    return tmp_path


def of(name, root, protocol=STRICT, **options):
    return audit_task(get_task(name), protocol, data_root=str(root), **options)


def test_a_clean_set_has_notes_at_most(root):
    assert audit.worst(of("mnli_matched", root, tokenizer=make_tokenizer())) in (None, "note")


def test_the_published_setup_of_qqp(tmp_path):
    rows = [
        {"question1": f"a {i}", "question2": f"b {i}", "label": -1, "idx": i} for i in range(50)
    ]
    write_rows(tmp_path, "glue_qqp", "test", rows)
    findings = of("qqp", tmp_path, PAPER)
    assert {"unlabelled", "single_label", "shot_scored", "boundary_space"} <= codes(
        findings
    ) and audit.worst(findings) == "error"
    assert "50 of 50 rows have label -1" in next(f for f in findings if f.code == "unlabelled").what


QUIRKS = [
    ("mnli_matched", "+shots_from_test", "default", "shot_scored"),
    ("mnli_matched", "+published_templates", "default", "boundary_space"),
    ("mnli_matched", "+sub_token_candidates", "default", "labels_split"),
    ("socialiqa", "+published_templates", "default", "glued_text"),
    ("socialiqa", "+no_stop", "default", "no_stop"),
    ("llmbar", "+gold_in_prompt", "default", "gold_in_prompt"),
    ("cnn", "+published_templates", "io", "format_falls_back"),
    ("rte", "+rte_neutral", "default", "unused_label"),
    ("rte", "+published_splits", "default", "train_split_scored"),
    ("xsum", "+no_fitting", "default", "context_overflow"),
]


@pytest.fixture
def quirky(root):
    social = [
        {
            "context": f"c {i}",
            "question": f"what {i}?",
            "answerA": "x",
            "answerB": "y",
            "answerC": "z",
            "label": "1",
        }
        for i in range(30)
    ]
    write_rows(root, "social_i_qa", "validation", social)
    write_rows(
        root,
        "llmbar",
        "Natural",
        [
            {"input": f"do {i}", "output_1": "aa", "output_2": "bb", "label": 1 + i % 2}
            for i in range(30)
        ],
    )
    write_rows(
        root,
        "cnn_dailymail",
        "test",
        [{"article": f"text {i}", "highlights": f"sum {i}", "id": str(i)} for i in range(30)],
    )
    entail = [
        {"sentence1": f"s {i}", "sentence2": "t", "label": i % 2, "idx": i} for i in range(30)
    ]
    write_rows(root, "glue_rte", "train", entail)
    write_rows(
        root,
        "glue_rte",
        "validation",
        [row | {"sentence1": f"u {i}"} for i, row in enumerate(entail)],
    )
    write_rows(
        root,
        "xsum",
        "test",
        [
            {"document": f"stone {i} " * 60, "summary": f"the sum of {i}", "id": str(i)}
            for i in range(20)
        ],
    )
    return root


@pytest.mark.parametrize(
    "name,quirk,format,code", QUIRKS, ids=[f"{name}{quirk}" for name, quirk, _, _ in QUIRKS]
)
def test_each_quirk_is_named_when_it_is_on_and_not_when_it_is_off(
    quirky, name, quirk, format, code
):
    options = {"format": format, "tokenizer": make_tokenizer(), "max_length": 400}
    on = of(name, quirky, resolve("strict", (quirk,)), **options)
    off = of(name, quirky, STRICT, **options)
    assert code in codes(on)
    assert not any(finding.code == code and finding.severity != "note" for finding in off)


def test_overlap_and_repetition(root):
    train = nli_rows(60)
    long = (
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    )
    write_rows(root, "glue_mnli", "train", [*train, train[0] | {"premise": long}])
    rows = [
        *nli_rows(40, "tree"),
        *train[:10],
        train[10],
        train[10],
        train[0] | {"premise": f"{long} or so", "hypothesis": "A stone 0 lies there."},
    ]
    write_rows(root, "glue_mnli", "validation_matched", rows)
    found = {finding.code: finding for finding in of("mnli_matched", root)}
    assert found["train_overlap"].what.startswith("12 of 53") and found[
        "duplicate_rows"
    ].what.startswith("1 of 53")
    assert (
        found["ngram_overlap"].what.startswith("1 of 53")
        and found["train_overlap"].severity == "warning"
    )


def test_a_bad_row_is_a_finding_and_not_the_end(root):
    write_rows(
        root,
        "glue_mnli",
        "validation_matched",
        [*nli_rows(30), {"premise": 3, "hypothesis": "h", "label": 0}],
    )
    (found,) = [
        finding
        for finding in of("mnli_matched", root)
        if "must be text" in finding.what and "cannot be read" in finding.what
    ]
    assert found.severity == "error" and found.where.endswith("validation_matched.jsonl:31")


def test_labels_that_begin_with_the_same_token():
    findings = label_tokens(get_task("mnli_matched"), "default", make_tokenizer())
    assert "labels_share_token" not in codes(findings)
    assert "labels_share_token" in codes(label_tokens(get_task("paws"), "default", _letters()))


def _letters():
    made = make_tokenizer()
    made.encode = lambda text: [7] if text.startswith(" ") else [ord(letter) for letter in text]
    return made


def test_single_label_of_a_labelled_set(tmp_path):
    write_rows(tmp_path, "paws_labeled_final", "test", pair_rows(30, label=1))
    assert codes(of("paws", tmp_path, shots=0)) == {"single_label"}


def test_the_wrong_end_of_text_is_named(shared):
    wrong = Tokenizer.from_file(
        shared / "tokenizers" / "allenai_gpt-neox-olmo-dolma-v1_5.json", eos_id=0
    )
    assert "wrong_eos" in codes(of("rte", shared, tokenizer=wrong, shots=0))


CLEAN = [
    "xsum",
    "cnn",
    "tweetqa",
    "mnli_matched",
    "mnli_mismatched",
    "rte",
    "gpt3nli",
    "qqp",
    "stsb",
    "arc_easy",
    "openbookqa",
]


@pytest.mark.parametrize("name", CLEAN)
def test_real_clean_sets_raise_no_alarm(shared, name):
    assert audit.worst(of(name, shared)) in (None, "note")
