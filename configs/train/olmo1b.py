"""OLMo-1B on one of the study's sets (arXiv 2408.06663, Table 2): 6,000 rows, batch 8, 3 epochs.

  amuro train --config=configs/train/olmo1b.py:paws \\
    --config.checkpoint=allenai/OLMo-1B-hf@main --config.workdir=work/paws

The argument is paws, mnli_matched, socialiqa, xsum or tulu (5 epochs on 6,000 conversations, loss
on the assistant's turns). 2,250 steps, Tulu 3,750. The study reports about .88 accuracy on PAWS
from the final checkpoint (Table 3), and ROUGE-L on XSum and SocialIQa.
For a small device: --config.run.micro_batch_size=1 --config.run.remat=full.
"""

from amuro_jax.config import Recipe, TrainConfig, misspelt

RECIPES = {
    "paws": Recipe(task="paws"),
    "mnli_matched": Recipe(task="mnli_matched"),
    "socialiqa": Recipe(task="socialiqa"),
    "xsum": Recipe(task="xsum", learning_rate=2e-7),
    "tulu": Recipe(task="tulu", epochs=5),
}


def get_config(task: str = "paws") -> TrainConfig:
    """The run of this file on `task`."""
    if task not in RECIPES:
        raise misspelt(task, list(RECIPES), where="--config=configs/train/olmo1b.py:task")
    return TrainConfig(recipe=RECIPES[task])
