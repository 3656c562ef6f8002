"""Log-probabilities of preference pairs under the model that a training starts from."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from amuro_jax.data.types import Pair, TrainExample
from amuro_jax.scoring.requests import Request
from amuro_jax.scoring.scorer import Scorer


def score_pairs(scorer: Scorer, params: dict, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """(chosen, rejected) of each pair: the summed log-probabilities of the answers' tokens, nats.

    Raises:
        DataError: a pair that does not fit the model's context.
        NonFiniteError: a log-probability that is not finite.
    """
    answers = [example for pair in pairs for example in (pair.chosen, pair.rejected)]
    likelihoods = scorer.loglikelihoods(params, [_request(example) for example in answers])
    sums = [float(one.logprob[0]) for one in likelihoods]
    return list(zip(sums[::2], sums[1::2], strict=True))


def with_reference(scorer: Scorer, params: dict, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with the log-probabilities of the model `params`."""
    return [
        dataclasses.replace(pair, reference=logprobs)
        for pair, logprobs in zip(pairs, score_pairs(scorer, params, pairs), strict=True)
    ]


def _request(example: TrainExample) -> Request:
    """The answer, which is all that is learned and the end of the example, behind its prompt."""
    first = int(np.argmax(example.loss_mask))
    tokens = tuple(map(int, example.tokens))
    return Request(tokens[:first], (tokens[first:],))
