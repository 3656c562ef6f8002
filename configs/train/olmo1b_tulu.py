"""OLMo-1B on TULU v2: the study's instruction tuning (arXiv 2408.06663): 5 epochs, batch 8, lr
2e-6, loss on assistant turns.

  amuro train --config=configs/train/olmo1b_tulu.py --config.checkpoint=allenai/OLMo-1B-hf@main \\
    --config.workdir=work/tulu

3,750 steps on 6,000 conversations. What it changes is measured on the multiple-choice sets.
"""

from amuro_jax.config import TrainConfig


def get_config() -> TrainConfig:
    """The run of this file."""
    return TrainConfig(task="tulu", learning_rate=2e-6, epochs=5, batch_size=8)
