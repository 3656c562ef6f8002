"""What the scorer takes and gives back: token-level requests and results. No jax, no text."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Request:
    """Token ids to score or to continue.

    Attributes:
        context: ids before the first scored or generated token; never empty (families without bos
            start with eos).
        continuations: ids of each candidate; empty for generation.
        max_new_tokens: generation only.
        stop: token-level generation always ends at `eos`; text stops are applied by the caller on
            streamed text.
    """

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...] = ()
    max_new_tokens: int = 0
    stop: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Likelihoods:
    """Per candidate of one request: fp64 sums of fp32 log-probabilities [C], whether greedy
    decoding gives it [C], lengths [C].
    """

    logprob: np.ndarray
    is_greedy: np.ndarray
    tokens: np.ndarray


@dataclasses.dataclass(frozen=True)
class Generation:
    """Ids generated for one request, eos not included, and why it ended (`eos`, `stop`, `length`)."""

    tokens: tuple[int, ...]
    ended: str
