"""amuro_jax: what a language model learns and forgets, checkpoint by checkpoint."""

__version__ = "0.1.0"
