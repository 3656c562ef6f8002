"""The published study's second model: Llama3-8B, final checkpoint only, the four task sets.

  amuro study --config=configs/study/paper_llama3_8b.py --config.workdir=work/paper-llama3 \\
    --config.train_run.mesh=fsdp:-1 --config.score_run.mesh=tensor:-1

A gated model: set HF_TOKEN. 2 epochs, batch 16, rate 5e-6 (arXiv 2408.06663, section 3); fp32
parameters and two moments take 96 GB over the mesh. `amuro plan` says what it costs on a topology.
Expect fine-tuned scores above the base model's on every set, as published. `:strict` has the strict
protocol.
"""

from amuro_jax.config import (
    Dtype,
    EvalSet,
    FineTune,
    ProtocolName,
    Recipe,
    Remat,
    Role,
    Scoring,
    StudyConfig,
    TrainRun,
)

IN_DOMAIN = {
    "xsum": ("xsum", "xlsum"),
    "socialiqa": ("socialiqa",),
    "mnli_matched": ("mnli_matched", "mnli_mismatched"),
    "paws": ("paws",),
}
OUT_OF_DOMAIN = {
    "xsum": ("cnn",),
    "socialiqa": ("sciq", "tweetqa"),
    "mnli_matched": ("rte", "gpt3nli"),
    "paws": ("qqp", "stsb"),
}


def get_config(protocol: str = "paper") -> StudyConfig:
    """The study of this file under `protocol`."""
    name = ProtocolName(protocol)
    return StudyConfig(
        name="Llama3-8B",
        suite="meta-llama/Meta-Llama-3-8B",
        select="main",
        formats=("default", "instruct", "io"),
        shots=(4,),
        fine_tunes=tuple(FineTune(task) for task in IN_DOMAIN),
        evals=(
            *(
                EvalSet(t, Role.IN_DOMAIN, of=(of,))
                for of, tasks in IN_DOMAIN.items()
                for t in tasks
            ),
            *(
                EvalSet(task, Role.OUT_OF_DOMAIN, of=(owner,))
                for owner, tasks in OUT_OF_DOMAIN.items()
                for task in tasks
            ),
        ),
        recipe=Recipe(protocol=name, epochs=2, batch_size=16, learning_rate=5e-6),
        scoring=Scoring(protocol=name, dtype=Dtype.BFLOAT16),
        train_run=TrainRun(remat=Remat.FULL),
    )
