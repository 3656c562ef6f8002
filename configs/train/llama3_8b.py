"""Llama3-8B on one set: the study's recipe for its second model: 2 epochs, batch 16, lr 5e-6.

  amuro train --config=configs/train/llama3_8b.py:mnli_matched \\
    --config.checkpoint=meta-llama/Meta-Llama-3-8B --config.workdir=work/llama-mnli \\
    --config.run.mesh=fsdp:-1

750 steps. fp32 parameters and two moments take 96 GB over the mesh. The argument is any set that is
trained on: mnli_matched, paws, xsum, socialiqa.
"""

from amuro_jax.config import Recipe, Remat, TrainConfig, TrainRun


def get_config(task: str = "mnli_matched") -> TrainConfig:
    """The run of this file on `task`."""
    recipe = Recipe(task=task, learning_rate=5e-6, epochs=2, batch_size=16)
    return TrainConfig(recipe=recipe, run=TrainRun(remat=Remat.FULL))
