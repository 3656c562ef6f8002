"""What the scorer takes and gives back: token-level requests and results. No jax, no text."""

import dataclasses

import numpy as np

from amuro_jax.errors import AmuroError


class NonFiniteError(AmuroError):
    """The model gave a NaN or an infinity for a request.

    Attributes:
        request: its index in the list that was scored or generated; of several that were packed
            into one line with the faulty one (their numbers are not finite either), the first.
    """

    def __init__(self, what: str, *, where=None, hint: str | None = None, request: int = -1):
        super().__init__(what, where=where, hint=hint)
        self.request = request

    @classmethod
    def at(cls, request: int, what: str) -> "NonFiniteError":
        """The error of one request; `what` names the number that is not finite."""
        hint = "look for non-finite weights, or score in float32 where a 16-bit dtype overflows"
        return cls(f"{what} is not finite", where=f"request {request}", hint=hint, request=request)

    def __reduce__(self):
        return _rebuild, (self.what, self.where, self.hint, self.request)


def _rebuild(what, where, hint, request):
    return NonFiniteError(what, where=where, hint=hint, request=request)


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
    """Ids generated for one request without eos; `ended`: eos | stop | length."""

    tokens: tuple[int, ...]
    ended: str
