"""Shapes: the few widths, prefix capacities and batch sizes that programs are compiled for.

No jax.
"""

import dataclasses

from amuro_jax.errors import ConfigError

WIDTHS = (
    32,
    64,
    96,
    128,
    192,
    256,
    384,
    512,
    768,
    1024,
    1536,
    2048,
    3072,
    4096,
    6144,
    8192,
    16384,
    32768,
)
PREFIXES = (
    32,
    64,
    128,
    192,
    256,
    384,
    512,
    640,
    768,
    1024,
    1280,
    1536,
    2048,
    3072,
    4096,
    6144,
    8192,
    16384,
    32768,
)

ASKED = (8, 32, 128, 512, 2048)  # hidden states wanted of a line


def round_up(length: int, sizes: tuple[int, ...]) -> int:
    """The smallest of `sizes` that holds `length`.

    Raises:
        ConfigError: none does.
    """
    for size in sizes:
        if size >= length:
            return size
    raise ConfigError(
        f"a sequence of {length} tokens is longer than the longest bucket, {sizes[-1]}",
        where="scorer",
    )


def cut(count: int, sizes: tuple[int, ...]) -> list[int]:
    """Splits `count` items into pieces of the given sizes (ascending), the last piece padded.

    Few pieces, little padding.
    """
    pieces = [sizes[-1]] * (count // sizes[-1])
    rest = count - sum(pieces)
    if rest:
        whole = next(size for size in sizes if size >= rest)
        smaller = [size for size in sizes if size < whole]
        halves = cut(rest, tuple(smaller)) if smaller else []
        pieces += halves if halves and sum(halves) <= 0.75 * whole and len(halves) <= 4 else [whole]
    return pieces


@dataclasses.dataclass(frozen=True)
class Cost:
    """Work of the model in floating-point operations, for choosing shapes.

    Attributes:
        per_token: matrix products of one token.
        per_pair: attention of one query over one key.
        per_shape: what one more compiled program is worth, in tokens.
    """

    per_token: float
    per_pair: float
    per_shape: float = 1500.0

    def lines(self, count: int, width: int, prefix: int) -> float:
        """Work of `count` lines of `width` tokens behind a prefix."""
        return count * width * (self.per_token + self.per_pair * (width + prefix))

    def shape(self) -> float:
        """Work that a further program must save before it is worth compiling."""
        return self.per_shape * self.per_token


def cost_of(config) -> Cost:
    """Cost of one model: 2 operations per weight outside the embedding, 4 per attended channel."""
    c = config
    per_layer = c.hidden_size * c.head_dim * (
        2 * c.num_heads + 2 * c.num_kv_heads
    ) + c.hidden_size * c.mlp_size * (2 + c.gated_mlp)
    return Cost(2.0 * c.num_layers * per_layer, 4.0 * c.num_layers * c.num_heads * c.head_dim)


def lines_per_batch(batch_tokens: int, width: int, divisor: int = 1) -> int:
    """Lines of a batch of about `batch_tokens` tokens: at least one, a multiple of the mesh's batch
    shards.
    """
    return max(1, batch_tokens // width // divisor) * divisor
