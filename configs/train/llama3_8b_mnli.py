"""Llama3-8B on MNLI: the study's recipe for its second model: 2 epochs, batch 16, lr 5e-6.

  amuro train --config=configs/train/llama3_8b_mnli.py \\
    --config.checkpoint=meta-llama/Meta-Llama-3-8B --config.workdir=work/llama-mnli \
    --config.mesh=fsdp:-1

750 steps. fp32 parameters and two moments take 96 GB over the mesh. The other sets:
--config.task=paws, xsum, socialiqa.
"""

from amuro_jax.config import TrainConfig


def get_config() -> TrainConfig:
    """The run of this file."""
    return TrainConfig(
        task="mnli_matched", learning_rate=5e-6, epochs=2, batch_size=16, remat="full"
    )
