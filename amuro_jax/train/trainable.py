"""What a training step changes: all parameters, or a part beside frozen ones.

A trainable is a frozen, hashable value: one compiled step serves every run that has the same one.
"""

import dataclasses
from typing import Protocol

import jax.numpy as jnp

from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import abstract_params, logical_axes


class Trainable(Protocol):
    """Splits a model's parameters into trained and frozen ones. Implementations are hashable."""

    has_frozen: bool  # whether a resumed run needs the model's own parameters beside its state

    def split(self, params: dict, config: ModelConfig, seed: int) -> tuple[dict, dict]:
        """(trained, frozen) trees at the start of a run; `seed` draws what is new."""

    def join(self, trained: dict, frozen: dict) -> dict:
        """The tuned model: the tree that `models.forward` reads, differentiated with respect to
        `trained`.
        """

    def abstract(self, config: ModelConfig) -> dict:
        """Trained tree of ShapeDtypeStruct."""

    def axes(self, config: ModelConfig) -> dict:
        """Trained tree of logical axis names."""


@dataclasses.dataclass(frozen=True)
class AllParameters:
    """Full fine-tuning: everything is trained, in fp32, and nothing is frozen."""

    has_frozen = False

    def split(self, params: dict, config: ModelConfig, seed: int = 0) -> tuple[dict, dict]:
        """The parameters themselves, and an empty tree."""
        return params, {}

    def join(self, trained: dict, frozen: dict) -> dict:
        """The trained tree is the model's."""
        return trained

    def abstract(self, config: ModelConfig) -> dict:
        """The model's tree."""
        return abstract_params(config, jnp.float32)

    def axes(self, config: ModelConfig) -> dict:
        """The model's logical axes."""
        return logical_axes(config)
