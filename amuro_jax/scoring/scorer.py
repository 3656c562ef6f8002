"""The scorer: log-likelihoods, generation and rolling log-likelihood of token requests, exact and
compiled once.

Parameters are arguments: one program per (bucket, configuration) serves every checkpoint of a
family. What runs is in `likelihoods` and `generation`, how much at once in `limits`.
"""

import collections
import contextlib
import os
import weakref

import jax
from jax.experimental.compilation_cache import compilation_cache

from amuro_jax.errors import AmuroError
from amuro_jax.scoring import buckets, planner
from amuro_jax.scoring.generation import Generator, Sampling, generate
from amuro_jax.scoring.likelihoods import run_plan
from amuro_jax.scoring.limits import Limits
from amuro_jax.scoring.memory import memory_of
from amuro_jax.scoring.planner import ScoringPlan
from amuro_jax.scoring.programs import Programs
from amuro_jax.scoring.requests import Generation, Likelihoods, Request
from amuro_jax.scoring.strategy import choose_strategy
from amuro_jax.sharding import batch_divisor
from amuro_jax.storage import Storage


class Scorer:
    """Scores requests under one model configuration.

    Args:
        config: ModelConfig of the checkpoints to come.
        mesh: from `sharding.make_mesh`, or None for the default device.
        dtype: compute dtype (norms, softmax and logits stay fp32).
        batch_tokens: tokens of one batch of lines; 0: what the devices' memory allows (`memory`).
        attention: a name of `models.attention.Backend`; "": the best of the platform.
        vocab_chunk: vocabulary columns of one step of the head; 0: all at once; -1: by `strategy`.
        cache_folder: cache of compiled programs between runs; None: no cache.

    Attributes:
        limits: sizes of batches as used now.
    """

    def __init__(
        self,
        config,
        mesh=None,
        dtype="float32",
        *,
        batch_tokens=0,
        attention="",
        vocab_chunk=-1,
        cache_folder=None,
    ):
        if cache_folder:
            keep_programs(cache_folder)
        self.config, self.mesh = config, mesh
        self.cost = buckets.cost_of(config)
        strategy = choose_strategy(config, mesh, dtype, attention, vocab_chunk)
        self.programs = Programs(config, mesh, dtype, strategy)
        self.generator = Generator(self.programs)
        divisor = 1 if mesh is None else batch_divisor(mesh)
        estimate = memory_of(config, mesh, dtype, strategy)
        self.limits = Limits(estimate, divisor, batch_tokens, config.max_length)
        self._plans: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    @property
    def traces(self) -> collections.Counter:
        """Times each program was traced; another checkpoint of the family adds nothing."""
        return self.programs.traces

    def place(self, params):
        """Parameters as the programs read them, on the device.

        A no-op for parameters placed before.
        """
        return self.programs.place(params)

    def plan(self, requests: list[Request]) -> ScoringPlan:
        """The plan of `requests`, built once and run for every checkpoint."""
        return planner.plan_requests(
            requests, self.cost, self.limits.batch_tokens, self.config.max_length
        )

    def plan_once(self, source) -> ScoringPlan:
        """The plan of `source.requests`, built at the first call and dropped with `source`, which
        is known by its identity.
        """
        if source not in self._plans:
            self._plans[source] = self.plan(source.requests)
        return self._plans[source]

    def loglikelihoods(self, params, requests: list[Request] | ScoringPlan) -> list[Likelihoods]:
        """Log-probability of every continuation after its context, in request order; takes requests
        or their plan.

        Raises:
            DataError: an empty context or continuation, or one that does not fit the model's
                context.
            NonFiniteError: a log-probability that is not finite.
        """
        plan = requests if isinstance(requests, ScoringPlan) else self.plan(requests)
        return plan.assemble(*run_plan(self.programs, self.limits, self.place(params), plan))

    def generate(
        self,
        params,
        requests: list[Request],
        *,
        eos: int | tuple[int, ...] | None = None,
        stopped=None,
        sampling=Sampling(),
        each=None,
    ) -> list[Generation]:
        """Continues every request, in request order; ends at an id of `eos`, at a stop string, or
        at the request's `max_new_tokens`.

        Args:
            eos: the id, or all ids, that end a text; by default the configuration's.
            stopped: `(request index, tokens so far) -> tokens of the text at its stop string, or
                None`, called every few steps.
            sampling: greedy by default.
            each: `(request index, Generation)`, called as soon as a text is finished.

        Raises:
            DataError: an empty context, or one that does not fit the model's context with its new
                tokens.
            AmuroError: not even one row fits the device's memory.
            NonFiniteError: logits that are not finite.
        """
        eos = self.config.eos_ids if eos is None else eos
        eos = (eos,) if isinstance(eos, int) else tuple(eos)
        return generate(
            self.generator,
            self.limits,
            self.place(params),
            requests,
            eos=eos,
            stopped=stopped,
            sampling=sampling,
            each=each,
        )

    def rolling(self, params, sequences: list[list[int]], start: int) -> list[tuple[float, int]]:
        """(log-probability, tokens) of sequences of any length, each token scored once.

        A sequence longer than the context is cut into windows that share one token; the last one
        reaches back as far as it can.

        Args:
            start: id that precedes the first token (bos or eos).
        """
        requests = [
            rolling_windows(sequence, start, self.config.max_length) for sequence in sequences
        ]
        results = iter(
            self.loglikelihoods(params, [window for windows in requests for window in windows])
        )
        return [
            (float(sum(next(results).logprob[0] for _ in windows)), len(s))
            for windows, s in zip(requests, sequences, strict=True)
        ]


def rolling_windows(sequence: list[int], start: int, max_length: int) -> list[Request]:
    """Requests that predict each token of `sequence` once, reading at most `max_length` tokens."""
    tokens, windows = [start, *sequence], []
    for first in range(1, len(tokens), max_length):
        end = min(first + max_length, len(tokens))
        windows.append(
            Request(
                tuple(tokens[max(0, end - max_length - 1) : first]), (tuple(tokens[first:end]),)
            )
        )
    return windows


def keep_programs_in(work: Storage) -> None:
    """Keeps compiled programs in a work folder, so that a run that goes on does not compile again.

    In a store that jax does not reach each process compiles for itself.
    """
    with contextlib.suppress(AmuroError):
        keep_programs(work.child("programs").epath())


def keep_programs(folder) -> None:
    """Keeps compiled programs under `folder`, for this process and those to come, in place of a
    folder that was chosen before.
    """
    compilation_cache.reset_cache()  # jax goes on with its first folder otherwise
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # A path in programs' keys (jax 0.10.2): a moved folder would miss.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
