"""Builds the laboratory: everything a study needs, built in minutes, with nothing to download.

A small invented world (creatures and their attributes, what words mean, what follows from what,
short stories) is written out as a
pre-training corpus and as data sets in the columns of the real ones. A tokenizer is trained, a tiny
OLMo is pre-trained, and a series
of its checkpoints is published as Hugging Face folders.

    amuro lab --config=configs/lab/default.py --config.out=work/lab     the laboratory of the \\
      default study
    amuro lab --config=configs/lab/tiny.py --config.out=/tmp/lab        seconds instead of \\
      minutes, learns nothing

It writes   OUT/data/SET/SPLIT.jsonl   OUT/checkpoints/stepN-tokensM/   OUT/tokenizer/   OUT/corpus/
and, last, OUT/lab.json.
Stopped at any moment, the same command goes on where it stood; when all is there it does nothing.
Every size can be changed, for example --config.steps=2000 --config.model.hidden_size=192 (see
amuro_jax/config/blocks.py, LabConfig).
"""

from amuro_jax.cli import configure

DESCRIPTION = (
    "build the laboratory: a synthetic world, its data sets, and a series of pre-training "
    "checkpoints"
)
CONFIG = "LabConfig"


def define_flags() -> None:
    """Declares the verb's flags."""
    configure.define_config()


def main() -> None:
    """Builds what is missing and prints each stage."""
    from amuro_jax.config import LabConfig
    from amuro_jax.lab.build import build

    build(configure.config_from_flags(LabConfig))
