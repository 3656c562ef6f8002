"""Fine-tunes one checkpoint on one set: AdamW, linear warm-up and decay, loss on completion tokens
only.

  amuro train --config=configs/train/olmo1b.py:paws --config.checkpoint=allenai/OLMo-1B-hf@main \\
    --config.workdir=work/paws

The workdir gets metrics.jsonl, TensorBoard files, resumable states, and in the end record.json and
`model/`, which every other verb takes as a checkpoint. Killed anywhere, the same command resumes
with the same numbers.
"""

import dataclasses

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "fine-tune one checkpoint on one data set"
CONFIG = "TrainConfig"


def define_flags() -> None:
    """Declares the verb's flags."""
    configure.define_config()
    configure.define_cluster()
    text = "Steps whose trace is written to <workdir>/profile: 10:12, or 10. As config.run.profile."
    flags.DEFINE_string("profile", None, text)


def main() -> None:
    """Runs the training and prints where the model is."""
    from amuro_jax import processes
    from amuro_jax.config import ScoreRun, TrainConfig, validate_train
    from amuro_jax.evals.run import Evaluator
    from amuro_jax.scoring.scorer import keep_programs_in
    from amuro_jax.storage import Storage
    from amuro_jax.train import run

    config = configure.config_from_flags(TrainConfig, TrainConfig())
    if steps := flags.FLAGS.profile:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, profile=steps))
    validate_train(config)
    configure.join_cluster()
    keep_programs_in(Storage.open(config.workdir))
    evaluator = Evaluator(ScoreRun(mesh=config.run.mesh))
    folder = run.run(config, evaluator.pair_logprobs)
    if processes.is_writer():
        print(folder)
