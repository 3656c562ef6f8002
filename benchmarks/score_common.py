"""What the scorer's benchmarks share: a random OLMo of about 150 M parameters, real prompts where
there are any, peers, and timing.
"""

import argparse
import dataclasses
import os
import statistics
import time
from pathlib import Path

import jax
import numpy as np
import torch
import transformers

from amuro_jax.convert import families
from amuro_jax.models.parameters import init_params
from amuro_jax.scoring.requests import Request

HF = {
    "model_type": "olmo",
    "architectures": ["OlmoForCausalLM"],
    "vocab_size": 50304,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "eos_token_id": 50279,
    "pad_token_id": 1,
    "bos_token_id": None,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "clip_qkv": None,
}
DATA = Path(
    os.environ.get("AMURO_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
TOKENIZER = "allenai_gpt-neox-olmo-dolma-v1_5.json"


def arguments(description: str, **defaults) -> argparse.Namespace:
    """Flags of a benchmark: --threads, and one of its type per default."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in {"threads": 4, "rounds": 3, **defaults}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    return given


def models(seed: int = 0, **changes):
    """The same random weights twice: (ModelConfig, parameters, HF torch model in fp32)."""
    values = HF | changes
    config = families.config_from_hf(values)
    params = jax.tree.map(np.asarray, init_params(config, seed))
    model = transformers.OlmoForCausalLM(transformers.OlmoConfig(**values)).eval()
    tensors = {
        name: torch.tensor(np.array(tensor)) for name, tensor in exported(params, config).items()
    }
    missing = model.load_state_dict(tensors, strict=False)
    assert set(missing.missing_keys) <= {"lm_head.weight"} and not missing.unexpected_keys, missing
    model.tie_weights()
    return config, params, model


def exported(params, config) -> dict:
    """HF OLMo tensors of a parameter tree, written out so that the comparison does not rest on the
    converter.
    """
    tensors, layers = {"model.embed_tokens.weight": params["embed"]["embedding"]}, params["layers"]
    width = config.hidden_size
    for i in range(config.num_layers):
        attention, mlp, name = layers["attention"], layers["mlp"], f"model.layers.{i}."
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            tensors[f"{name}self_attn.{theirs}.weight"] = (
                attention[ours]["kernel"][i].reshape(width, -1).T
            )
        tensors[f"{name}self_attn.o_proj.weight"] = (
            attention["out"]["kernel"][i].reshape(-1, width).T
        )
        for part in ("gate", "up", "down"):
            tensors[f"{name}mlp.{part}_proj.weight"] = mlp[part]["kernel"][i].T
    return tensors


@dataclasses.dataclass
class Words:
    """Tokenizer for prompts: the real one where it is at hand."""

    real: object

    @classmethod
    def load(cls):
        """The real OLMo tokenizer, or None inside where it is missing."""
        path = DATA / "tokenizers" / TOKENIZER
        if not path.is_file():
            return cls(None)
        from amuro_jax.data.tokenizer import Tokenizer

        return cls(Tokenizer.from_file(path, eos_id=50279))


def task_requests(task: str, rows: int, shots: int, **options):
    """(requests, what they are): real rows of `task`, tokenised once.

    Random ids of like lengths where there is no data.
    """
    words = Words.load()
    if words.real is None:
        return synthetic(rows, **options), f"synthetic, {rows} rows"
    from amuro_jax.data.queries import build_queries
    from amuro_jax.data.registry import get_task
    from amuro_jax.evals.prepare import prepare

    queries = build_queries(
        get_task(task), "default", shots, tokenizer=words.real, data_root=str(DATA), rows=rows
    )
    queries = [dataclasses.replace(query, unconditional=None) for query in queries]
    prepared = prepare(queries, words.real, **options)
    return prepared.requests, f"{task}, {len(prepared.requests)} rows, {shots} shots"


def synthetic(rows: int, candidates: str = "labels", **_) -> list[Request]:
    """A shared prefix of 400 tokens, queries of 30–90, three labels of up to three tokens (or ten
    single candidates).
    """
    rng = np.random.default_rng(0)
    shots = tuple(rng.integers(2, 50000, 400).tolist())
    labels = (
        tuple((int(i),) for i in rng.integers(2, 50000, 10))
        if candidates == "sub_tokens"
        else ((1000, 1001, 1002), (2000,), (3000, 3001, 3002))
    )
    return [
        Request((*shots, *rng.integers(2, 50000, rng.integers(30, 91)).tolist()), labels, 60)
        for _ in range(rows)
    ]


def describe(requests: list[Request]) -> str:
    """Token counts of the prompts."""
    lengths = np.asarray([len(request.context) for request in requests])
    first, shared = requests[0].context, len(requests[0].context)
    for request in requests[1:]:
        shared = min(
            shared,
            next(
                (i for i, (a, b) in enumerate(zip(first, request.context, strict=False)) if a != b),
                shared,
            ),
        )
    rest = lengths - shared
    middle = int(np.median(rest))
    return f"shared prefix {shared} tokens, then {rest.min()}-{rest.max()} (median {middle})"


def interleave(runs: dict, rounds: int) -> dict[str, float]:
    """Median seconds of each named function over interleaved rounds, after one untimed call of each
    that asks for it.
    """
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def table(title: str, lines: list[tuple], ours: float) -> None:
    """Prints milliseconds per row of each peer and how many times ours it takes."""
    print(f"\n{title}\n{'':<58}{'ms/row':>10}{'ratio':>8}{'target':>8}")
    for name, seconds, target in lines:
        print(f"{name:<58}{1e3 * seconds:>10.1f}{seconds / ours:>8.1f}{target:>8}", flush=True)


def hf_logprobs(model, context, continuations):
    """As the study ran it: one forward pass with all logits per prompt, log-probability of
    single-token candidates [C].
    """
    logits = model(torch.tensor([context])).logits[0, -1].log_softmax(-1)
    return [float(logits[token]) for (token,) in continuations]


class TorchPrefix:
    """Hand-tuned torch: the prefix once, its KV expanded over a batch of suffixes sorted by length;
    logits at query positions only.

    One sequence per row where every label is one token, else one per label (the query is read again
    for each).
    """

    def __init__(self, model, batch: int):
        self.model, self.batch = model, batch

    def __call__(self, requests):
        """Log-probabilities of the continuations, per request."""
        from transformers import DynamicCache

        shared = _common([request.context for request in requests])
        first = self.model.model(
            torch.tensor([requests[0].context[:shared]]), use_cache=True
        ).past_key_values
        layers = [(layer.keys, layer.values) for layer in first.layers]
        # (suffix, position that predicts it, next tokens: one position with its candidates,
        # or a label's own)
        sequences = []
        for request in requests:
            suffix = list(request.context[shared:])
            if all(len(label) == 1 for label in request.continuations):
                sequences.append(
                    (suffix, len(suffix) - 1, [label[0] for label in request.continuations])
                )
            else:
                sequences += [
                    ([*suffix, *label[:-1]], len(suffix) - 1, list(label))
                    for label in request.continuations
                ]
        values: list = [None] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i][0]))
        for start in range(0, len(order), self.batch):
            part = [sequences[i] for i in order[start : start + self.batch]]
            width = max(len(suffix) for suffix, _, _ in part)
            ids = torch.zeros((len(part), width), dtype=torch.long)
            mask = torch.zeros((len(part), shared + width), dtype=torch.long)
            mask[:, :shared] = 1
            for row, (suffix, _, _) in enumerate(part):
                ids[row, : len(suffix)], mask[row, shared : shared + len(suffix)] = (
                    torch.tensor(suffix),
                    1,
                )
            cache = DynamicCache()
            for index, (key, value) in enumerate(layers):
                cache.update(
                    key.expand(len(part), -1, -1, -1), value.expand(len(part), -1, -1, -1), index
                )
            hidden = self.model.model(
                ids, attention_mask=mask, past_key_values=cache, use_cache=True
            ).last_hidden_state
            predicting = [
                (row, place)
                for row, (suffix, first, _) in enumerate(part)
                for place in range(first, len(suffix))
            ]
            logprobs = self.model.lm_head(hidden[tuple(zip(*predicting, strict=True))]).log_softmax(
                -1
            )
            at = 0
            for i, (suffix, first, tokens) in zip(
                order[start : start + self.batch], part, strict=True
            ):
                rows = logprobs[at : at + len(suffix) - first]
                at += len(rows)
                values[i] = (
                    rows[0, tokens].tolist()
                    if len(rows) == 1
                    else [float(rows[range(len(tokens)), tokens].sum())]
                )
        results = iter(values)
        return [
            next(results)
            if all(len(label) == 1 for label in request.continuations)
            else [next(results)[0] for _ in request.continuations]
            for request in requests
        ]


def _common(contexts):
    shared = min(map(len, contexts)) - 1
    for context in contexts[1:]:
        shared = next((i for i in range(shared) if context[i] != contexts[0][i]), shared)
    return shared


def hflm(model, batch: int):
    """lm-evaluation-harness's HFLM over the same torch model; takes token requests."""
    from lm_eval.models.huggingface import HFLM

    file = str(DATA / "tokenizers" / TOKENIZER)
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_file=file, eos_token="|||IP_ADDRESS|||", pad_token="<|padding|>"
    )
    lm = HFLM(pretrained=model, tokenizer=words, batch_size=batch, device="cpu")

    def run(requests):
        pairs = [(("", ""), list(r.context), list(c)) for r in requests for c in r.continuations]
        return lm._loglikelihood_tokens(pairs, disable_tqdm=True)

    return run
