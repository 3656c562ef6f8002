"""How much of a study is the luck of one training seed? The laboratory's NLI and paraphrase sets,
five seeds of each training.

  amuro study --config=configs/study/seeds.py --config.suite=work/lab/checkpoints \\
    --config.data_root=work/lab/data --config.workdir=work/seeds

A seed orders the examples. Expect the table `seeds`: mean and standard deviation of every
fine-tuned score over the five, beside its standard error over test rows; all other tables show
means over seeds.

`amuro plan`: 80 fine-tunings and 272 scores, under 0.001 chip-hours of a v5e by roofline (models as
small are bound by launches), 0.05 GB of disk.
"""

from amuro_jax.config import Dtype, EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig

SETS = ("lab_nli", "lab_paraphrase")


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="seeds",
        seeds=(42, 43, 44, 45, 46),
        formats=("default",),
        shots=(0,),
        fine_tunes=tuple(FineTune(task, rows=1000, learning_rate=5e-4) for task in SETS),
        evals=(
            *(EvalSet(name, Role.IN_DOMAIN, of=(name,)) for name in SETS),
            *(EvalSet(f"{name}_ood", Role.OUT_OF_DOMAIN, of=(name,)) for name in SETS),
        ),
        recipe=Recipe(batch_size=16, dtype=Dtype.FLOAT32, max_length=256),
        scoring=Scoring(rows=150, max_new_tokens=24),
    )
