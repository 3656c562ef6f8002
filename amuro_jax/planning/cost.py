"""Arithmetic of a decoder by its architecture, and the time that a chip needs at least. No jax.

FLOPs: 2 for each weight and token, 4 for each channel of a query and a key that it sees (a causal
row of n tokens has n (n + 1) / 2 such pairs), 2 for each weight of the vocabulary and predicted
position. A backward pass costs twice a forward one; without gradients of frozen weights, once.
What remat computes again is no FLOP of the model, but takes time.
"""

import dataclasses

from amuro_jax.chips import Chip
from amuro_jax.models.config import ModelConfig

AGAIN = {"none": 0.0, "dots": 0.05, "offload": 0.05, "full": 1.0}  # forward passes


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """The share of a datasheet's figure that is assumed to be reached. Assumptions, not measured.

    Attributes:
        products: of peak FLOP/s, in matrix products of training. MaxText publishes 55 to 70 % of
            peak for dense models of 1 to 100 B parameters on v5e and v5p.
        memory: of the memory's bandwidth.
        links: of the interconnect's.
    """

    products: float = 0.55
    memory: float = 0.8
    links: float = 0.7


@dataclasses.dataclass(frozen=True)
class Amount:
    """Work of the model: tokens read, query-key pairs, positions projected on the vocabulary."""

    tokens: float
    pairs: float
    positions: float

    def __add__(self, other):
        return Amount(
            self.tokens + other.tokens, self.pairs + other.pairs, self.positions + other.positions
        )

    def times(self, factor: float) -> "Amount":
        """So many times this."""
        return Amount(self.tokens * factor, self.pairs * factor, self.positions * factor)


def causal_row(length: float, positions: float) -> Amount:
    """A row of `length` tokens of which each sees those before it."""
    return Amount(length, length * (length + 1) / 2, positions)


def forward_flops(config: ModelConfig, amount: Amount) -> float:
    """FLOPs of one forward pass."""
    c = config
    products = 2.0 * c.num_layers * (c.attention_weights + c.mlp_weights) * amount.tokens
    attention = 4.0 * c.num_layers * c.num_heads * c.head_dim * amount.pairs
    return products + attention + 2.0 * c.hidden_size * c.vocab_size * amount.positions


def training_flops(config: ModelConfig, amount: Amount, adapter: bool = False) -> float:
    """FLOPs of a forward and a backward pass; an adapter's frozen weights need no gradient."""
    c, forward = config, forward_flops(config, amount)
    if not adapter:
        return 3 * forward
    attention = 4.0 * c.num_layers * c.num_heads * c.head_dim * amount.pairs
    return 2 * forward + attention


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one step, each part by itself; the step takes as long as the longest of them.

    Attributes:
        products: arithmetic at the assumed efficiency.
        memory: bytes read from and written to a chip's memory.
        links: bytes sent to other chips.
    """

    products: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """Parts overlap completely: no step is faster than this at these efficiencies."""
        return max(self.products, self.memory, self.links)

    @property
    def bound(self) -> str:
        """The longest part."""
        parts = dataclasses.asdict(self)
        return max(parts, key=parts.get)


def roofline(
    chip: Chip, flops: float, read: float, sent: float, efficiency: Efficiency = Efficiency()
) -> Roofline:
    """Of one chip's share: `flops`, bytes `read` (and written) in memory and `sent` to others."""
    return Roofline(
        flops / (chip.flops * efficiency.products),
        read / (chip.bandwidth * efficiency.memory),
        sent / (chip.links * efficiency.links) if sent else 0.0,
    )
