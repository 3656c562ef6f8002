"""Does fine-tuning make a model less sensitive to its prompt, and from which checkpoint on? Three
formats and seven perturbations that keep their meaning.

  amuro study --config=configs/study/prompt_sensitivity.py --config.suite=work/lab/checkpoints \\
    --config.data_root=work/lab/data --config.workdir=work/prompts

Expect the tables `format_sensitivity` (best − worst format by checkpoint, base and fine-tuned) and
`format_spread` (the spread beside the one that equal formats would show by chance).

`amuro plan`: 16 fine-tunings and 240 scores, under 0.001 chip-hours of a v5e by roofline (models as
small are bound by launches), 0.05 GB of disk.
"""

from amuro_jax.config import Dtype, EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig

SETS = ("lab_nli", "lab_paraphrase")
FORMATS = (
    "default",
    "instruct",
    "io",
    "default~sep=newline",
    "default~case=upper",
    "default~space=two",
    "default~labels=letters",
)


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="prompt sensitivity",
        formats=FORMATS,
        shots=(0,),
        fine_tunes=tuple(FineTune(task, rows=1000, learning_rate=5e-4) for task in SETS),
        evals=tuple(EvalSet(name, Role.IN_DOMAIN, of=(name,)) for name in SETS),
        recipe=Recipe(batch_size=16, dtype=Dtype.FLOAT32, max_length=256),
        scoring=Scoring(rows=150),
    )
