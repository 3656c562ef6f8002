"""Batches by memory: the estimate against the compiler's account, and what happens when memory runs
out all the same.
"""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from amuro_jax.errors import AmuroError  # noqa: E402
from amuro_jax.models.config import ModelConfig  # noqa: E402
from amuro_jax.scoring import ahead_of_time  # noqa: E402
from amuro_jax.scoring.memory import Memory, memory_of  # noqa: E402
from amuro_jax.scoring.requests import Request  # noqa: E402
from amuro_jax.scoring.scorer import Scorer  # noqa: E402
from amuro_jax.scoring.strategy import MOST_TOKENS_CPU, choose_strategy  # noqa: E402
from tests.evals import tiny  # noqa: E402

SMALL = ModelConfig("olmo", 50304, 256, 3, 4, 4, 64, 1024, 2048)
GROUPED = ModelConfig("llama", 32000, 512, 2, 8, 2, 64, 2048, 4096, tie_embeddings=False)
RNG = np.random.default_rng(0)
REQUESTS = [Request(tuple(RNG.integers(0, 97, 70).tolist()), ((1, 2), (3,)), 10) for _ in range(12)]
SHOTS = tuple(RNG.integers(0, 97, 100).tolist())
BEHIND = [Request(SHOTS + request.context[:20], request.continuations, 10) for request in REQUESTS]


CASES = [
    (SMALL, "blocked", (8, 128, 448)),
    (SMALL, "xla", (2, 512, 0)),
    (GROUPED, "blocked", (8, 128, 512)),
]


@pytest.mark.parametrize("config,attention,shape", CASES)
def test_the_estimate_bounds_what_the_compiler_takes(config, attention, shape):
    lines, width, prefix = shape
    programs = Scorer(config, attention=attention).programs
    strategy = choose_strategy(config, None, "float32", attention)
    memory = memory_of(config, None, "float32", strategy)
    taken = (
        ahead_of_time.compile_lines(programs, lines, width, prefix)
        .memory_analysis()
        .temp_size_in_bytes
    )
    assert taken <= 1.1 * memory.line_bytes(lines * width, width, prefix) <= 3 * taken
    taken = (
        ahead_of_time.compile_head(programs, lines * width, 512, 2048)
        .memory_analysis()
        .temp_size_in_bytes
    )
    assert taken <= 1.1 * memory.head_bytes() <= 4 * taken
    assert memory.parameters == pytest.approx(4 * config.num_parameters, rel=0.01)


def test_batches_shrink_with_what_is_free():
    def of(free):
        return Memory(SMALL, free, 0, 0, 2, 1, 4, 8192, 16384)

    sizes = [of(gigabytes * 10**9).batch_tokens(512, 2048) for gigabytes in (16, 1, 0.3)]
    assert sizes[0] == 16384 > sizes[1] > sizes[2]
    rows = [of(free * 10**6).generation_rows(64, 512, 512) for free in (4000, 200, 130)]
    assert rows[0] == 64 > rows[1] > rows[2] >= 1
    assert of(16 * 10**9).prefix_chunk(4096) == 4096 > of(10**8).prefix_chunk(4096)
    assert Scorer(tiny.CONFIG).limits.batch_tokens == MOST_TOKENS_CPU


class LittleMemory:
    """Runs the real program, but raises what XLA raises when one of its inputs has more than `most`
    elements along `axis`.
    """

    def __init__(self, program, most, of=1, axis=0):
        self.program, self.most, self.of, self.axis, self.refused = program, most, of, axis, 0

    def __call__(self, *given):
        if given[self.of].shape[self.axis] > self.most:
            self.refused += 1
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123456789 bytes."
            )
        return self.program(*given)


def test_a_prefix_that_does_not_fit_is_read_in_parts():
    params = tiny.params_of()
    expected = [made.logprob for made in Scorer(tiny.CONFIG).loglikelihoods(params, BEHIND)]
    scorer = Scorer(tiny.CONFIG)
    scorer.programs.prefix = LittleMemory(scorer.programs.prefix, 64, axis=1)
    with pytest.warns(UserWarning, match="128 tokens of a prefix at once; going on with 64"):
        made = scorer.loglikelihoods(params, BEHIND)
    np.testing.assert_allclose([one.logprob for one in made], expected, atol=1e-5)
    assert scorer.programs.prefix.refused == 1 and scorer.traces["prefix_part"] == 1


@pytest.mark.filterwarnings("ignore:out of device memory")
@pytest.mark.parametrize("at_once", [32, 4096])
def test_a_prefix_that_never_fits_is_an_error(at_once):
    scorer = Scorer(tiny.CONFIG)
    scorer.programs.prefix = LittleMemory(scorer.programs.prefix, 0)
    scorer.programs.prefix_part = LittleMemory(scorer.programs.prefix_part, 0, of=2)
    scorer.limits.prefix_tokens = at_once
    with pytest.raises(AmuroError, match="out of device memory with a prefix of"):
        scorer.loglikelihoods(tiny.params_of(), BEHIND)


@pytest.mark.parametrize("program", ["_read", "_more"])
def test_generation_goes_on_with_fewer_rows(program):
    params = tiny.params_of()
    expected = [made.tokens for made in Scorer(tiny.CONFIG).generate(params, REQUESTS)]
    scorer, seen = Scorer(tiny.CONFIG), []
    of = {"_read": 1, "_more": 3}[program]
    setattr(scorer.generator, program, LittleMemory(getattr(scorer.generator, program), 4, of=of))
    with pytest.warns(
        UserWarning, match="out of device memory generating 16 rows at once; going on with 4"
    ):
        made = scorer.generate(params, REQUESTS, each=lambda index, made: seen.append(index))
    assert [one.tokens for one in made] == expected and sorted(seen) == list(range(12))


def test_a_text_that_was_finished_before_memory_ran_out_is_given_out_once():
    """The third replacement fails: what was done is kept, the rest is done with fewer rows."""
    params, requests = (
        tiny.params_of(),
        [Request(request.context, max_new_tokens=2 + i % 5) for i, request in enumerate(REQUESTS)],
    )
    expected = [made.tokens for made in Scorer(tiny.CONFIG).generate(params, requests)]
    scorer, calls, seen = Scorer(tiny.CONFIG), [], []
    scorer.limits.generation_rows, real = 4, scorer.generator._replace

    def third(*given):
        calls.append(len(seen))
        if len(calls) == 3:
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123456789 bytes."
            )
        return real(*given)

    scorer.generator._replace = third
    with pytest.warns(UserWarning, match="generating 4 rows at once; going on with 1"):
        made = scorer.generate(params, requests, each=lambda index, made: seen.append(index))
    assert (
        [one.tokens for one in made] == expected
        and sorted(seen) == list(range(12))
        and calls[2] > 0
    )


def test_a_text_is_given_out_when_it_is_finished():
    requests = [
        Request(request.context, max_new_tokens=limit)
        for request, limit in zip(REQUESTS, (2, 30, 9), strict=False)
    ]
    seen = []
    made = Scorer(tiny.CONFIG).generate(
        tiny.params_of(), requests, each=lambda index, made: seen.append((index, made))
    )
    assert [index for index, _ in seen] == [0, 2, 1] and [one for _, one in sorted(seen)] == made
