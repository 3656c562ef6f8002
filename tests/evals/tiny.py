"""A tiny model and its plain path: one full forward pass per request, nothing shared, packed or
cached.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import forward, logits
from amuro_jax.models.layout import padded
from amuro_jax.models.parameters import init_params
from amuro_jax.scoring.requests import Request

CONFIG = ModelConfig("olmo", 97, 32, 2, 4, 2, 8, 64, 256)
SLIDING = ModelConfig(
    "olmo3",
    97,
    32,
    2,
    4,
    4,
    8,
    64,
    256,
    norm="rmsnorm",
    norm_scale=True,
    norm_position="post",
    qk_norm=True,
    window=9,
    sliding_layers=(True, False),
    tie_embeddings=False,
)


@functools.cache
def params_of(config=CONFIG, seed=0):
    """Parameters large enough that the distributions are far from uniform."""
    return jax.tree.map(lambda leaf: leaf * 3, init_params(config, seed))


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(config, params, tokens, layout):
    hidden, _ = forward(params, tokens, layout, config=config)
    return jax.nn.log_softmax(logits(params, hidden, config), axis=-1)


def plain_logprobs(params, sequence, config=CONFIG, left=False):
    """[T, V] of one sequence, padded on the right, or on the left, to the context."""
    line, mask = np.zeros((1, config.max_length), np.int32), np.zeros((1, config.max_length), bool)
    places = slice(-len(sequence), None) if left else slice(0, len(sequence))
    line[0, places], mask[0, places] = sequence, True
    return np.asarray(_logprobs(config, params, line, padded(mask)))[0, places]


def plain_likelihoods(params, request, config=CONFIG, left=False):
    """(log-probability, greedy) of each continuation."""
    results = []
    for continuation in request.continuations:
        values = plain_logprobs(params, [*request.context, *continuation], config, left)[
            len(request.context) - 1 : -1
        ]
        picked = values[np.arange(len(continuation)), list(continuation)]
        results.append(
            (
                float(picked.astype(np.float64).sum()),
                bool((values.argmax(-1) == continuation).all()),
            )
        )
    return results


def plain_generation(params, request, eos, config=CONFIG):
    """Greedy tokens and how they end, one full forward pass per token."""
    made = []
    while len(made) < request.max_new_tokens:
        token = int(plain_logprobs(params, [*request.context, *made], config)[-1].argmax())
        if token == eos:
            return tuple(made), "eos"
        made.append(token)
    return tuple(made), "length"


def random_requests(rng, count, prefixes=((),), longest=30, choices=4, tokens=5, vocab=97):
    """Requests that begin with one of `prefixes`."""
    return [
        Request(
            tuple(prefixes[rng.integers(len(prefixes))])
            + tuple(rng.integers(0, vocab, rng.integers(1, longest)).tolist()),
            tuple(
                tuple(rng.integers(0, vocab, rng.integers(1, tokens)).tolist())
                for _ in range(rng.integers(1, choices + 1))
            ),
        )
        for _ in range(count)
    ]


def assert_same(results, expected, atol=1e-5):
    """Results of the scorer against (log-probability, greedy) pairs.

    `atol` per token of a continuation.
    """
    assert len(results) == len(expected)
    for result, pairs in zip(results, expected, strict=True):
        np.testing.assert_allclose(
            result.logprob, [value for value, _ in pairs], atol=atol * max(result.tokens), rtol=1e-6
        )
        assert result.is_greedy.tolist() == [greedy for _, greedy in pairs]


__all__ = [
    "CONFIG",
    "SLIDING",
    "assert_same",
    "jnp",
    "params_of",
    "plain_generation",
    "plain_likelihoods",
    "plain_logprobs",
    "random_requests",
]
