"""The default study on the default laboratory: every checkpoint × four fine-tuning sets, in-domain,
out-of-domain, cross-task, three formats.

  amuro lab --config=configs/lab/default.py --config.out=work/lab
  amuro study --config=configs/study/lab.py --config.suite=work/lab/checkpoints \\
    --config.data_root=work/lab/data --config.workdir=work/study

Expect (docs/lab.md has the figures): multiple choice rises over pre-training; NLI and paraphrase
stay near the majority until they are fine-tuned,
and fine-tuning raises them only from checkpoints that have learned the words: the early ones cannot
answer what training rows do not compare.
"""

from amuro_jax.config import EvalSet, FineTune, ScoreConfig, StudyConfig, TrainConfig

SETS = ("lab_nli", "lab_paraphrase", "lab_question", "lab_summary")


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="lab",
        formats="default,instruct,io",
        shots="0",  # as they are fine-tuned; shots before the query cost some points (docs/lab.md)
        fine_tunes=[
            FineTune(task="lab_nli", rows=1000, epochs=3, learning_rate=5e-4),
            FineTune(task="lab_paraphrase", rows=1000, epochs=3, learning_rate=5e-4),
            FineTune(task="lab_question", rows=400, epochs=2),
            FineTune(task="lab_summary", rows=400, epochs=2),
        ],
        evals=[
            *(EvalSet(task=name, role="in_domain", of=name) for name in SETS),
            *(EvalSet(task=f"{name}_ood", role="out_of_domain", of=name) for name in SETS),
            EvalSet(task="lab_attributes", role="multiple_choice", shots="4"),
            EvalSet(task="lab_events", role="multiple_choice", shots="4"),
        ],
        train=TrainConfig(batch_size=16, learning_rate=1e-3, dtype="float32", max_length=256),
        score=ScoreConfig(rows=150, max_new_tokens=24),
    )
