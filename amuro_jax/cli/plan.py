"""Says what a run or a study will take before it runs: memory, arithmetic, traffic, time, disk.

  amuro plan --config=configs/study/olmo1b.py --topology=v5p:2x2x2
  amuro plan --config=configs/train/olmo1b.py:paws --config.checkpoint=allenai/OLMo-1B-hf \\
    --topology=v5e:4x4 --json

The configuration is that of `amuro train`, `amuro score` or `amuro study`. For TPUs the programs
are compiled here, without a TPU (needs libtpu); else, and with --nocompile, bytes are estimates
from shapes. Sizes of sets come from --config.data_root and --tokenizer where both are there, else
from a table of published sizes. See docs/plan.md.
"""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "say what a run or a study will take, on devices that need not be here"
CONFIG = "StudyConfig"


def define_flags() -> None:
    """Declares the verb's flags."""
    configure.define_config()
    flags.DEFINE_string(
        "topology", "cpu", "Devices: v5e:4x4, v5p:2x2x2, v6e:4x4, h100:8, a100:8, cpu, …"
    )
    flags.DEFINE_string(
        "tokenizer",
        "",
        "Checkpoint folder, tokenizer folder or tokenizer.json to measure rows with; empty: the "
        "checkpoint's own, where it is a folder.",
    )
    text = "Ways to split a training that are compiled at most."
    flags.DEFINE_integer("tries", 3, text, lower_bound=1)
    flags.DEFINE_bool("json", False, "Print JSON.")
    flags.DEFINE_bool("compile", True, "Compile the programs where there is a compiler.")


def main() -> None:
    """Prints the plan."""
    from amuro_jax.config import ScoreConfig, StudyConfig, TrainConfig

    args = flags.FLAGS
    config = configure.config_from_flags((TrainConfig, ScoreConfig, StudyConfig))
    from amuro_jax.planning.plan import make_plan
    from amuro_jax.planning.render import render

    plan = make_plan(config, args.topology, args.tokenizer, args.compile, args.tries)
    print(plan.to_json() if args.json else render(plan))
