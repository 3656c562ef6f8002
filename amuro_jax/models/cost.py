"""Arithmetic of a decoder by its architecture. No jax.

FLOPs: 2 for each weight and token, 4 for each channel of a query and a key that it sees, 2 for each
weight of the vocabulary and predicted position. A backward pass costs twice a forward one; without
gradients of frozen weights, once. What remat computes again, and padding, is not counted.
"""

import dataclasses

from amuro_jax.models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Amount:
    """Work of the model.

    Attributes:
        tokens: that are read.
        pairs: of a query and a key that it sees: n (n + 1) / 2 of a document of n tokens.
        positions: that are projected on the vocabulary.
    """

    tokens: float
    pairs: float
    positions: float

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.tokens + other.tokens, self.pairs + other.pairs, self.positions + other.positions
        )

    def times(self, factor: float) -> "Amount":
        """So many times this."""
        return Amount(self.tokens * factor, self.pairs * factor, self.positions * factor)


def causal_row(length: float, positions: float) -> Amount:
    """A document of `length` tokens of which each sees those before it."""
    return Amount(length, length * (length + 1) / 2, positions)


def forward_flops(config: ModelConfig, amount: Amount) -> float:
    """FLOPs of one forward pass."""
    c = config
    products = 2.0 * c.num_layers * (c.attention_weights + c.mlp_weights) * amount.tokens
    head = 2.0 * c.hidden_size * c.vocab_size * amount.positions
    return products + _attention_flops(c, amount) + head


def training_flops(config: ModelConfig, amount: Amount, adapter: bool = False) -> float:
    """FLOPs of a forward and a backward pass; an adapter's frozen weights need no gradient."""
    forward = forward_flops(config, amount)
    return 2 * forward + _attention_flops(config, amount) if adapter else 3 * forward


def _attention_flops(config, amount):
    return 4.0 * config.num_layers * config.num_heads * config.head_dim * amount.pairs
