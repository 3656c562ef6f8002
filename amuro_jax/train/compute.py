"""How a training step computes a model's hidden states: what changes its speed and memory."""

import dataclasses

import jax.numpy as jnp

from amuro_jax.models.attention import Backend
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import forward
from amuro_jax.models.layout import Layout
from amuro_jax.models.parameters import stack_layers

# Layers that a CPU computes without a loop over them: it copies the stacks that a loop fills, a
# fifth to a third of a small model's step, and the loop takes longer to compile than so few layers
# (docs/notes/training.md). Deeper models take longer, and gain a few hundredths.
WITHOUT_LOOP = 4


@dataclasses.dataclass(frozen=True)
class Compute:
    """Hashable: part of a compiled step's key.

    Attributes:
        dtype: of the layers; parameters and the loss are fp32.
        remat: a name of `models.decoder.REMAT`.
        attention: from `models.attention.best_backend`.
        unroll: layers per step of the loop over them, see `layers_at_once`.
    """

    dtype: str = "float32"
    remat: str = "none"
    attention: Backend = Backend()
    unroll: int = 1

    def hidden(self, params: dict, batch: dict, config: ModelConfig):
        """Final hidden states [B, N, D] at the predicting positions of a batch (`batches.Batch`).

        Without a loop over the layers the last one works on those positions only, once their
        attention is known: of a label's one or two tokens it has next to nothing to do.
        """
        source = batch["source"]
        layout = Layout(batch["position"], batch["enter"], batch["leave"])
        if self.unroll == config.num_layers and source.shape[1] < batch["tokens"].shape[1]:
            params = stack_layers(params, (1,) * config.num_layers)
        return forward(
            params,
            batch["tokens"],
            layout,
            config=config,
            dtype=jnp.dtype(self.dtype),
            query_positions=source,
            remat=self.remat,
            attention=self.attention,
            unroll=self.unroll,
        )[0]


def layers_at_once(config: ModelConfig, platform: str, remat: str) -> int:
    """Layers per step of a training's loop over them: all of a small model on a CPU, else one.

    What is computed again stays in a loop: without one XLA would find it computed before and keep
    it.
    """
    few = platform == "cpu" and remat == "none" and config.num_layers <= WITHOUT_LOOP
    return config.num_layers if few else 1
