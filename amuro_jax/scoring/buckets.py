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

# Hidden states wanted of a line.
QUERY_POSITIONS = (8, 32, 128, 512, 2048)

# `cut` takes several small pieces instead of a large one where they leave at least a quarter of it
# out, which is worth more than the launches; with more than four of them it is not.
WORTH_CUTTING = 0.75
MOST_PIECES = 4
# Tokens that a further compiled program must save: a second of compiling for a model that reads
# about 1,500 tokens a second on the CPUs where compiling matters.
PROGRAM_TOKENS = 1500.0


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
    """Splits `count` items into pieces of the sizes `sizes` (ascending), the last piece padded.

    Few pieces, little padding.
    """
    pieces = [sizes[-1]] * (count // sizes[-1])
    rest = count - sum(pieces)
    if rest:
        large = next(size for size in sizes if size >= rest)
        smaller = tuple(size for size in sizes if size < large)
        small = cut(rest, smaller) if smaller else []
        cheaper = small and sum(small) <= WORTH_CUTTING * large and len(small) <= MOST_PIECES
        pieces += small if cheaper else [large]
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
    per_shape: float = PROGRAM_TOKENS

    def lines(self, count: int, width: int, prefix: int) -> float:
        """Work of `count` lines of `width` tokens behind a prefix."""
        return count * width * (self.per_token + self.per_pair * (width + prefix))

    def shape(self) -> float:
        """Work that a further program must save before it is worth compiling."""
        return self.per_shape * self.per_token


def cost_of(config) -> Cost:
    """Cost of one model: 2 operations per weight outside the embedding, 4 per attended channel."""
    c = config
    products = 2.0 * c.num_layers * (c.attention_weights + c.mlp_weights)
    return Cost(products, 4.0 * c.num_layers * c.num_heads * c.head_dim)


def lines_per_batch(batch_tokens: int, width: int, divisor: int = 1) -> int:
    """Lines of a batch of about `batch_tokens` tokens: at least one, a multiple of the mesh's batch
    shards.
    """
    return max(1, batch_tokens // width // divisor) * divisor
