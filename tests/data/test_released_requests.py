"""Multiple-choice prompts equal OLMo's released requests, byte for byte."""

import gzip
import json

import pytest

from amuro_jax.data import preview
from amuro_jax.data.protocols import STRICT
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import get_task

from .worlds import write_rows


def released(shared, name, shots):
    with gzip.open(shared / "oe_eval_requests" / f"{name}.rc_{shots}shot.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def fixed_shots(rows):
    """The shots of the released requests, as a user would give them."""
    before = rows[0]["request"]["context"].removesuffix(rows[0]["doc"]["query"])
    return tuple(part + "\n\n" for part in before.split("\n\n") if part)


@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "boolq"])
def test_every_request_is_the_same(shared, tmp_path, name, shots):
    theirs, root = released(shared, name, shots), shared
    if (
        name == "boolq"
        # they used SuperGLUE's rows, whose passages begin with a title; the text behind it is that
        # of the local rows
    ):
        root, local = (
            tmp_path,
            [
                json.loads(line)
                for line in (shared / "boolq" / "validation.jsonl").read_text().splitlines()
            ],
        )
        titles = {row["doc"]["idx"]: row["doc"]["query"].partition(" -- ")[0] for row in theirs}
        rows = [
            row | {"passage": f"{titles[i]} -- {row['passage']}"} if i in titles else row
            for i, row in enumerate(local)
        ]
        write_rows(tmp_path, "boolq", "validation", rows)
    queries = build_queries(
        get_task(name),
        "default",
        shots,
        STRICT,
        None,
        data_root=str(root),
        shot_texts=fixed_shots(theirs) if shots else None,
    )
    own = {(r["doc_id"], r["idx"]): r for r in preview.requests(queries)}
    for row in theirs:
        ours = own[str(row["doc"]["idx"] if name == "boolq" else row["native_id"]), row["idx"]]
        assert (ours["context"], ours["continuation"], ours["label"]) == (
            row["request"]["context"],
            row["request"]["continuation"],
            row["label"],
        )
    assert len(theirs) == 400 and (len(fixed_shots(theirs)) == 5 if shots else True)
