"""How a training step computes a model's hidden states: what changes its speed and memory."""

import dataclasses

import jax.numpy as jnp

from amuro_jax.models.attention import Backend
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.forward import forward
from amuro_jax.models.layout import Layout
from amuro_jax.models.parameters import stack_layers

# Most layers that a CPU computes without a loop over them. A loop copies each layer's parameters
# out of their stack and what it keeps into others, and every layer of it works on every position;
# the deeper the model, the faster it compiles in comparison (docs/notes/training.md).
WITHOUT_LOOP = 16


@dataclasses.dataclass(frozen=True)
class Compute:
    """Hashable: part of a compiled step's key.

    Attributes:
        dtype: of the layers; parameters and the loss are fp32.
        remat: a name of `models.decoder.REMAT`.
        attention: from `models.attention.best_backend`.
        loop: whether the layers are a loop, see `has_loop`.
        together: whether predicted positions of all rows are worked on together, without those
            that only fill their rows: on one CPU device.
    """

    dtype: str = "float32"
    remat: str = "none"
    attention: Backend = Backend()
    loop: bool = True
    together: bool = False

    def hidden(self, params: dict, batch: dict, config: ModelConfig):
        """Final hidden states [B, N, D] at the predicting positions of a batch (`batches.Batch`).

        Without a loop over the layers the last one works on those positions only, once their
        attention is known: of a label's one or two tokens it has next to nothing to do.
        """
        source = batch["source"]
        fewer = source.shape[1] < batch["tokens"].shape[1]
        layout = Layout(batch["position"], batch["enter"], batch["leave"])
        hidden = forward(
            params if self.loop else stack_layers(params, (1,) * config.num_layers),
            batch["tokens"],
            layout,
            config=config,
            dtype=jnp.dtype(self.dtype),
            query_positions=source if fewer else None,
            remat=self.remat,
            attention=self.attention,
        )[0]
        return hidden if fewer else jnp.take_along_axis(hidden, source[:, :, None], axis=1)


def has_loop(config: ModelConfig, platform: str, remat: str) -> bool:
    """Whether a training's layers are a loop: those of a small model on a CPU are not.

    What is computed again stays in a loop: without one XLA would find it computed before and keep
    it.
    """
    few = platform == "cpu" and remat == "none" and config.num_layers <= WITHOUT_LOOP
    return not few
