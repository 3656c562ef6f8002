"""Greedy generation, 60 new tokens, 4-shot prompts, on CPU, fp32: ours against HF generate with its
KV cache.

    python benchmarks/score_generation.py [--task=socialiqa --rows=64 --shots=4 --new=60
    --threads=4]
    python benchmarks/score_generation.py --rows=256 --mean=15 --hf_rows=32

No eos on either side, so that both make every token. HF does one batch of each size (or --hf_rows
rows); every figure is per row.
With --mean, texts end after a number of tokens drawn from a geometric distribution with that mean,
at most --new; HF is told by a
stopping criterion for each row.
"""

import dataclasses

import numpy as np
import score_common as common
import torch

from amuro_jax.scoring.scorer import Scorer


def hf_generate(model, requests):
    """HF's generate for one left-padded batch.

    Ids of the new tokens, as many of each as its request wants.
    """
    new = max(request.max_new_tokens for request in requests)
    limits = torch.tensor([request.max_new_tokens for request in requests])
    width = max(len(request.context) for request in requests)
    ids = torch.tensor([[1] * (width - len(r.context)) + list(r.context) for r in requests])
    mask = torch.tensor([[0] * (width - len(r.context)) + [1] * len(r.context) for r in requests])
    ends = (
        [lambda tokens, scores: tokens.shape[1] - width >= limits] if limits.min() < new else None
    )
    options = {
        "max_new_tokens": new,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 1,
        "stopping_criteria": ends,
    }
    made = model.generate(ids, attention_mask=mask, **options)[:, width:].tolist()
    return [tokens[:limit] for tokens, limit in zip(made, limits, strict=True)]


def main() -> None:
    """Prints one table."""
    given = common.arguments(
        __doc__, task="socialiqa", rows=64, shots=4, new=60, largest=32, mean=0, hf_rows=0, alone=64
    )
    config, params, model = common.models()
    config = dataclasses.replace(config, eos_ids=())
    scorer = Scorer(config)
    params = scorer.place(params)
    requests, what = common.task_requests(
        given.task, given.rows, given.shots, max_new_tokens=given.new
    )
    if given.mean:
        ends = np.minimum(
            np.random.default_rng(0).geometric(1 / given.mean, len(requests)), given.new
        )
        requests = [
            dataclasses.replace(request, max_new_tokens=int(end))
            for request, end in zip(requests, ends, strict=True)
        ]
    wanted = [request.max_new_tokens for request in requests]
    print(
        f"{what}: {common.describe(requests)}; {min(wanted)}-{max(wanted)} new tokens, "
        f"{np.mean(wanted):.1f} on average"
    )
    ours = scorer.generate(params, requests)
    sizes = [size for size in (8, 16, 32) if size <= given.largest]
    theirs = hf_generate(model, requests[: sizes[0]])
    same = sum(list(made.tokens) == other for made, other in zip(ours, theirs, strict=False))
    print(f"same text in {same} of {sizes[0]} rows (random weights: near ties may go either way)")
    runs = {"ours": lambda: scorer.generate(params, requests)}
    if len(requests) > given.alone:

        def apart():
            for start in range(0, len(requests), given.alone):
                scorer.generate(params, requests[start : start + given.alone])

        apart()
        runs["apart"] = apart
    many = {size: given.hf_rows or size for size in sizes}

    def batches(size):
        for start in range(0, many[size], size):
            hf_generate(model, requests[start : start + size])

    runs |= {f"HF {size}": lambda size=size: batches(size) for size in sizes}
    seconds = common.interleave(runs, given.rounds)
    mine = seconds["ours"] / len(requests)
    lines = [("ours", mine, "")]
    if "apart" in runs:
        lines.append(
            (
                f"ours, {given.alone} rows a call, so that none is replaced",
                seconds["apart"] / len(requests),
                "",
            )
        )
    lines += [
        (f"HF generate, batch {size}", seconds[f"HF {size}"] / many[size], "3") for size in sizes
    ]
    common.table("greedy generation", lines, mine)


if __name__ == "__main__":
    main()
