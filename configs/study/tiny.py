"""A study for tests: the tiny laboratory, two fine-tuning sets, minutes become seconds.

  amuro lab --config=configs/lab/tiny.py --config.out=work/tiny-lab
  amuro study --config=configs/study/tiny.py --config.suite=work/tiny-lab/checkpoints \\
    --config.data_root=work/tiny-lab/data \\
    --config.workdir=work/tiny-study

Its model has learned next to nothing: expect accuracies near chance.
"""

from amuro_jax.config import EvalSet, FineTune, ScoreConfig, StudyConfig, TrainConfig


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="tiny",
        select="log:2",
        formats="default,io",
        shots="2",
        fine_tunes=[FineTune(task="lab_nli"), FineTune(task="lab_summary")],
        evals=[
            EvalSet(task="lab_nli", role="in_domain", of="lab_nli"),
            EvalSet(task="lab_nli_ood", role="out_of_domain", of="lab_nli"),
            EvalSet(task="lab_summary", role="in_domain", of="lab_summary"),
            EvalSet(task="lab_attributes", role="multiple_choice"),
        ],
        train=TrainConfig(
            rows=32, epochs=1, batch_size=8, learning_rate=1e-3, dtype="float32", max_length=256
        ),
        score=ScoreConfig(rows=12, max_new_tokens=8, bootstrap=200),
    )
