"""Training steps compiled ahead of time for TPU slices: memory, traffic and roofline of OLMo-1B and
Llama-3-8B, all parameters and adapters, with the mesh and remat that `amuro plan` recommends.

    python benchmarks/plan_topologies.py [--models=olmo,llama --topologies=v5e:4x4,…]

Rows of 2,048 tokens (instruction tuning), the study's batches: 8 for OLMo-1B, 16 for Llama-3-8B.
Needs libtpu, no TPU. One line of the table as soon as it is known; half a minute to some minutes
each.
"""

import argparse
import dataclasses
import os

from amuro_jax.config import Recipe, Remat, TrainConfig, TrainRun
from amuro_jax.libtpu import quiet_without_tpu
from amuro_jax.planning.plan import make_plan

MODELS = {
    "olmo": ("OLMo-1B", "allenai/OLMo-1B-hf", 8),
    "llama": ("Llama-3-8B", "meta-llama/Meta-Llama-3-8B", 16),
}
ADAPTER_RANK = 16


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--topologies", default="v5e:4x4,v5p:2x2x2,v6e:4x4")
    parser.add_argument("--trainables", default="all,adapter")
    given = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    quiet_without_tpu()
    print(
        "| model, trained | slice | mesh, remat | GB a chip: state + temporaries (of) | "
        "largest arrays | GB sent a step | step ms: arithmetic, memory, links | MFU at most |"
    )
    print("|" + "---|" * 8)
    for model in given.models.split(","):
        for topology in given.topologies.split(","):
            for trained in given.trainables.split(","):
                print(line(*MODELS[model], trained, topology), flush=True)


def line(name: str, checkpoint: str, batch: int, trained: str, topology: str) -> str:
    """One line of the table."""
    rank = ADAPTER_RANK if trained == "adapter" else None
    recipe = Recipe(task="tulu", batch_size=batch, rows=None, lora_rank=rank)
    config = TrainConfig(checkpoint, "work", recipe=recipe, run=TrainRun(remat=Remat.AUTO))
    plan = make_plan(config, topology, tries=1)
    (one,) = plan.trainings
    chosen, compiled, time = one.chosen, one.compiled, one.chosen.time
    parts = ", ".join(f"{1e3 * value:.1f}" for value in dataclasses.astuple(time))
    read = compiled.collectives is not None
    sent = (
        f"{sum(compiled.collectives.values()) / 1e9:.2f}" if read else f"≈ {chosen.sent / 1e9:.2f}"
    )
    return (
        f"| {name}, {trained} | {topology} | {chosen.mesh}, {chosen.remat} | "
        f"{compiled.arguments / 1e9:.2f} + {compiled.temporaries / 1e9:.2f} "
        f"({plan.topology.chip.memory / 1e9:.0f}) | {'; '.join(compiled.largest)} | "
        f"{sent} | {1e3 * time.seconds:.1f}: {parts} | {100 * one.mfu:.1f} % |"
    )


if __name__ == "__main__":
    main()
