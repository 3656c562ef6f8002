"""The published study's second model: Llama3-8B, final checkpoint only, the four task sets.

  amuro study --config=configs/study/paper_llama3_8b.py --config.workdir=work/paper-llama3 \\
    --config.train_run.mesh=fsdp:-1 --config.score_run.mesh=tensor:-1

A gated model: set HF_TOKEN. 2 epochs, batch 16, rate 5e-6 (arXiv 2408.06663, section 3); fp32
parameters and two moments take 96 GB over the mesh. `amuro plan` with --topology=v5p:2x2x2: 4
fine-tunings and 62 scores, 2.8 chip-hours, 257 GB of disk.
Expect fine-tuned scores above the base model's on every set, as published. `:strict` has the strict
protocol.
"""

import dataclasses
import runpy
from pathlib import Path

from amuro_jax.config import FineTune, Remat, Role, StudyConfig, TrainRun


def get_config(protocol: str = "paper") -> StudyConfig:
    """The study of this file under `protocol`: the task sets of `olmo1b.py`, without Tulu and its
    multiple choice.
    """
    olmo = runpy.run_path(str(Path(__file__).with_name("olmo1b.py")))
    grid = olmo["get_config"](protocol)
    return dataclasses.replace(
        grid,
        name="Llama3-8B",
        suite="meta-llama/Meta-Llama-3-8B",
        select="main",
        fine_tunes=tuple(map(FineTune, olmo["IN_DOMAIN"])),
        evals=tuple(entry for entry in grid.evals if entry.role != Role.MULTIPLE_CHOICE),
        recipe=dataclasses.replace(grid.recipe, epochs=2, batch_size=16, learning_rate=5e-6),
        train_run=TrainRun(remat=Remat.FULL),
    )
