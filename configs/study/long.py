"""Do models that are tuned at a fixed rate get worse with more pre-training, and do base models and
noise on their weights foretell it? One laboratory of configs/lab/long.py, tuned on NLI at four
rates (docs/answers.md).

  amuro study --config=configs/study/long.py --config.suite=$LAB/checkpoints \\
    --config.data_root=$LAB/data --config.workdir=work/long/32-constant-0/study

Expect the table `foreseen`: per way of tuning and multiple-choice set the call that was made from
base models alone beside what the tuned ones did. One to two and a half minutes of one processor;
with a copy of `programs/` of another study of the same width there is less to compile.
"""

from amuro_jax.config import (
    Dtype,
    EvalSet,
    FineTune,
    Probe,
    Recipe,
    Role,
    Scoring,
    StudyConfig,
    WeightNoise,
)

SET = "lab_nli"
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2)


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="long",
        seeds=(42, 43, 44),
        shots=(0,),
        fine_tunes=tuple(
            FineTune(SET, variant=f"rate {rate:g}", learning_rate=rate) for rate in RATES
        ),
        evals=(
            EvalSet(SET, Role.IN_DOMAIN, of=(SET,)),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
            EvalSet("lab_events", Role.MULTIPLE_CHOICE),
        ),
        noise=WeightNoise(
            sigmas=(0.05, 0.1, 0.2, 0.4),
            draws=2,
            tasks=(SET, "lab_attributes", "lab_events"),
        ),
        probe=Probe(steps=4, held_out_rows=64),
        recipe=Recipe(
            rows=240,
            held_out_rows=40,
            epochs=2,
            batch_size=8,
            dtype=Dtype.FLOAT32,
            max_length=256,
        ),
        scoring=Scoring(rows=48, max_new_tokens=8, bootstrap=500),
    )
