"""The planner as such: every asked token is predicted from exactly its own sequence, whatever is
packed beside it.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amuro_jax.errors import DataError
from amuro_jax.scoring import buckets, tree
from amuro_jax.scoring.planner import plan_requests
from amuro_jax.scoring.requests import Request

COST = buckets.Cost(2e8, 4e4)
token = st.integers(
    0, 3
)  # a small alphabet: many shared prefixes, duplicates and sequences that begin others
sequence = st.lists(token, min_size=1, max_size=12).map(tuple)
request = st.builds(Request, sequence, st.lists(sequence, min_size=1, max_size=4).map(tuple))


def seen_sequence(lines, line, slot):
    """Tokens that the query at `slot` sees, in order, by the mask rule of `models.layout`, prefix
    first.
    """
    enter, leave = lines.enter[line], lines.leave[line]
    seen = [k for k in range(slot + 1) if enter[k] <= enter[slot] < leave[k] and enter[k] >= 0]
    assert [lines.position[line, k] for k in seen] == list(
        range(len(lines.prefix), len(lines.prefix) + len(seen))
    )
    return (*lines.prefix.tolist(), *lines.tokens[line, seen].tolist())


@given(
    st.lists(request, min_size=1, max_size=12), st.sampled_from([16, 64, 1024]), st.integers(0, 40)
)
@settings(max_examples=150, deadline=None)
def test_each_target_is_predicted_from_its_own_sequence(requests, batch_tokens, shared):
    requests = [Request((7,) * shared + r.context, r.continuations) for r in requests]
    plan = plan_requests(requests, COST, batch_tokens)
    expected = [
        ((*r.context, *continuation[:step]), target)
        for r in requests
        for continuation in r.continuations
        for step, target in enumerate(continuation)
    ]
    found = [None] * len(expected)
    for lines in plan.lines:
        for line, place, target, out in zip(
            lines.target_line, lines.target_query, lines.target_id, lines.target_output, strict=True
        ):
            assert found[out] is None
            slot = place if lines.query_positions is None else lines.query_positions[line, place]
            found[out] = (seen_sequence(lines, line, slot), target)
    assert found == expected
    assert plan.new_tokens <= plan.padded_tokens


@given(st.lists(st.integers(1, 40), max_size=60), st.sampled_from([40, 64, 100]))
def test_packing_holds_every_item_once_within_the_width(sizes, width):
    lines = tree.pack(sizes, width)
    assert sorted(item for line in lines for item in line) == list(range(len(sizes)))
    assert all(sum(sizes[item] for item in line) <= width for line in lines)
    assert len(lines) <= 2 * -(-sum(sizes) // width) + 1


@given(st.integers(0, 3000))
def test_cut_covers_the_count_with_little_padding(count):
    pieces = buckets.cut(count, (32, 128, 512))
    assert count <= sum(pieces) <= max(32, 1.6 * count + 32)
    assert set(pieces) <= {32, 128, 512}


def test_a_shared_prefix_is_read_once():
    rng = np.random.default_rng(0)
    shots = tuple(rng.integers(0, 5000, 400).tolist())
    requests = [
        Request((*shots, *rng.integers(0, 5000, 50).tolist()), ((1, 2), (3,), (4, 5, 6)))
        for _ in range(100)
    ]
    plan = plan_requests(requests, COST)
    assert [len(lines.prefix) for lines in plan.lines] == [400]
    assert plan.new_tokens == 400 + 100 * (50 + 1 + 2)
    assert plan.padded_tokens < 1.25 * plan.new_tokens
    assert plan.plain_tokens == 100 * (450 * 3 + 1 + 2)


def test_two_families_of_shots_get_a_prefix_each():
    rng = np.random.default_rng(1)
    shots = [tuple(rng.integers(0, 5000, 300).tolist()) for _ in range(2)]
    requests = [
        Request((*shots[i % 2], *rng.integers(0, 5000, 40).tolist()), ((1,),)) for i in range(120)
    ]
    assert sorted(len(lines.prefix) for lines in plan_requests(requests, COST).lines) == [300, 300]


def test_choices_of_one_query_stand_in_one_line_as_a_tree():
    requests = [Request(tuple(range(10, 60)), ((1, 2, 3), (1, 2, 4), (5, 6)))]
    (lines,) = plan_requests(requests, COST).lines
    assert (lines.enter >= 0).sum() == 50 + 2 + 1  # the context once, "1 2" once, "5" once


@pytest.mark.parametrize(
    "bad,words",
    [
        (Request((), ((1,),)), "empty context"),
        (Request((1,), ((),)), "empty continuation"),
        (Request((1,) * 9, ((1, 2),)), "do not fit"),
    ],
)
def test_requests_that_cannot_be_scored_are_named(bad, words):
    with pytest.raises(DataError, match=words) as error:
        plan_requests([Request((1,), ((2,),)), bad], COST, max_length=8)
    assert error.value.where == "request 1"
