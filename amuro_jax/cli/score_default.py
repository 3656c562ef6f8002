"""What `amuro score` starts from where no --config is given: it has to be there in any folder, with
or without a checkout.
"""

from amuro_jax.config import ScoreConfig


def get_config() -> ScoreConfig:
    """The default scoring run."""
    return ScoreConfig()
