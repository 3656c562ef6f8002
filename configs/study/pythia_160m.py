"""A small open series on one GPU: Pythia-160m, eight checkpoints, NLI and paraphrase.

  amuro study --config=configs/study/pythia_160m.py --config.workdir=work/pythia-160m \\
    --config.disk_budget_gb=10

Its 154 checkpoints begin at step 0: `--config.select=log:16` takes more of them. The
multiple-choice sets are scored by every model; expect ARC-e to rise in pre-training, and NLI to
need fine-tuning. `amuro plan` with --topology=h100:1: 16 fine-tunings and 208
scores, 0.02 chip-hours by roofline (a model as small is bound by launches), 10 GB of disk.
"""

from amuro_jax.config import EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig

CHOICES = ("arc_easy", "sciq_choice", "piqa", "hellaswag")


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="Pythia-160m",
        suite="EleutherAI/pythia-160m",
        select="log:8",
        formats=("default", "io"),
        shots=(4,),
        fine_tunes=(FineTune("mnli_matched"), FineTune("paws")),
        evals=(
            EvalSet("mnli_matched", Role.IN_DOMAIN, of=("mnli_matched",)),
            EvalSet("paws", Role.IN_DOMAIN, of=("paws",)),
            EvalSet("rte", Role.OUT_OF_DOMAIN, of=("mnli_matched",)),
            EvalSet("qqp", Role.OUT_OF_DOMAIN, of=("paws",)),
            *(EvalSet(name, Role.MULTIPLE_CHOICE) for name in CHOICES),
        ),
        recipe=Recipe(learning_rate=2e-5),
        scoring=Scoring(rows=2000),
    )
