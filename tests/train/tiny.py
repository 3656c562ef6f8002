"""A tiny model and a task that it can learn: the completion repeats a token of the prompt."""

import numpy as np

from amuro_jax.config import Recipe, TrainRun
from amuro_jax.data.types import TrainExample
from amuro_jax.models.config import ModelConfig

MODEL = ModelConfig("olmo", 64, 32, 2, 4, 4, 8, 48, 64)
RECIPE = Recipe(batch_size=8, epochs=2, learning_rate=3e-3, dtype="float32")
RUN = TrainRun(log_every=1)


def examples(count: int = 28, seed: int = 0) -> list[TrainExample]:
    rng, made = np.random.default_rng(seed), []
    for row in range(count):
        tokens = rng.integers(3, 64, rng.integers(6, 24)).astype(np.int32)
        learned = rng.integers(1, 4)
        tokens[-learned:] = tokens[0] % 5 + 3
        made.append(TrainExample(tokens, np.arange(len(tokens)) >= len(tokens) - learned, row))
    return made
