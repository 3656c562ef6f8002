"""Generation behind a shared prefix equals one full forward pass per token, and HF's generate."""

import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.errors import DataError
from amuro_jax.evals.generation import Sampling
from amuro_jax.evals.requests import Request
from amuro_jax.evals.scorer import Scorer
from tests.evals import tiny

RNG = np.random.default_rng(0)
SHOTS = tuple(RNG.integers(0, 97, 60).tolist())
EOS = 3
REQUESTS = [
    Request((SHOTS if i % 3 else ()) + tuple(RNG.integers(0, 97, RNG.integers(1, 30)).tolist()), max_new_tokens=int(RNG.integers(1, 20)))
    for i in range(20)
]


@pytest.fixture(scope="module")
def expected():
    return [tiny.plain_generation(tiny.params_of(), request, EOS) for request in REQUESTS]


@pytest.mark.parametrize("rows", [64, 4])
def test_greedy_equals_the_plain_path(rows, expected):
    scorer = Scorer(tiny.CONFIG)
    scorer.generation_rows = rows
    assert [(made.tokens, made.ended) for made in scorer.generate(tiny.params_of(), REQUESTS, eos=EOS)] == expected
    assert {ended for _, ended in expected} == {"eos", "length"}


@pytest.mark.parametrize("rows,most", [(16, 4), (16, 2), (4, 4)])
def test_contexts_that_are_read_in_parts(rows, most, monkeypatch):
    requests = [Request(tuple(RNG.integers(0, 97, length).tolist()), max_new_tokens=6) for length in (3, 5, 8, 9, 20, 30, 40, 45, 50, 60, 70, 75, 78)]
    expected = [tiny.plain_generation(tiny.params_of(), request, EOS) for request in requests]
    monkeypatch.setattr("amuro_jax.evals.generation.MOST_PARTS", most)
    scorer = Scorer(tiny.CONFIG, batch_tokens=160)  # parts of four rows
    scorer.generation_rows = rows
    assert [(made.tokens, made.ended) for made in scorer.generate(tiny.params_of(), requests, eos=EOS)] == expected


@pytest.mark.parametrize("text,count", [("data:2,tensor:4", 20), ("data:8", 3)])
def test_greedy_on_a_mesh(text, count, expected):
    scorer = Scorer(tiny.CONFIG, sharding.make_mesh(text))
    assert [(made.tokens, made.ended) for made in scorer.generate(tiny.params_of(), REQUESTS[:count], eos=EOS)] == expected[:count]


def test_sliding_windows():
    params, requests = tiny.params_of(tiny.SLIDING), REQUESTS[:6]
    made = Scorer(tiny.SLIDING).generate(params, requests, eos=EOS)
    assert [(one.tokens, one.ended) for one in made] == [tiny.plain_generation(params, request, EOS, tiny.SLIDING) for request in requests]


def test_a_stop_ends_the_text_where_the_caller_says(expected):
    def stopped(index, tokens):
        return 3 if len(tokens) > 3 else None

    for made, (tokens, ended) in zip(Scorer(tiny.CONFIG).generate(tiny.params_of(), REQUESTS, eos=EOS, stopped=stopped), expected, strict=True):
        assert (made.tokens, made.ended) == ((tokens[:3], "stop") if len(tokens) > 3 else (tokens, ended))


def test_samples_depend_on_the_seed_not_on_the_batch():
    scorer, params = Scorer(tiny.CONFIG), tiny.params_of()
    draw = lambda requests, seed: [made.tokens for made in scorer.generate(params, requests, sampling=Sampling(1.0, 0.9, seed))]  # noqa: E731
    requests = [Request(request.context[-20:], max_new_tokens=8) for request in REQUESTS[:12]]
    first = draw(requests, 0)
    assert first[:5] == draw(requests[:5], 0)
    assert first != draw(requests, 1)


def test_samples_follow_the_distribution():
    params, context = tiny.params_of(), (5, 6, 7)
    scorer = Scorer(tiny.CONFIG)
    made = scorer.generate(params, [Request(context, max_new_tokens=1)] * 2000, sampling=Sampling(1.0))
    counts = np.bincount([one.tokens[0] for one in made], minlength=97)
    probability = np.exp(tiny.plain_logprobs(params, context)[-1])
    assert np.abs(counts / 2000 - probability).sum() < 0.35
    top = scorer.generate(params, [Request(context, max_new_tokens=1)] * 200, sampling=Sampling(1.0, 0.5))
    order = np.argsort(-probability)
    nucleus = order[: np.searchsorted(np.cumsum(probability[order]), 0.5) + 1]
    assert {one.tokens[0] for one in top} <= set(nucleus.tolist())


def test_requests_that_cannot_be_generated_are_named():
    with pytest.raises(DataError, match="do not fit"):
        Scorer(tiny.CONFIG).generate(tiny.params_of(), [Request((1,) * 250, max_new_tokens=20)])
