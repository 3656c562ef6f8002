"""One checkpoint of the laboratory on its NLI set: a minute on a laptop.

  amuro train --config=configs/train/lab_nli.py --config.checkpoint=work/lab/checkpoints/NAME \\
    --config.data_root=work/lab/data --config.workdir=work/lab-nli

NAME is a folder of work/lab/checkpoints. The recipe is that of the default study (docs/lab.md).
"""

from amuro_jax.config import Dtype, Recipe, TrainConfig


def get_config() -> TrainConfig:
    """The run of this file."""
    recipe = Recipe(
        task="lab_nli",
        learning_rate=1e-3,
        epochs=2,
        batch_size=16,
        rows=2000,
        dtype=Dtype.FLOAT32,
    )
    return TrainConfig(recipe=recipe)
