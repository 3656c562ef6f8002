"""lm-evaluation-harness on the scorer: `AmuroLM` answers its three request types. Imported only
where the harness is wanted.

The harness's own rules for text are kept, so that its published numbers can be compared: a
context's trailing white space
moves to the continuation, both are tokenised together, and what is too long is cut on the left.
"""

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from amuro_jax.data.tokenizer import Tokenizer, render_chat
from amuro_jax.evals.evaluate import cut_at, stop_at
from amuro_jax.scoring.generation import Sampling
from amuro_jax.scoring.requests import Request
from amuro_jax.scoring.scorer import Scorer

MAX_NEW_TOKENS = 256


@register_model("amuro")
class AmuroLM(LM):
    """A converted (or convertible) checkpoint as a model of lm-evaluation-harness.

    Args:
        checkpoint: as `amuro convert` takes it.
        dtype: compute dtype.
        mesh: as `--config.mesh`; one device where it is empty.
        batch_tokens: see `Scorer`.
    """

    def __init__(
        self, checkpoint: str, dtype: str = "float32", mesh: str = "", batch_tokens: int = 0, **_
    ):
        super().__init__()
        from amuro_jax import checkpoint as folders
        from amuro_jax import sharding
        from amuro_jax.convert.door import open_checkpoint

        folder = open_checkpoint(checkpoint)
        config, made = folders.read_config(folder), sharding.make_mesh(mesh) if mesh else None
        self._ready(
            Scorer(config, made, dtype, batch_tokens=int(batch_tokens)),
            folders.load_params(folder, config, made),
            folder / "tokenizer",
        )
        self.name = str(checkpoint)

    def _ready(self, scorer, params, tokenizer_folder):
        self.scorer, self.params = scorer, scorer.place(params)
        self.tokenizer = Tokenizer.load(tokenizer_folder)
        self.start = self.tokenizer.prefix_ids or (
            self.tokenizer.eos_id,
        )  # what stands before an empty context

    @property
    def tokenizer_name(self) -> str:
        """Name under which the harness caches rendered chats."""
        return self.tokenizer.fingerprint[:16]

    def chat_template(self, chat_template=False) -> str:
        """The tokenizer's chat template, for the harness's record."""
        return self.tokenizer.chat_template or ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Messages under the tokenizer's chat template."""
        return render_chat(self.tokenizer, chat_history, generate=add_generation_prompt)

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability, is greedy) of each (context, continuation)."""
        pairs = [self._pair(*request.args) for request in requests]
        places: dict = {}
        asked = []
        for context, continuation in pairs:
            number, continuations = places.setdefault(context, (len(places), {}))
            asked.append((number, continuations.setdefault(continuation, len(continuations))))
        results = self.scorer.loglikelihoods(
            self.params, [Request(context, tuple(found)) for context, (_, found) in places.items()]
        )
        return [
            (float(results[number].logprob[place]), bool(results[number].is_greedy[place]))
            for number, place in asked
        ]

    def _pair(self, context, continuation):
        bare = context.rstrip()
        context, continuation = bare, context[len(bare) :] + continuation
        if not context:
            first, rest = self.start, self.tokenizer.encode(continuation)
        else:
            first, whole = (
                self.tokenizer.encode(context),
                self.tokenizer.encode(context + continuation),
            )
            first, rest = (*self.tokenizer.prefix_ids, *first), whole[len(first) :]
        keep = self.scorer.config.max_length + 1 - len(rest)
        return tuple(first[-keep:]), tuple(rest)

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts."""
        sequences = [self.tokenizer.encode(request.args[0]) for request in requests]
        return [value for value, _ in self.scorer.rolling(self.params, sequences, self.start[0])]

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Continuation of each (context, settings) up to the first of its `until` strings."""
        results, alike = [""] * len(requests), {}
        for index, request in enumerate(requests):
            context, settings = request.args
            alike.setdefault(_sampling(settings), []).append(
                (index, *self._generation(context, settings))
            )
        for sampling, members in alike.items():
            stops = [member[2] for member in members]

            def stopped(row, tokens, stops=stops):
                return stop_at(self.tokenizer, tokens, stops[row]) if stops[row] else None

            made = self.scorer.generate(
                self.params,
                [member[1] for member in members],
                eos=self.tokenizer.eos_id,
                stopped=stopped,
                sampling=sampling,
            )
            for (index, _, until), generation in zip(members, made, strict=True):
                results[index] = cut_at(self.tokenizer.decode(generation.tokens), until)
        return results

    def _generation(self, context, settings):
        until = settings.get("until") or ()
        until = (until,) if isinstance(until, str) else tuple(until)
        room = self.scorer.config.max_length
        new = min(int(settings.get("max_gen_toks", MAX_NEW_TOKENS)), room - 1)
        ids = (*self.tokenizer.prefix_ids, *self.tokenizer.encode(context)) or self.start
        return Request(tuple(ids[-(room - new) :]), (), new), until


def _sampling(settings) -> Sampling:
    temperature = float(settings.get("temperature") or 0.0) if settings.get("do_sample") else 0.0
    return Sampling(temperature, float(settings.get("top_p", 1.0)), int(settings.get("seed", 0)))
