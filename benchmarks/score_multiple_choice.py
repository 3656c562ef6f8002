"""4-shot multiple choice, 4 options, on CPU, fp32: ours against lm-evaluation-harness's HFLM (batch
8).

python benchmarks/score_multiple_choice.py [--task=arc_easy --rows=100 --shots=4 --threads=4]
"""

import score_common as common

from amuro_jax.scoring.scorer import Scorer


def main() -> None:
    """Prints one table."""
    given = common.arguments(__doc__, task="arc_easy", rows=100, shots=4, hflm_rows=4)
    config, params, model = common.models()
    scorer = Scorer(config)
    params = scorer.place(params)
    requests, what = common.task_requests(given.task, given.rows, given.shots)
    plan, few, harness = scorer.plan(requests), requests[: given.hflm_rows], common.hflm(model, 8)
    print(
        f"{what}: {common.describe(requests)}; {plan.plain_tokens:,} tokens plainly, "
        f"{plan.new_tokens:,} read, {plan.padded_tokens:,} with padding"
    )
    flat = [
        value
        for result in scorer.loglikelihoods(params, plan)[: len(few)]
        for value in result.logprob
    ]
    worst = max(abs(a - b) for a, (b, _) in zip(flat, harness(few), strict=True))
    print(f"largest difference of a log-probability: {worst:.1e}")
    assert worst < 1e-3
    seconds = common.interleave(
        {"ours": lambda: scorer.loglikelihoods(params, plan), "HFLM": lambda: harness(few)},
        given.rounds,
    )
    ours = seconds["ours"] / len(requests)
    common.table(
        "log-likelihood of every option",
        [("ours", ours, ""), ("HFLM, batch 8", seconds["HFLM"] / len(few), "20")],
        ours,
    )


if __name__ == "__main__":
    main()
