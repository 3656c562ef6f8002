"""A study for tests: the tiny laboratory, two fine-tuning sets, minutes become seconds.

  amuro lab --config=configs/lab/tiny.py --config.out=work/tiny-lab
  amuro study --config=configs/study/tiny.py --config.suite=work/tiny-lab/checkpoints \\
    --config.data_root=work/tiny-lab/data --config.workdir=work/tiny-study

Its model has learned next to nothing: expect accuracies near chance.
"""

from amuro_jax.config import Dtype, EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="tiny",
        select="log:2",
        formats=("default", "io"),
        shots=(2,),
        fine_tunes=(FineTune("lab_nli"), FineTune("lab_summary")),
        evals=(
            EvalSet("lab_nli", Role.IN_DOMAIN, of=("lab_nli",)),
            EvalSet("lab_nli_ood", Role.OUT_OF_DOMAIN, of=("lab_nli",)),
            EvalSet("lab_summary", Role.IN_DOMAIN, of=("lab_summary",)),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
        ),
        recipe=Recipe(
            rows=32,
            epochs=1,
            batch_size=8,
            learning_rate=1e-3,
            dtype=Dtype.FLOAT32,
            max_length=256,
        ),
        scoring=Scoring(rows=12, max_new_tokens=8, bootstrap=200),
    )
