"""Shots, fitting and what a query carries."""

import pytest

from amuro_jax.data.protocols import PAPER, STRICT, resolve
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import get_task
from amuro_jax.errors import DataError

from .worlds import make_tokenizer, nli_rows, pair_rows, write_rows


@pytest.fixture
def root(tmp_path):
    write_rows(tmp_path, "glue_mnli", "train", nli_rows(40))
    write_rows(tmp_path, "glue_mnli", "validation_matched", nli_rows(10, "tree"))
    write_rows(tmp_path, "paws_labeled_final", "test", pair_rows(9))
    options = [
        {
            "question": f"Which {i}?",
            "choices": {"text": ["u", "v", f"w{i}"], "label": ["A", "B", "C"]},
            "answerKey": "C",
        }
        for i in range(12)
    ]
    write_rows(tmp_path, "ai2_arc_easy", "validation", options)
    long = [
        {
            "document": "grey stone lies there " * (20 * i + 1),
            "summary": f"Stone {i}.",
            "id": str(i),
        }
        for i in range(6)
    ]
    write_rows(tmp_path, "xsum", "test", long)
    write_rows(tmp_path, "xsum", "train", [row | {"document": "grey stone " * 12} for row in long])
    return str(tmp_path)


def make(name, shots, root, protocol=STRICT, tokenizer=None, **options):
    return build_queries(
        get_task(name), "default", shots, protocol, tokenizer, data_root=root, **options
    )


def test_strict_shots_come_from_the_training_split_by_seed(root):
    queries = make("mnli_matched", 4, root)
    assert (
        len(queries) == 10
        and len({query.shot_rows for query in queries}) == 1
        and all(s.startswith("train:") for s in queries[0].shot_rows)
    )
    assert queries[0].shot_rows != make("mnli_matched", 4, root, shot_seed=1)[0].shot_rows
    assert queries[0].shot_rows == make("mnli_matched", 4, root)[0].shot_rows
    before = queries[0].context[: queries[0].shared]
    assert all(
        query.context.startswith(before) and query.shared == len(before) for query in queries
    )
    assert before.count("\n### Input_1: ") == 3 and before.endswith("\n") and "tree" not in before
    assert (
        queries[0].context[queries[0].shared :]
        == "### Input_1: The tree 0 is grey.\n ### Input_2: A tree 0 lies there.\n ### Inference:"
    )


def test_more_shots_begin_with_the_same_rows(root):
    assert (
        make("mnli_matched", 6, root)[0].shot_rows[:2] == make("mnli_matched", 2, root)[0].shot_rows
    )


def test_paper_shots_are_the_first_rows_and_stay_scored(root):
    queries = make("mnli_matched", 4, root, PAPER)
    assert queries[0].shot_rows == ("test:0", "test:1", "test:2", "test:3") and len(queries) == 10
    first = "### Input_1: The tree 0 is grey.\n ### Input_2: A tree 0 lies there.\n"
    first += " ### Inference: entailment\n### Input_1"
    assert queries[0].context.startswith(first)
    assert queries[0].context.endswith("### Inference: ")


def test_without_a_training_split_shots_are_held_out(root):
    queries = make("paws", 3, root)
    held = {int(shot.removeprefix("test:")) for shot in queries[0].shot_rows}
    assert len(held) == 3 and not held & {query.row for query in queries} and len(queries) == 6
    with pytest.raises(DataError, match="are needed"):
        make("paws", 9, root)


def test_published_multiple_choice_draws_shots_per_instance(root):
    queries = make("arc_easy", 2, root, PAPER)
    assert len({query.shot_rows for query in queries}) > 1 and all(
        query.shared == 0 and not query.joint for query in queries
    )
    assert all(
        f"test:{query.row}" not in query.shot_rows and len(query.shot_rows) == 2
        for query in queries
    )
    assert queries[0].unconditional == "Answer:" and queries[0].continuations == (
        (" u",),
        (" v",),
        (" w0",),
    )


def test_the_order_of_rows_and_a_subsample(root):
    assert [query.row for query in make("mnli_matched", 0, root)] == list(range(10))
    few = make("mnli_matched", 0, root, rows=4)
    assert (
        len(few) == 4
        and [q.row for q in few] == sorted(q.row for q in few)
        and few == make("mnli_matched", 0, root, rows=4)
    )


def test_contexts_are_fitted_by_dropping_shots_then_cutting_the_document(root):
    tokenizer = make_tokenizer()
    queries = make("xsum", 2, root, tokenizer=tokenizer, max_length=260, max_new_tokens=20)
    sizes = [len(tokenizer.encode(query.context)) for query in queries]
    assert (
        max(sizes) <= 240
        and queries[0].dropped_shots == 0
        and queries[-1].dropped_shots == 2
        and queries[-1].cut_tokens > 0
    )
    assert all(
        query.context.endswith("\n ### Summary:") and query.context.startswith("### Input: ")
        for query in queries
    )
    assert all(len(query.shot_rows) + query.dropped_shots == 2 for query in queries)
    assert [query.row for query in queries] == list(range(6))
    loose = make("xsum", 2, root, resolve("strict", ("+no_fitting",)), tokenizer, max_length=260)
    assert all(query.dropped_shots == query.cut_tokens == 0 for query in loose)


def test_the_longest_candidate_has_room_however_it_is_written(tmp_path):
    tokenizer, dense = make_tokenizer(), "水火土木金" * 4  # one token per byte
    options = [
        {
            "question": f"Which {i}?",
            "choices": {"text": ["u", dense], "label": ["A", "B"]},
            "answerKey": "B",
        }
        for i in range(20)
    ]
    write_rows(tmp_path, "ai2_arc_easy", "validation", options)
    write_rows(tmp_path, "ai2_arc_easy", "train", options)
    queries = make("arc_easy", 3, str(tmp_path), tokenizer=tokenizer, max_length=150)
    assert all(
        len(tokenizer.encode(query.context + query.continuations[1][0])) <= 150 for query in queries
    )
    assert {query.dropped_shots for query in queries} == {3}


def test_what_cannot_fit_is_an_error(root):
    with pytest.raises(DataError, match="nothing left to cut"):
        make("mnli_matched", 0, root, tokenizer=make_tokenizer(), max_length=8)


def test_rte_has_two_classes_under_strict_and_three_candidates_under_paper(tmp_path):
    rows = [{"sentence1": "a", "sentence2": "b", "label": i % 2, "idx": i} for i in range(6)]
    write_rows(tmp_path, "glue_rte", "validation", rows)
    write_rows(tmp_path, "glue_rte", "train", rows)
    strict, paper = make("rte", 0, str(tmp_path))[1], make("rte", 0, str(tmp_path), PAPER)[1]
    assert (
        strict.continuations
        == (
            (" entailment", "entailment"),
            (" neutral", "neutral", " contradiction", "contradiction"),
        )
        and strict.gold == 1
    )
    assert len(paper.continuations) == 3 and paper.gold == 1


def test_unlabelled_rows_are_refused_by_strict_and_read_as_no_by_paper(tmp_path):
    rows = [{"question1": "a", "question2": "b", "label": -1, "idx": i} for i in range(5)]
    path = write_rows(tmp_path, "glue_qqp", "test", rows)
    write_rows(tmp_path, "glue_qqp", "validation", rows)
    assert {query.reference for query in make("qqp", 0, str(tmp_path), PAPER)} == {"no"}
    with pytest.raises(DataError, match="unlabelled") as caught:
        make("qqp", 0, str(tmp_path))
    assert caught.value.where == f"{path.parent / 'validation.jsonl'}:1"


def test_generation_stops_at_a_line_end_under_strict_only(root):
    assert make("xsum", 0, root)[0].stop == ("\n",) and make("xsum", 0, root, PAPER)[0].stop == ()


def test_a_query_says_that_the_released_code_has_no_such_prompt(tmp_path):
    rows = [{"question1": f"a {i}", "question2": "b", "label": i % 2} for i in range(4)]
    write_rows(tmp_path, "glue_qqp", "test", rows)
    write_rows(tmp_path, "glue_qqp", "validation", rows)
    cases = (("io", PAPER, False), ("default", PAPER, True), ("io", STRICT, True))
    for format, protocol, published in cases:
        made = build_queries(get_task("qqp"), format, 0, protocol, data_root=str(tmp_path))
        assert {query.published for query in made} == {published}
