"""The same numbers as lm-evaluation-harness's HFLM: three real multiple-choice sets, the same
random OLMo of about 150 M parameters, fp32.

    AMURO_REAL_DATA=FOLDER python benchmarks/agreement.py [--rows=100 --shots=0 --threads=4]

Both models go through the harness's own `simple_evaluate` on the same YAML tasks, in the harness's
published prompt forms.
"""

import json
import tempfile
from pathlib import Path

import score_common as common
import transformers

# set: (folder, prompt, choices, target) in jinja, as the harness's tasks of these names ask
SETS = {
    "arc_easy": (
        "ai2_arc_easy",
        "Question: {{question}}\nAnswer:",
        "{{choices.text}}",
        "{{choices.label.index(answerKey)}}",
    ),
    "openbookqa": (
        "openbookqa",
        "{{question_stem}}",
        "{{choices.text}}",
        "{{choices.label.index(answerKey)}}",
    ),
    "hellaswag": ("hellaswag", "{{activity_label}}: {{ctx}}", "{{endings}}", "{{label}}"),
}


def write_tasks(folder: Path, shots: int) -> None:
    """One YAML task per set, over the local rows."""
    for name, (data, prompt, choices, target) in SETS.items():
        files = {"data_files": {"test": str(common.DATA / data / "validation.jsonl")}}
        task = {
            "task": f"agreement_{name}",
            "dataset_path": "json",
            "dataset_kwargs": files,
            "test_split": "test",
            "fewshot_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": prompt,
            "doc_to_choice": choices,
            "doc_to_target": target,
            "num_fewshot": shots,
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
        (folder / f"{name}.yaml").write_text(json.dumps(task))  # JSON is YAML


def main() -> None:
    """Prints one table."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from amuro_jax.evals.lm_eval import AmuroLM

    given = common.arguments(__doc__, rows=100, shots=0)
    _, _, model = common.models()
    # Three times the weights of the initialisation: logits far from uniform, so that choices differ
    # by more than rounding.
    for parameter in model.parameters():
        parameter.mul_(3)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        model.save_pretrained(scratch / "model")
        words = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(common.DATA / "tokenizers" / common.TOKENIZER),
            eos_token="<|endoftext|>",
            pad_token="<|padding|>",
        )
        words.save_pretrained(scratch / "model")
        write_tasks(scratch, given.shots)
        sides = {}
        for name, lm in (
            ("ours", AmuroLM(str(scratch / "model"))),
            ("HFLM", HFLM(pretrained=model, tokenizer=words, batch_size=8, device="cpu")),
        ):
            tasks = [f"agreement_{task}" for task in SETS]
            manager = TaskManager(include_path=str(scratch), include_defaults=False)
            sides[name] = lm_eval.simple_evaluate(
                lm, tasks=tasks, limit=given.rows, bootstrap_iters=0, task_manager=manager
            )
    print(
        f"\n{'set':<12}{'rows':>6}{'acc':>8}{'HFLM':>8}{'acc_norm':>10}{'HFLM':>8}"
        f"{'largest |logprob|':>19}{'difference':>12}{'greedy equal':>14}"
    )
    for task in SETS:
        ours, theirs = (sides[name]["samples"][f"agreement_{task}"] for name in ("ours", "HFLM"))
        pairs = [
            (mine, other)
            for one, two in zip(ours, theirs, strict=True)
            for mine, other in zip(one["filtered_resps"], two["filtered_resps"], strict=True)
        ]
        worst = max(abs(mine[0] - other[0]) for mine, other in pairs)
        largest = max(abs(other[0]) for _, other in pairs)
        same = all(mine[1] == other[1] for mine, other in pairs)
        scores = [
            [
                sides[name]["results"][f"agreement_{task}"][f"{metric},none"]
                for name in ("ours", "HFLM")
            ]
            for metric in ("acc", "acc_norm")
        ]
        (acc, acc_hf), (norm, norm_hf) = scores
        print(
            f"{task:<12}{len(ours):>6}{acc:>8.3f}{acc_hf:>8.3f}{norm:>10.3f}{norm_hf:>8.3f}"
            f"{largest:>19.1f}{worst:>12.1e}{same!s:>14}"
        )
        assert acc == acc_hf and norm == norm_hf


if __name__ == "__main__":
    main()
