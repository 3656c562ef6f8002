"""Greedy generation, 60 new tokens, 4-shot prompts, on CPU, fp32: ours against HF generate with its KV cache.

    python benchmarks/score_generation.py [--task=socialiqa --rows=64 --shots=4 --new=60 --threads=4]

No eos on either side, so that both make every token. HF does one batch of each size; every figure is per row.
"""

import dataclasses

import score_common as common
import torch

from amuro_jax.evals.scorer import Scorer


def hf_generate(model, requests, new):
    """HF's generate for one left-padded batch; ids of the new tokens."""
    width = max(len(request.context) for request in requests)
    ids = torch.tensor([[1] * (width - len(r.context)) + list(r.context) for r in requests])
    mask = torch.tensor([[0] * (width - len(r.context)) + [1] * len(r.context) for r in requests])
    made = model.generate(ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=1)
    return made[:, width:].tolist()


def main() -> None:
    """Prints one table."""
    given = common.arguments(__doc__, task="socialiqa", rows=64, shots=4, new=60, largest=32)
    config, params, model = common.models()
    config = dataclasses.replace(config, eos_id=None)
    scorer = Scorer(config)
    params = scorer.place(params)
    requests, what = common.task_requests(given.task, given.rows, given.shots, max_new_tokens=given.new)
    print(f"{what}: {common.describe(requests)}; {given.new} new tokens")
    ours = scorer.generate(params, requests)
    sizes = [size for size in (8, 16, 32) if size <= given.largest]
    theirs = hf_generate(model, requests[: sizes[0]], given.new)
    same = sum(list(made.tokens) == other for made, other in zip(ours, theirs, strict=False))
    print(f"same text in {same} of {sizes[0]} rows (random weights: near ties may go either way)")
    runs = {"ours": lambda: scorer.generate(params, requests)}
    runs |= {f"HF {size}": lambda size=size: hf_generate(model, requests[:size], given.new) for size in sizes}
    seconds = common.interleave(runs, given.rounds)
    mine = seconds["ours"] / len(requests)
    lines = [("ours", mine, "")] + [(f"HF generate, batch {size}", seconds[f"HF {size}"] / size, "3") for size in sizes]
    common.table("greedy generation", lines, mine)


if __name__ == "__main__":
    main()
