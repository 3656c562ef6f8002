"""OLMo-1B on xsum: the study's recipe (arXiv 2408.06663, Table 2): 6,000 rows, 3 epochs, batch 8,
lr 2e-7.

  amuro train --config=configs/train/olmo1b_xsum.py --config.checkpoint=allenai/OLMo-1B-hf@main \\
    --config.workdir=work/xsum

2,250 steps. The score is ROUGE-L on XSum.
For a small device: --config.micro_batch_size=1 --config.remat=full.
"""

from amuro_jax.config import TrainConfig


def get_config() -> TrainConfig:
    """The run of this file."""
    return TrainConfig(task="xsum", learning_rate=2e-7, epochs=3, batch_size=8)
