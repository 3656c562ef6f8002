"""4-shot classification on CPU, fp32: ours against HF as the study ran it, HFLM, and torch with a hand-tuned prefix cache.

    python benchmarks/score_classification.py [--task=paws --rows=200 --shots=4 --threads=4]

The slow peers do fewer rows (their cost is the same for each); every figure is per row. Agreement is checked before anything is timed.
"""

import score_common as common

from amuro_jax.evals.scorer import Scorer


def main() -> None:
    """Prints one table."""
    given = common.arguments(__doc__, task="paws", rows=200, shots=4, hf_rows=8, hflm_rows=8, torch_batch=16)
    config, params, model = common.models()
    scorer = Scorer(config)
    params = scorer.place(params)
    one, what = common.task_requests(given.task, given.rows, given.shots, candidates="sub_tokens")
    labels, _ = common.task_requests(given.task, given.rows, given.shots)
    plan, label_plan = scorer.plan(one), scorer.plan(labels)
    print(f"{what}: {common.describe(one)}; {config.num_parameters / 1e6:.0f} M parameters, {given.threads} threads")
    for name, made in (("sub-token candidates", plan), ("whole labels", label_plan)):
        tokens = f"{made.plain_tokens:,} tokens plainly, {made.new_tokens:,} read, {made.padded_tokens:,} with padding"
        print(f"  {name}: {tokens}; lines {[part.tokens.shape for part in made.lines]}")
    few = labels[: given.hflm_rows]
    ours, ours_labels = scorer.loglikelihoods(params, plan), scorer.loglikelihoods(params, label_plan)
    hf = [common.hf_logprobs(model, request.context, request.continuations) for request in one[: given.hf_rows]]
    worst = max(abs(a - b) for result, values in zip(ours, hf, strict=False) for a, b in zip(result.logprob, values, strict=True))
    prefixes = {batch: common.TorchPrefix(model, batch) for batch in (given.torch_batch,)}
    mine = prefixes[given.torch_batch](one[:16])
    torch_worst = max(abs(a - b) for result, values in zip(ours, mine, strict=False) for a, b in zip(result.logprob, values, strict=True))
    harness = common.hflm(model, 8)
    theirs = harness(few)
    flat = [value for result in ours_labels[: len(few)] for value in result.logprob]
    harness_worst = max(abs(a - b) for a, (b, _) in zip(flat, theirs, strict=True))
    print(f"largest difference of a log-probability: HF {worst:.1e}, torch prefix {torch_worst:.1e}, HFLM {harness_worst:.1e}")
    assert max(worst, torch_worst, harness_worst) < 1e-3
    runs = {
        "ours": lambda: scorer.loglikelihoods(params, plan),
        "ours, whole labels": lambda: scorer.loglikelihoods(params, label_plan),
        "HF": lambda: [common.hf_logprobs(model, r.context, r.continuations) for r in one[: given.hf_rows]],
        "HFLM": lambda: harness(few),
    } | {f"torch prefix {batch}": lambda run=run: run(one) for batch, run in prefixes.items()}
    seconds = common.interleave(runs, given.rounds)
    rows = given.rows
    best = min(prefixes, key=lambda batch: seconds[f"torch prefix {batch}"])
    lines = [
        ("ours, sub-token candidates", seconds["ours"] / rows, ""),
        ("HF transformers, batch 1, all logits", seconds["HF"] / given.hf_rows, "10"),
        (f"torch, prefix KV by hand, batch {best}", seconds[f"torch prefix {best}"] / rows, "2"),
    ]
    common.table("one position per row", lines, seconds["ours"] / rows)
    whole = seconds["ours, whole labels"] / rows
    lines = [("ours, whole labels", whole, ""), ("lm-evaluation-harness HFLM, batch 8", seconds["HFLM"] / len(few), "24")]
    common.table("log-likelihood of whole labels", lines, whole)


if __name__ == "__main__":
    main()
