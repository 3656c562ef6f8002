"""Can a model be trained too long to be fine-tuned? (arXiv 2503.19206: OLMo-1B is worse after
instruction tuning at 3 T tokens than at 2.3 T.) A laboratory that is pre-trained at a constant rate
far past saturation.

  amuro lab --config=configs/lab/answers.py:small,constant,0 --config.out=work/answers/lab
  amuro study --config=configs/study/overtraining.py --config.suite=work/answers/lab/checkpoints \\
    --config.data_root=work/answers/lab/data --config.workdir=work/overtraining

Each checkpoint is tuned at a low, a middle and a high rate of its own variant, and at the one that
held-out rows choose: a fall that only a fixed rate shows is about the rate. Expect the table
`overtraining`: per curve the fall from its peak with an interval for the turn, "no fall found"
where the rows cannot tell one; `sensitivity`: what noise on the weights costs the base models; and,
as forgetting, the change of the multiple-choice sets by fine-tuning.
"""

from amuro_jax.config import (
    Dtype,
    EvalSet,
    FineTune,
    Recipe,
    Role,
    Scoring,
    StudyConfig,
    WeightNoise,
)

SET = "lab_nli"
RATES = (1e-4, 5e-4, 2e-3)


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="overtraining",
        seeds=(42, 43, 44),
        shots=(0,),
        fine_tunes=(
            FineTune(SET, learning_rate=5e-4, learning_rates=RATES),
            FineTune(SET, variant="low rate", learning_rate=1e-4),
            FineTune(SET, variant="high rate", learning_rate=2e-3),
        ),
        evals=(
            EvalSet(SET, Role.IN_DOMAIN, of=(SET,)),
            EvalSet(f"{SET}_ood", Role.OUT_OF_DOMAIN, of=(SET,)),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE, shots=(4,)),
            EvalSet("lab_events", Role.MULTIPLE_CHOICE, shots=(4,)),
        ),
        noise=WeightNoise(sigmas=(0.03, 0.1, 0.3), draws=3),
        recipe=Recipe(
            rows=1000,
            held_out_rows=100,
            batch_size=16,
            dtype=Dtype.FLOAT32,
            max_length=256,
        ),
        scoring=Scoring(rows=150, max_new_tokens=24),
    )
