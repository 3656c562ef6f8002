"""Laboratories for the long grid (docs/answers.md): one world, pre-trained several times, far past
where the default stops.

  amuro lab --config=configs/lab/answers.py:small,constant,0 --config.out=work/answers/small-0

The argument is SIZE,SCHEDULE,SEED: `small` (0.5 M parameters), `medium` (3 M), `large` (9 M), or
`micro` (0.2 M), for two cores; `constant`, `annealed` or `cosine`; the seed of the pre-training.
The data sets, the tokenizer and the corpus are the same for all, so that scores of two laboratories
are of the same rows.

12,000 steps (24.6 M tokens, seven passes over the corpus) are six times the default's; the
checkpoints are at equal distances, so that late ones are neighbours whose average means something.
A fourth part makes it shorter, for a machine with two cores: `middle` is 8,000 steps of half the
batch (twice the default's tokens), `short` 4,000 of them, checkpoints at equal ratios.
"""

from amuro_jax.config import LabConfig, LabModel, Schedule, Spacing
from amuro_jax.errors import ConfigError

SIZES = {
    "micro": LabModel(hidden_size=64, num_layers=2, num_heads=4, mlp_size=192),
    "small": LabModel(hidden_size=96, num_layers=3, num_heads=4, mlp_size=288),
    "medium": LabModel(hidden_size=192, num_layers=6, num_heads=6, mlp_size=576),
    "large": LabModel(hidden_size=288, num_layers=8, num_heads=8, mlp_size=864),
}
LENGTHS = {
    "": {
        "steps": 12000,
        "checkpoints": 12,
        "first_checkpoint": 100,
        "spacing": Spacing.LINEAR,
    },
    "middle": {
        "steps": 8000,
        "batch_size": 16,
        "checkpoints": 8,
        "first_checkpoint": 100,
        "spacing": Spacing.LINEAR,
    },
    "short": {"steps": 4000, "batch_size": 16, "checkpoints": 8, "first_checkpoint": 100},
}


def get_config(argument: str = "small,constant,0") -> LabConfig:
    """The laboratory of a size, a schedule and a seed of the pre-training."""
    size, schedule, seed, length, *more = (*argument.split(","), "", "", "")
    known = size in SIZES and schedule in list(Schedule) and length in LENGTHS
    if not (known and seed.isdecimal()) or any(more):
        raise ConfigError(
            f"not SIZE,SCHEDULE,SEED or SIZE,SCHEDULE,SEED,LENGTH: {argument!r}",
            where="configs/lab/answers.py",
            hint=f"sizes {', '.join(SIZES)}; schedules {', '.join(Schedule)}; lengths "
            f"{', '.join(filter(None, LENGTHS))}; as small,constant,0",
        )
    return LabConfig(
        model=SIZES[size],
        save_every=1000,
        schedule=Schedule(schedule),
        pretraining_seed=int(seed),
        **LENGTHS[length],
    )
