"""Full fine-tuning against LoRA on one grid, three seeds each: do a study's conclusions hang on how
its models are tuned?

  amuro study --config=configs/study/lora_vs_full.py --config.suite=work/lab/checkpoints \\
    --config.data_root=work/lab/data --config.workdir=work/lora-vs-full

The same checkpoints, rows, seeds and test sets; LoRA adapts every projection, with its own rate.
Expect two tables more in the report than in `lab.py`: `variants` (LoRA − full on the same rows, by
checkpoint, with Holm's correction) and `seeds` (mean and standard deviation over the seeds); all
other sections show full fine-tuning. `lora_vs_full.py:tiny` is the same in seconds, for tests.

`amuro plan`: 48 fine-tunings and 212 scores, under 0.001 chip-hours of a v5e by roofline (models as
small are bound by launches), 0.04 GB of disk.
"""

import dataclasses

from amuro_jax.config import (
    Dtype,
    EvalSet,
    FineTune,
    Recipe,
    Role,
    Scoring,
    StudyConfig,
    misspelt,
)

SETS = ("lab_nli", "lab_paraphrase")


def get_config(size: str = "lab") -> StudyConfig:
    """The study of this file."""
    if size not in ("lab", "tiny"):
        raise misspelt(size, ["lab", "tiny"], where="--config=configs/study/lora_vs_full.py:size")
    made = StudyConfig(
        name="LoRA against full fine-tuning",
        select="log:4",
        seeds=(42, 43, 44),
        formats=("default",),
        shots=(0,),
        fine_tunes=tuple(
            entry
            for task in SETS
            for entry in (
                FineTune(task, learning_rate=5e-4),
                FineTune(task, variant="lora", learning_rate=5e-3, lora_rank=8),
            )
        ),
        evals=(
            *(EvalSet(name, Role.IN_DOMAIN, of=(name,)) for name in SETS),
            *(EvalSet(f"{name}_ood", Role.OUT_OF_DOMAIN, of=(name,)) for name in SETS),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE, shots=(4,)),
        ),
        recipe=Recipe(rows=1000, batch_size=16, dtype=Dtype.FLOAT32, max_length=256),
        scoring=Scoring(rows=150, max_new_tokens=24),
    )
    return made if size == "lab" else _tiny(made)


def _tiny(config: StudyConfig) -> StudyConfig:
    recipe = dataclasses.replace(config.recipe, rows=16, epochs=1, batch_size=8)
    scoring = dataclasses.replace(config.scoring, rows=6, bootstrap=50)
    return dataclasses.replace(
        config,
        select="log:1",
        seeds=(42, 43),
        fine_tunes=config.fine_tunes[:2],
        evals=config.evals[:1],
        recipe=recipe,
        scoring=scoring,
    )
