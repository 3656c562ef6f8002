"""Generation behind a shared prefix equals one full forward pass per token, and HF's generate."""

import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.errors import DataError
from amuro_jax.scoring.generation import Sampling
from amuro_jax.scoring.requests import Request
from amuro_jax.scoring.schedule import STEPS
from amuro_jax.scoring.scorer import Scorer
from tests.evals import tiny

RNG = np.random.default_rng(0)
SHOTS = tuple(RNG.integers(0, 97, 60).tolist())
EOS = 3
REQUESTS = [
    Request(
        (SHOTS if i % 3 else ()) + tuple(RNG.integers(0, 97, RNG.integers(1, 30)).tolist()),
        max_new_tokens=int(RNG.integers(1, 20)),
    )
    for i in range(20)
]


@pytest.fixture(scope="module")
def expected():
    return [tiny.plain_generation(tiny.params_of(), request, EOS) for request in REQUESTS]


@pytest.mark.parametrize("rows", [64, 4])
def test_greedy_equals_the_plain_path(rows, expected):
    scorer = Scorer(tiny.CONFIG)
    scorer.limits.generation_rows = rows
    assert [
        (made.tokens, made.ended) for made in scorer.generate(tiny.params_of(), REQUESTS, eos=EOS)
    ] == expected
    assert {ended for _, ended in expected} == {"eos", "length"}


@pytest.mark.parametrize("rows", [16, 4])
def test_contexts_that_are_read_a_few_rows_at_a_time(rows):
    requests = [
        Request(tuple(RNG.integers(0, 97, length).tolist()), max_new_tokens=6)
        for length in (3, 5, 8, 9, 20, 30, 40, 45, 50, 60, 70, 75, 78)
    ]
    expected = [tiny.plain_generation(tiny.params_of(), request, EOS) for request in requests]
    scorer = Scorer(tiny.CONFIG, batch_tokens=160)  # four rows at a time
    scorer.limits.generation_rows = rows
    made = scorer.generate(tiny.params_of(), requests, eos=EOS)
    assert [(one.tokens, one.ended) for one in made] == expected


@pytest.mark.parametrize(
    "text,count,rows", [("data:2,tensor:4", 20, 64), ("data:8", 3, 64), ("data:4,tensor:2", 20, 4)]
)
def test_greedy_on_a_mesh(text, count, rows, expected):
    scorer = Scorer(tiny.CONFIG, sharding.make_mesh(text))
    scorer.limits.generation_rows = rows
    assert [
        (made.tokens, made.ended)
        for made in scorer.generate(tiny.params_of(), REQUESTS[:count], eos=EOS)
    ] == expected[:count]
    assert (scorer.traces["generate_replace"] > 0) == (rows == 4)


def test_sliding_windows():
    params, requests = tiny.params_of(tiny.SLIDING), REQUESTS[:8]
    scorer = Scorer(tiny.SLIDING)
    scorer.limits.generation_rows = 4
    made = scorer.generate(params, requests, eos=EOS)
    assert [(one.tokens, one.ended) for one in made] == [
        tiny.plain_generation(params, request, EOS, tiny.SLIDING) for request in requests
    ]


LONG_AND_SHORT = [
    Request(
        SHOTS + (i, *RNG.integers(0, 97, 8).tolist()),
        max_new_tokens=40 if i % 16 == 0 else 3 + i % 3,
    )
    for i in range(48)
]


@pytest.mark.parametrize("mesh,rows", [(None, 16), ("data:2,fsdp:4", 16)])
def test_rows_whose_text_has_ended_take_the_next_ones(mesh, rows, monkeypatch):
    """Three texts of 40 tokens and 45 of up to 5: in three batches of 16 the steps would be those
    of three times 40 tokens.
    """
    scorer = Scorer(tiny.CONFIG, mesh and sharding.make_mesh(mesh))
    scorer.limits.generation_rows, steps, more = rows, [], scorer.generator._more
    monkeypatch.setattr(scorer.generator, "_more", lambda *given: steps.append(1) or more(*given))
    made = scorer.generate(tiny.params_of(), LONG_AND_SHORT, eos=None)
    assert [one.tokens for one in made] == [
        tiny.plain_generation(tiny.params_of(), request, None)[0] for request in LONG_AND_SHORT
    ]
    assert len(steps) <= (14 if mesh is None else 20) < 3 * 39 / STEPS
    assert (
        scorer.traces["generate_steps"]
        == scorer.traces["generate_replace"]
        == scorer.traces["generate_read"]
        == 1
    )


def test_a_ring_for_new_tokens_goes_round():
    """Texts of many lengths, so that rows are taken at every place of the ring and go on past its
    end.
    """
    requests = [
        Request((*SHOTS[:9], i), max_new_tokens=[3, 24, 9, 14, 6, 19][i % 6]) for i in range(36)
    ]
    scorer = Scorer(tiny.CONFIG)
    scorer.limits.generation_rows = 4
    made = scorer.generate(tiny.params_of(), requests)
    assert [one.tokens for one in made] == [
        tiny.plain_generation(tiny.params_of(), request, None)[0] for request in requests
    ]


def test_each_of_several_eos_ids_ends_the_text(expected):
    """The first token of half of the texts also ends them."""
    others = {tokens[0] for tokens, _ in expected[::2] if tokens}
    made = Scorer(tiny.CONFIG).generate(tiny.params_of(), REQUESTS, eos=(EOS, *others))
    for generation, (tokens, ended) in zip(made, expected, strict=True):
        place = next((i for i, token in enumerate(tokens) if token in others), None)
        right = (tokens, ended) if place is None else (tokens[:place], "eos")
        assert (generation.tokens, generation.ended) == right
    assert len(others) > 2


def test_a_stop_ends_the_text_where_the_caller_says(expected):
    def stopped(index, tokens):
        return 3 if len(tokens) > 3 else None

    for made, (tokens, ended) in zip(
        Scorer(tiny.CONFIG).generate(tiny.params_of(), REQUESTS, eos=EOS, stopped=stopped),
        expected,
        strict=True,
    ):
        assert (made.tokens, made.ended) == (
            (tokens[:3], "stop") if len(tokens) > 3 else (tokens, ended)
        )


def test_samples_depend_on_the_seed_not_on_the_batch():
    scorer, params = Scorer(tiny.CONFIG), tiny.params_of()

    def draw(requests, seed):
        made = scorer.generate(params, requests, sampling=Sampling(1.0, 0.9, seed))
        return [generation.tokens for generation in made]

    requests = [Request(request.context[-20:], max_new_tokens=8) for request in REQUESTS[:12]]
    first = draw(requests, 0)
    assert first[:5] == draw(requests[:5], 0)
    assert first != draw(requests, 1)
    scorer.limits.generation_rows = 4  # rows that are taken by the next text
    assert first == draw(requests, 0) and scorer.traces["generate_replace"]


def test_samples_follow_the_distribution():
    params, context = tiny.params_of(), (5, 6, 7)
    scorer = Scorer(tiny.CONFIG)
    made = scorer.generate(
        params, [Request(context, max_new_tokens=1)] * 2000, sampling=Sampling(1.0)
    )
    counts = np.bincount([one.tokens[0] for one in made], minlength=97)
    probability = np.exp(tiny.plain_logprobs(params, context)[-1])
    assert np.abs(counts / 2000 - probability).sum() < 0.35
    top = scorer.generate(
        params, [Request(context, max_new_tokens=1)] * 200, sampling=Sampling(1.0, 0.5)
    )
    order = np.argsort(-probability)
    nucleus = order[: np.searchsorted(np.cumsum(probability[order]), 0.5) + 1]
    assert {one.tokens[0] for one in top} <= set(nucleus.tolist())


def test_requests_that_cannot_be_generated_are_named():
    with pytest.raises(DataError, match="do not fit"):
        Scorer(tiny.CONFIG).generate(tiny.params_of(), [Request((1,) * 250, max_new_tokens=20)])
