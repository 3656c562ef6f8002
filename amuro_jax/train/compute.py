"""How a training step computes a model's hidden states: what changes its speed and memory."""

import dataclasses

import jax.numpy as jnp

from amuro_jax.models.attention import Backend
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import forward
from amuro_jax.models.layout import Layout


@dataclasses.dataclass(frozen=True)
class Compute:
    """Hashable: part of a compiled step's key.

    Attributes:
        dtype: of the layers; parameters and the loss are fp32.
        remat: a name of `models.decoder.REMAT`.
        attention: from `models.attention.best_backend`.
    """

    dtype: str = "float32"
    remat: str = "none"
    attention: Backend = Backend()

    def hidden(self, params: dict, batch: dict, config: ModelConfig):
        """Final hidden states [B, T, D] of the rows of a batch (`batches.Batch`)."""
        layout = Layout(batch["position"], batch["enter"], batch["leave"])
        return forward(
            params,
            batch["tokens"],
            layout,
            config=config,
            dtype=jnp.dtype(self.dtype),
            remat=self.remat,
            attention=self.attention,
        )[0]
