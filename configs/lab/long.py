"""Very small laboratories that are trained for long, for one question: can it be foreseen whether
models tuned at a fixed rate get worse with more pre-training (docs/answers.md).

  amuro lab --config=configs/lab/long.py:32,constant,0 --config.out=work/long/32-constant-0/lab

The argument is WIDTH,SCHEDULE,SEED: the model's hidden size; `constant`, `annealed` or `cosine`;
the seed of the pre-training. World, data sets, tokenizer and corpus (4,000 documents, read 34
times) are the same for all. 0.06 M parameters at width 32, 0.12 M at 48; one and a half to three
and a half minutes on one core each. Width 48 with seed 0 at a constant rate saturates within
these 6,000 steps (the right answer of lab_attributes has a mean log-probability of −0.15), seed 1
and width 32 do not. `benchmarks/foreseen.py` has a loop over twenty of them and judges the calls.
"""

from amuro_jax.config import LabConfig, LabModel, Schedule
from amuro_jax.errors import ConfigError


def get_config(argument: str = "32,constant,0") -> LabConfig:
    """The laboratory of a width, a schedule and a seed of the pre-training."""
    width, schedule, seed, *more = (*argument.split(","), "", "")
    known = width.isdecimal() and schedule in list(Schedule) and seed.isdecimal()
    if not known or any(more) or int(width) % 4:
        raise ConfigError(
            f"not WIDTH,SCHEDULE,SEED: {argument!r}",
            where="configs/lab/long.py",
            hint=f"a width that 4 divides; schedules {', '.join(Schedule)}; as 32,constant,0",
        )
    size = int(width)
    return LabConfig(
        model=LabModel(hidden_size=size, num_layers=2, num_heads=2, mlp_size=3 * size),
        creatures=8,
        corpus_documents=4000,
        train_rows=240,
        test_rows=48,
        learning_rate=5e-3,
        steps=6000,
        batch_size=8,
        checkpoints=6,
        first_checkpoint=300,
        save_every=6000,
        schedule=Schedule(schedule),
        pretraining_seed=int(seed),
    )
