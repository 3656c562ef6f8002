"""4-shot classification on CPU, fp32: ours against HF as the study ran it, HFLM, and torch with a
hand-tuned prefix cache.

    python benchmarks/score_classification.py [--task=paws --rows=200 --shots=4 --threads=4]

The slow peers do fewer rows (their cost is the same for each); every figure is per row. Agreement
is checked before anything is timed.
"""

import score_common as common

from amuro_jax.scoring.scorer import Scorer


def main() -> None:
    """Prints one table."""
    given = common.arguments(
        __doc__,
        task="paws",
        rows=200,
        shots=4,
        hf_rows=8,
        hflm_rows=8,
        torch_batches="1,16",
        torch_label_rows=64,
    )
    config, params, model = common.models()
    scorer = Scorer(config)
    params = scorer.place(params)
    one, what = common.task_requests(given.task, given.rows, given.shots, candidates="sub_tokens")
    labels, _ = common.task_requests(given.task, given.rows, given.shots)
    plan, label_plan = scorer.plan(one), scorer.plan(labels)
    print(
        f"{what}: {common.describe(one)}; "
        f"{config.num_parameters / 1e6:.0f} M parameters, {given.threads} threads"
    )
    for name, made in (("sub-token candidates", plan), ("whole labels", label_plan)):
        tokens = (
            f"{made.plain_tokens:,} tokens plainly, {made.new_tokens:,} read, "
            f"{made.padded_tokens:,} with padding"
        )
        print(f"  {name}: {tokens}; lines {[part.tokens.shape for part in made.lines]}")
    few = labels[: given.hflm_rows]
    ours, ours_labels = (
        scorer.loglikelihoods(params, plan),
        scorer.loglikelihoods(params, label_plan),
    )
    hf = [
        common.hf_logprobs(model, request.context, request.continuations)
        for request in one[: given.hf_rows]
    ]
    worst = max(
        abs(a - b)
        for result, values in zip(ours, hf, strict=False)
        for a, b in zip(result.logprob, values, strict=True)
    )
    prefixes = {
        batch: common.TorchPrefix(model, batch)
        for batch in map(int, given.torch_batches.split(","))
    }
    torch_worst = max(
        abs(a - b)
        for prefix in prefixes.values()
        for requests, results in ((one, ours), (labels, ours_labels))
        for result, values in zip(results, prefix(requests[:16]), strict=False)
        for a, b in zip(result.logprob, values, strict=True)
    )
    harness = common.hflm(model, 8)
    theirs = harness(few)
    flat = [value for result in ours_labels[: len(few)] for value in result.logprob]
    harness_worst = max(abs(a - b) for a, (b, _) in zip(flat, theirs, strict=True))
    print(
        f"largest difference of a log-probability: HF {worst:.1e}, "
        f"torch prefix {torch_worst:.1e}, HFLM {harness_worst:.1e}"
    )
    assert max(worst, torch_worst, harness_worst) < 1e-3
    runs = {
        "ours": lambda: scorer.loglikelihoods(params, plan),
        "ours, whole labels": lambda: scorer.loglikelihoods(params, label_plan),
        "HF": lambda: [
            common.hf_logprobs(model, r.context, r.continuations) for r in one[: given.hf_rows]
        ],
        "HFLM": lambda: harness(few),
    }
    for batch, prefix in prefixes.items():
        runs[f"torch prefix {batch}"] = lambda prefix=prefix: prefix(one)
        runs[f"torch prefix {batch}, whole labels"] = lambda prefix=prefix: prefix(
            labels[: given.torch_label_rows]
        )
    seconds = common.interleave(runs, given.rounds)
    rows = given.rows
    lines = [("ours, sub-token candidates", seconds["ours"] / rows, "")]
    lines += [("HF transformers, batch 1, all logits", seconds["HF"] / given.hf_rows, "10")]
    lines += [
        (f"torch, prefix KV by hand, batch {batch}", seconds[f"torch prefix {batch}"] / rows, "2")
        for batch in prefixes
    ]
    common.table("one position per row", lines, seconds["ours"] / rows)
    whole = seconds["ours, whole labels"] / rows
    lines = [
        ("ours, whole labels", whole, ""),
        ("lm-evaluation-harness HFLM, batch 8", seconds["HFLM"] / len(few), "24"),
    ]
    for batch in prefixes:
        lines.append(
            (
                f"torch, prefix KV by hand, batch {batch}",
                seconds[f"torch prefix {batch}, whole labels"] / given.torch_label_rows,
                "2",
            )
        )
    common.table("log-likelihood of whole labels", lines, whole)


if __name__ == "__main__":
    main()
