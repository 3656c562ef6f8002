"""The scorer equals the plain path: one full forward pass per request."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.compilation_cache import compilation_cache

from amuro_jax import sharding
from amuro_jax.errors import AmuroError
from amuro_jax.scoring.generation import Sampling
from amuro_jax.scoring.requests import NonFiniteError, Request
from amuro_jax.scoring.scorer import Scorer, keep_programs
from tests.evals import tiny

RNG = np.random.default_rng(0)
SHOTS = tuple(RNG.integers(0, 97, 60).tolist())
OTHER = SHOTS[:20] + tuple(RNG.integers(0, 97, 50).tolist())
REQUESTS = tiny.random_requests(np.random.default_rng(1), 40, (SHOTS, SHOTS, OTHER, ()))


@pytest.fixture(scope="module")
def expected():
    return [tiny.plain_likelihoods(tiny.params_of(), request) for request in REQUESTS]


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_tokens": 64}, {"attention": "xla"}, {"vocab_chunk": 40}, {"vocab_chunk": 0}],
    ids=str,
)
def test_equals_the_plain_path(options, expected):
    tiny.assert_same(
        Scorer(tiny.CONFIG, **options).loglikelihoods(tiny.params_of(), REQUESTS), expected
    )


def test_a_plan_does_not_depend_on_what_was_planned_before():
    """A resumed study plans fewer sets than one that nobody stopped, and scores them alike."""
    sets = [REQUESTS, REQUESTS[:5], [Request(SHOTS[:40], ((1, 2),))], [Request((1,), ((2,),))]]
    scorer = Scorer(tiny.CONFIG)
    for requests in sets:
        plans = [scorer.plan(requests), Scorer(tiny.CONFIG).plan(requests)]
        jax.tree.map(np.testing.assert_array_equal, *map(_arrays, plans))


def _arrays(plan):
    return [dataclasses.astuple(lines) for lines in plan.lines]


def test_equals_the_plain_path_padded_on_the_left():
    scorer, params = Scorer(tiny.CONFIG), tiny.params_of()
    tiny.assert_same(
        scorer.loglikelihoods(params, REQUESTS[:8]),
        [tiny.plain_likelihoods(params, request, left=True) for request in REQUESTS[:8]],
    )


def test_sliding_windows_reach_into_the_shared_prefix():
    params = tiny.params_of(tiny.SLIDING)
    results = Scorer(tiny.SLIDING).loglikelihoods(params, REQUESTS[:12])
    tiny.assert_same(
        results,
        [tiny.plain_likelihoods(params, request, tiny.SLIDING) for request in REQUESTS[:12]],
    )


SCORER = Scorer(tiny.CONFIG, batch_tokens=128)


@given(st.permutations(range(len(REQUESTS))), st.integers(1, len(REQUESTS)))
@settings(max_examples=12, deadline=None)
def test_order_and_company_do_not_matter(order, count):
    params = tiny.params_of()
    alone = _whole(SCORER, params)
    for place, result in zip(
        order[:count],
        SCORER.loglikelihoods(params, [REQUESTS[i] for i in order[:count]]),
        strict=True,
    ):
        np.testing.assert_allclose(result.logprob, alone[place].logprob, atol=2e-5)
        assert result.tokens.tolist() == [
            len(continuation) for continuation in REQUESTS[place].continuations
        ]


_SEEN = {}


def _whole(scorer, params):
    if id(scorer) not in _SEEN:
        _SEEN[id(scorer)] = scorer.loglikelihoods(params, REQUESTS)
    return _SEEN[id(scorer)]


def test_no_requests_and_no_continuations():
    scorer, params = Scorer(tiny.CONFIG), tiny.params_of()
    assert scorer.loglikelihoods(params, []) == []
    empty, scored = scorer.loglikelihoods(params, [Request((1, 2)), Request((1, 2), ((3,),))])
    assert len(empty.logprob) == 0 and len(scored.logprob) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_name_the_request(value):
    """One row of the embedding is broken: requests without that token have numbers as before."""
    params = jax.tree.map(np.array, tiny.params_of())
    params["embed"]["embedding"][50] = value
    untied = dataclasses.replace(tiny.CONFIG, tie_embeddings=False)
    params["unembed"] = {"kernel": np.array(tiny.params_of()["embed"]["embedding"].T)}
    # So long that it has a line to itself: what is packed beside a NaN is NaN too (0 × NaN).
    good, bad = Request((1, 2), ((3,),), 6), Request((50,) * 255, ((3,), (4,)))
    scorer = Scorer(untied)
    assert np.isfinite(scorer.loglikelihoods(params, [good])[0].logprob).all()
    with pytest.raises(NonFiniteError, match="not finite") as error:
        scorer.loglikelihoods(params, [good, good, bad])
    assert error.value.request == 2 and error.value.where == "request 2"
    assert pickle.loads(pickle.dumps(error.value)).request == 2
    for sampling in (Sampling(), Sampling(0.7, 0.9)):
        with pytest.raises(NonFiniteError, match="logit is not finite") as error:
            requests = [good, good, Request((1, 50), max_new_tokens=6)]
            scorer.generate(params, requests, sampling=sampling, eos=-1)
        assert error.value.request == 2


def test_many_targets_at_one_position():
    params, labels = tiny.params_of(), tuple((i,) for i in range(97)) * 3
    (result,) = Scorer(tiny.CONFIG).loglikelihoods(params, [Request((5, 6, 7), labels)])
    np.testing.assert_allclose(
        result.logprob[:97], tiny.plain_logprobs(params, (5, 6, 7))[-1], atol=1e-5
    )
    np.testing.assert_allclose(np.exp(result.logprob[:97]).sum(), 1, atol=1e-5)
    assert result.is_greedy.sum() == 3


def test_one_program_for_all_checkpoints():
    scorer = Scorer(tiny.CONFIG, batch_tokens=128)
    plan = scorer.plan(REQUESTS)
    first = scorer.loglikelihoods(tiny.params_of(seed=0), plan)
    traces = dict(scorer.traces)
    for seed in (1, 2):
        other = scorer.loglikelihoods(tiny.params_of(seed=seed), plan)
        assert abs(other[0].logprob - first[0].logprob).max() > 1e-3
    scorer.loglikelihoods(jax.tree.map(np.asarray, tiny.params_of(seed=3)), plan)
    assert dict(scorer.traces) == traces
    assert sum(traces.values()) <= 8


@pytest.mark.parametrize(
    "text", ["data:8", "data:4,tensor:2", "data:2,fsdp:2,tensor:2", "data:1,tensor:8"]
)
def test_equals_the_plain_path_on_a_mesh(text, expected):
    mesh = sharding.make_mesh(text)
    scorer = Scorer(tiny.CONFIG, mesh, batch_tokens=512)
    results = scorer.loglikelihoods(tiny.params_of(), REQUESTS)
    tiny.assert_same(results, expected)
    before = dict(scorer.traces)
    scorer.loglikelihoods(tiny.params_of(seed=1), REQUESTS)
    assert dict(scorer.traces) == before


def test_bfloat16_is_near(expected):
    results = Scorer(tiny.CONFIG, dtype="bfloat16").loglikelihoods(tiny.params_of(), REQUESTS)
    ours, theirs = (
        np.concatenate([r.logprob for r in results]),
        np.concatenate([[value for value, _ in pairs] for pairs in expected]),
    )
    assert 1e-4 < abs(ours - theirs).max() < 1.0
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999


class _LittleMemory:
    """Runs the real program, but raises what XLA raises when a batch has more lines than fit."""

    def __init__(self, program, lines):
        self.program, self.lines, self.refused = program, lines, 0

    def __call__(self, params, tokens, *more):
        if tokens.shape[0] > self.lines:
            self.refused += 1
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123456789 bytes."
            )
        return self.program(params, tokens, *more)


def test_out_of_memory_goes_on_with_half(expected):
    scorer = Scorer(tiny.CONFIG, batch_tokens=1024)
    scorer.programs.lines = _LittleMemory(scorer.programs.lines, 3)
    with pytest.warns(UserWarning, match="out of device memory"):
        tiny.assert_same(scorer.loglikelihoods(tiny.params_of(), REQUESTS), expected)
    assert scorer.programs.lines.refused >= 1 and scorer.limits.batch_tokens < 1024


def test_a_line_that_never_fits_is_an_error_not_a_loop():
    scorer = Scorer(tiny.CONFIG, batch_tokens=1024)
    scorer.programs.lines = _LittleMemory(scorer.programs.lines, 0)
    with (
        pytest.warns(UserWarning),
        pytest.raises(AmuroError, match="out of device memory with 1 lines of"),
    ):
        scorer.loglikelihoods(tiny.params_of(), REQUESTS)


def test_other_errors_are_not_taken_for_memory():
    scorer = Scorer(tiny.CONFIG)

    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    scorer.programs.lines = broken
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        scorer.loglikelihoods(tiny.params_of(), REQUESTS)


def test_programs_go_to_the_folder_that_was_chosen_last(tmp_path):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    try:
        for folder in ("first", "second"):
            keep_programs(tmp_path / folder)
            jax.config.update(names[1], 0.0)
            jax.jit(lambda x: jnp.tanh(x) @ x)(jnp.ones((3, 3))).block_until_ready()
            assert any((tmp_path / folder).iterdir()), folder
    finally:
        compilation_cache.reset_cache()
        for name, value in before.items():
            jax.config.update(name, value)
