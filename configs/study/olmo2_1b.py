"""OLMo-2-1B over its first pre-training stage: eight checkpoints, NLI, paraphrase and instruction
tuning.

  amuro study --config=configs/study/olmo2_1b.py --config.workdir=work/olmo2-1b \\
    --config.disk_budget_gb=60

`--config.select="stage=2;log:4"` takes the second stage instead. Three rates are tried for each
checkpoint (docs/study.md), so that the answer does not hang on one. `amuro plan` with
--topology=v5p:2x2x1: 72 fine-tunings and 336 scores, 3.9 chip-hours, 89 GB of disk. Expect
multiple choice to rise over the first stage, and NLI and paraphrase to need fine-tuning.
"""

from amuro_jax.config import Dtype, EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig

CHOICES = ("arc_easy", "arc_challenge", "openbookqa", "hellaswag", "boolq", "sciq_choice")
RATES = (5e-7, 2e-6, 1e-5)


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="OLMo-2-1B",
        suite="allenai/OLMo-2-0425-1B",
        select="stage=1;log:8",
        formats=("default", "instruct", "io"),
        shots=(4,),
        fine_tunes=(
            FineTune("mnli_matched", learning_rates=RATES, held_out_rows=500),
            FineTune("paws", learning_rates=RATES, held_out_rows=500),
            FineTune("tulu", epochs=2, rows=20000),
        ),
        evals=(
            EvalSet("mnli_matched", Role.IN_DOMAIN, of=("mnli_matched",)),
            EvalSet("paws", Role.IN_DOMAIN, of=("paws",)),
            EvalSet("rte", Role.OUT_OF_DOMAIN, of=("mnli_matched",)),
            EvalSet("qqp", Role.OUT_OF_DOMAIN, of=("paws",)),
            *(EvalSet(name, Role.MULTIPLE_CHOICE, of=("tulu",)) for name in CHOICES),
        ),
        recipe=Recipe(),
        scoring=Scoring(dtype=Dtype.BFLOAT16),
    )
