"""OLMo-1B on socialiqa: the study's recipe (arXiv 2408.06663, Table 2): 6,000 rows, 3 epochs, batch
8, lr 2e-6.

  amuro train --config=configs/train/olmo1b_socialiqa.py \\
    --config.checkpoint=allenai/OLMo-1B-hf@main --config.workdir=work/socialiqa

2,250 steps. The study reports ROUGE-L on SocialIQa questions.
For a small device: --config.micro_batch_size=1 --config.remat=full.
"""

from amuro_jax.config import TrainConfig


def get_config() -> TrainConfig:
    """The run of this file."""
    return TrainConfig(task="socialiqa", learning_rate=2e-6, epochs=3, batch_size=8)
