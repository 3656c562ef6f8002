"""What fine-tuning gives in one of several worlds: 8 checkpoints, four fine-tuning sets, three
seeds of each training. For predicting one world from others (docs/predict.md).

  for seed in 0 1 2 3 4; do
    to=work/worlds/$seed
    amuro lab --config=configs/lab/worlds.py:$seed --config.out=$to/lab
    amuro study --config=configs/study/worlds.py --config.suite=$to/lab/checkpoints \\
      --config.data_root=$to/lab/data --config.workdir=$to/study
  done
  amuro predict work/worlds/*/study

Expect the table that docs/predict.md has. `amuro plan`: 96 fine-tunings, 784 scores of 100 rows and
32 probes.
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
    TrainRun,
)

PAIRS, TEXTS = ("lab_nli", "lab_paraphrase"), ("lab_question", "lab_summary")


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="worlds",
        seeds=(42, 43, 44),
        shots=(0,),
        fine_tunes=(
            *(FineTune(task, rows=240) for task in PAIRS),
            *(FineTune(task, rows=160) for task in TEXTS),
        ),
        evals=(
            *(EvalSet(name, Role.IN_DOMAIN, of=(name,)) for name in PAIRS + TEXTS),
            *(EvalSet(f"{name}_ood", Role.OUT_OF_DOMAIN, of=(name,)) for name in PAIRS + TEXTS),
            EvalSet("lab_paraphrase_said", Role.OUT_OF_DOMAIN, of=("lab_paraphrase",)),
            EvalSet("lab_attributes", Role.MULTIPLE_CHOICE),
            EvalSet("lab_events", Role.MULTIPLE_CHOICE),
        ),
        recipe=Recipe(
            epochs=2, batch_size=16, learning_rate=1e-3, dtype=Dtype.FLOAT32, max_length=256
        ),
        probe=Probe(steps=8),
        scoring=Scoring(rows=100, max_new_tokens=20),
        train_run=TrainRun(save_every=1000),  # a training takes seconds: no state on the way
    )
