"""The default study on the default laboratory: every checkpoint × four fine-tuning sets, in-domain,
out-of-domain, cross-task, three formats.

  amuro lab --config=configs/lab/default.py --config.out=work/lab
  amuro study --config=configs/study/lab.py --config.suite=work/lab/checkpoints \\
    --config.data_root=work/lab/data --config.workdir=work/study

Expect (docs/lab.md has the figures): multiple choice rises over pre-training; NLI and paraphrase
stay near the majority until they are fine-tuned, and fine-tuning raises them only from checkpoints
that have learned the words: the early ones cannot answer what training rows do not compare.

`amuro plan`: 32 fine-tunings and 432 scores, under 0.001 chip-hours of a v5e by roofline (models as
small are bound by launches), 0.05 GB of disk.
"""

from amuro_jax.config import Dtype, EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig

SETS = ("lab_nli", "lab_paraphrase", "lab_question", "lab_summary")


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="lab",
        formats=("default", "instruct", "io"),
        shots=(0,),  # as they are fine-tuned; shots before the query cost some points (docs/lab.md)
        fine_tunes=(
            FineTune("lab_nli", rows=1000, epochs=3, learning_rate=5e-4),
            FineTune("lab_paraphrase", rows=1000, epochs=3, learning_rate=5e-4),
            FineTune("lab_question", rows=400, epochs=2),
            FineTune("lab_summary", rows=400, epochs=2),
        ),
        evals=(
            *(EvalSet(name, Role.IN_DOMAIN, of=(name,)) for name in SETS),
            *(EvalSet(f"{name}_ood", Role.OUT_OF_DOMAIN, of=(name,)) for name in SETS),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE, shots=(4,)),
            EvalSet("lab_events", Role.MULTIPLE_CHOICE, shots=(4,)),
        ),
        recipe=Recipe(batch_size=16, learning_rate=1e-3, dtype=Dtype.FLOAT32, max_length=256),
        scoring=Scoring(rows=150, max_new_tokens=24),
    )
