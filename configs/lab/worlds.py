"""Laboratories that differ in the world: other facts, texts, data sets, corpus, initial weights.
For judging what is said of a series that was never fine-tuned (docs/predict.md).

  amuro lab --config=configs/lab/worlds.py:0 --config.out=work/worlds/0/lab

The argument is the seed. 0.19 M parameters and half the tokens of `default`: seven minutes of one
processor a world, with `configs/study/worlds.py`. NLI and paraphrase are not learned at this size.
"""

from amuro_jax.config import LabConfig, LabModel
from amuro_jax.errors import ConfigError


def get_config(seed: str = "0") -> LabConfig:
    """The laboratory of a seed."""
    if not seed.isdecimal():
        raise ConfigError(f"not a seed: {seed!r}", where="configs/lab/worlds.py", hint="as 0")
    return LabConfig(
        seed=int(seed),
        model=LabModel(hidden_size=64, num_layers=2, num_heads=4, mlp_size=192),
        corpus_documents=100000,
        batch_size=16,
        steps=2000,
        checkpoints=8,
        first_checkpoint=100,
        save_every=1000,
    )
