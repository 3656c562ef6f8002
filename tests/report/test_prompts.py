"""Prompts rendered again: those that hash to what was stored, and no others."""

import dataclasses

import pytest

from amuro_jax.config import Scoring
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import get_task
from amuro_jax.evals.prepare import prompt_hash
from amuro_jax.report.prompts import Prompts
from tests.data.worlds import make_tokenizer, nli_rows, write_rows
from tests.results import made


@pytest.fixture
def world(tmp_path):
    """A data folder, a tokenizer's folder, and the record of a score made from them."""
    write_rows(tmp_path, "glue_mnli", "train", nli_rows(20))
    write_rows(tmp_path, "glue_mnli", "validation_matched", nli_rows(8, "tree"))
    tokenizer = make_tokenizer()
    tokenizer.save(tmp_path / "tokenizer")
    source = {"source": str(tmp_path / "tokenizer")}
    provenance = dataclasses.replace(made.FROM, checkpoint=source, tokenizer=tokenizer.fingerprint)
    record = made.score(
        task="mnli_matched", shots=2, provenance=provenance, scoring=Scoring(), context=512
    )
    queries = build_queries(
        get_task("mnli_matched"), "default", 2, tokenizer=tokenizer, data_root=str(tmp_path),
        max_length=512,
    )  # fmt: skip
    return tmp_path, record, queries, {query.row: prompt_hash(query.context) for query in queries}


def test_prompts_are_those_that_were_scored(world):
    root, record, queries, hashes = world
    found = Prompts(str(root)).of(record, hashes)
    assert {row: one.text for row, one in found.items()} == {
        query.row: query.context for query in queries
    }
    first = found[queries[0].row]
    assert first.shots == queries[0].shared and first.text[first.shots :].count("Input_1") == 1
    assert first.choices == tuple(forms[0] for forms in queries[0].continuations)
    assert sum(first.tokens) == len(first.text) and len(first.tokens) > 5


def test_a_prompt_with_another_hash_is_not_shown(world):
    root, record, queries, hashes = world
    row = queries[3].row
    found = Prompts(str(root)).of(record, hashes | {row: "0" * 64})
    assert row not in found and len(found) == len(hashes) - 1


def test_without_the_data_there_are_none(world):
    root, record, _, hashes = world
    assert Prompts(str(root / "moved")).of(record, hashes) == {}


def test_without_the_tokenizer_there_are_no_boundaries(world):
    root, record, _, hashes = world
    gone = dataclasses.replace(record.provenance, checkpoint={"source": "nowhere"})
    found = Prompts(str(root)).of(dataclasses.replace(record, provenance=gone), hashes)
    assert found and all(one.tokens == () for one in found.values())
    other = dataclasses.replace(record.provenance, tokenizer="0" * 64)
    found = Prompts(str(root)).of(dataclasses.replace(record, provenance=other), hashes)
    assert found and all(one.tokens == () for one in found.values())
