"""The laboratory of the default study.

amuro lab --config=configs/lab/default.py --config.out=work/lab
"""

from amuro_jax.config import LabConfig


def get_config() -> LabConfig:
    """The defaults of LabConfig."""
    return LabConfig()
