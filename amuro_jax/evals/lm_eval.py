"""lm-evaluation-harness on the scorer: `AmuroLM` answers its three request types. Imported only
where the harness is wanted.

The rules for text are those of the harness's own model of Hugging Face checkpoints (HFLM 0.4.13),
so that published numbers can be compared: a context's trailing white space moves to the
continuation, both are tokenised together, what is too long is cut on the left, an empty context is
bos (eos where the tokenizer has no bos), and a text that begins with bos gets no second one.
docs/scorer.md lists where we differ on purpose.
"""

import dataclasses
import warnings

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from amuro_jax.data.tokenizer import Tokenizer, render_chat
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.evals.evaluate import stop_at
from amuro_jax.scoring.generation import Sampling
from amuro_jax.scoring.requests import Request
from amuro_jax.scoring.scorer import Scorer

MAX_NEW_TOKENS = 256  # of a request that does not say, as in HFLM
# Names under which a task may give the number of new tokens, the first one wins.
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Settings of transformers' `generate` that change nothing at these values.
NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0, "num_return_sequences": 1, "use_cache": True}
SAMPLING_ONLY = ("top_k", "typical_p", "min_p")  # no effect on greedy decoding


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
        from amuro_jax.convert import adapters
        from amuro_jax.convert.resolver import open_checkpoint

        folder = open_checkpoint(checkpoint)
        config = folders.read_config(folder)
        device_mesh = sharding.make_mesh(mesh) if mesh else None
        self.scorer = Scorer(config, device_mesh, dtype, batch_tokens=int(batch_tokens))
        self.params = self.scorer.place(adapters.load_params(folder, config, device_mesh))
        self.tokenizer = Tokenizer.load(folder / "tokenizer")
        self.name = str(checkpoint)

    @classmethod
    def of(cls, scorer: Scorer, params, tokenizer: Tokenizer, name: str = "") -> "AmuroLM":
        """A model that is in memory already."""
        model = cls.__new__(cls)
        LM.__init__(model)
        model.scorer, model.params, model.tokenizer = scorer, scorer.place(params), tokenizer
        model.name = name
        return model

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
        """Messages under the tokenizer's chat template.

        The last one is continued where no assistant's message is to begin. System messages are left
        out where the template refuses the messages with them.
        """
        ending = {"generate": add_generation_prompt, "go_on": not add_generation_prompt}
        try:
            return render_chat(self.tokenizer, chat_history, **ending)
        except DataError:
            others = [message for message in chat_history if message["role"] != "system"]
            if len(others) == len(chat_history):
                raise
            return render_chat(self.tokenizer, others, **ending)

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability, is greedy) of each (context, continuation)."""
        pairs = [self._pair(*request.args) for request in requests]
        longest = self.scorer.config.max_length
        too_long = sum(len(continuation) > longest for _, continuation in pairs)
        if too_long:
            warnings.warn(
                f"{too_long} of {len(pairs)} continuations are longer than the context of {longest}"
                f" tokens; only their last {longest} tokens are scored",
                stacklevel=2,
            )
        contexts: dict = {}
        numbers = []
        for context, continuation in pairs:
            tokens = (*context, *continuation)[-(longest + 1) :]
            border = max(len(tokens) - len(continuation), 1)
            context, continuation = tokens[:border], tokens[border:]
            number, continuations = contexts.setdefault(context, (len(contexts), {}))
            numbers.append((number, continuations.setdefault(continuation, len(continuations))))
        results = self.scorer.loglikelihoods(
            self.params,
            [Request(context, tuple(targets)) for context, (_, targets) in contexts.items()],
        )
        return [
            (float(results[number].logprob[position]), bool(results[number].is_greedy[position]))
            for number, position in numbers
        ]

    def _pair(self, context, continuation):
        """Ids of the context, never empty, and of the continuation; neither is cut."""
        start = self.tokenizer.start_id
        if not context:
            rest = self.tokenizer.encode(continuation)
            return (tuple(rest[:1]), tuple(rest[1:])) if rest[:1] == [start] else ((start,), rest)
        bare = context.rstrip()
        first, joined = self._encode(bare), self._encode(context + continuation)
        return tuple(first) or (start,), tuple(joined[len(first) :])

    def _encode(self, text):
        """Ids of a text, after bos where the tokenizer adds one and the text has none."""
        ids = self.tokenizer.encode(text)
        if self.tokenizer.starts_with(text, self.tokenizer.start_id):
            return ids
        return [*self.tokenizer.prefix_ids, *ids]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        """Log-probability of full texts after bos (or eos), which is not predicted itself.

        Where the tokenizer adds a bos, or the text begins with one, HFLM reads two of them and
        counts log p(bos | bos), which says nothing about the text.
        """
        start = self.tokenizer.start_id
        sequences = [self.tokenizer.encode(request.args[0]) for request in requests]
        if start == self.tokenizer.bos_id:
            sequences = [ids[1:] if ids[:1] == [start] else ids for ids in sequences]
        return [value for value, _ in self.scorer.rolling(self.params, sequences, start)]

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Continuation of each (context, settings) up to the first of its `until` strings.

        Raises:
            ConfigError: a setting of `generate` that would change the text and is not supported.
        """
        results, alike = [""] * len(requests), {}
        for index, request in enumerate(requests):
            context, settings = request.args
            settings = _Settings.read(settings)
            alike.setdefault(settings.sampling, []).append(
                (index, self._generation(context, settings), settings.until)
            )
        for sampling, members in alike.items():
            stops = [until for _, _, until in members]

            def stopped(row, tokens, stops=stops):
                return stop_at(self.tokenizer, tokens, stops[row]) if stops[row] else None

            generated = self.scorer.generate(
                self.params,
                [request for _, request, _ in members],
                eos=self.tokenizer.eos_ids,
                stopped=stopped,
                sampling=sampling,
            )
            end = self.tokenizer.decode([self.tokenizer.own_eos_id])
            for (index, _, until), generation in zip(members, generated, strict=True):
                text = self.tokenizer.decode(generation.tokens, skip_special=True)
                for stop in filter(None, (*until, end)):  # one after the other, as HFLM does
                    text = text.split(stop)[0]
                results[index] = text
        return results

    def _generation(self, context, settings):
        room = self.scorer.config.max_length
        new = min(settings.new_tokens, room - 1)
        ids = self.tokenizer.encode(context)
        if not self.tokenizer.starts_with(context, self.tokenizer.bos_id):
            ids = [*self.tokenizer.prefix_ids, *ids]
        return Request(tuple(ids[-(room - new) :]) or (self.tokenizer.start_id,), (), new)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What a task asks of one generation."""

    sampling: Sampling
    until: tuple[str, ...]
    new_tokens: int

    @classmethod
    def read(cls, settings: dict) -> "_Settings":
        """From a task's `generation_kwargs`, by the harness's own rules for what is left out."""
        left = dict(settings)
        until = left.pop("until", None) or ()
        lengths = [left.pop(name, None) for name in LENGTHS]
        length = next((value for value in lengths if value is not None), MAX_NEW_TOKENS)
        temperature = float(left.pop("temperature", None) or 0.0)
        if left.pop("do_sample", None) is False:
            temperature = 0.0
        sampling = Sampling(
            temperature, float(left.pop("top_p", 1.0)), int(left.pop("seed", None) or 0)
        )
        if temperature == 0:
            sampling = Sampling()
            left = {name: value for name, value in left.items() if name not in SAMPLING_ONLY}
        left = {name: value for name, value in left.items() if value != NEUTRAL.get(name)}
        if left:
            raise ConfigError(
                "generation settings without effect here: "
                + ", ".join(f"{name}={value!r}" for name, value in sorted(left.items())),
                where="generation_kwargs",
                hint="leave them out with --gen_kwargs or in the task's YAML file",
            )
        return cls(sampling, (until,) if isinstance(until, str) else tuple(until), int(length))
