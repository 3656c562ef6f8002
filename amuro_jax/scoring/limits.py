"""How much the scorer does at once: sizes from the memory estimate, halved when memory runs out."""

import warnings

from amuro_jax.scoring import buckets, memory
from amuro_jax.scoring.schedule import rows_within

ROWS_PER_DEVICE = 64  # sequences that are generated together


class Limits:
    """Sizes of batches, as used now. Every method that shrinks one warns.

    Args:
        estimate: `memory.Memory` of the devices.
        divisor: batch shards of the mesh; batches are multiples of it.
        batch_tokens: 0: what the estimate allows.

    Attributes:
        batch_tokens: tokens of a batch of packed lines, on all devices.
        prefix_tokens: tokens of a prefix that are read at once.
        generation_rows: sequences that are generated together, on all devices.
    """

    def __init__(self, estimate, divisor: int, batch_tokens: int, max_length: int):
        self.estimate, self.divisor = estimate, divisor
        longest = min(2048, max_length)
        fitting = estimate.batch_tokens(min(512, longest), longest) * divisor
        self.batch_tokens = batch_tokens or fitting
        self.prefix_tokens = estimate.prefix_chunk(buckets.PREFIXES[-1])
        self.generation_rows = ROWS_PER_DEVICE * divisor

    def lines(self, width: int) -> int:
        """Lines of `width` tokens in one batch."""
        return buckets.lines_per_batch(self.batch_tokens, width, self.divisor)

    def rows(self, capacity: int) -> int:
        """Sequences generated together whose buffers have up to `capacity` slots."""
        each = max(1, self.generation_rows // self.divisor)
        fitting = self.estimate.generation_rows(each, capacity, capacity) * self.divisor
        return rows_within(min(fitting, self.generation_rows), self.divisor)

    def fewer_lines(self, error: Exception, width: int, tried: int) -> None:
        """After `tried` lines of `width` tokens did not fit.

        Raises:
            AmuroError: it cannot be halved.
        """
        now = self.lines(width)
        if now < tried:
            return  # a batch before this one has shrunk them already
        if now <= self.divisor:
            raise memory.too_large(
                f"{now} lines of {width} tokens", error, self.estimate
            ) from error
        self.batch_tokens = max(1, now // 2) * width
        _warn(f"with {now} lines of {width} tokens", f"{self.batch_tokens} tokens a batch")

    def shorter_prefix(self, error: Exception, length: int, tried: int) -> None:
        """After `tried` tokens of a prefix of `length` did not fit.

        Raises:
            AmuroError: they are as few as can be.
        """
        if tried <= memory.LEAST:
            raise memory.too_large(f"a prefix of {length} tokens", error, self.estimate) from error
        self.prefix_tokens = max(memory.LEAST, tried // 2)
        _warn(f"with {tried} tokens of a prefix at once", str(self.prefix_tokens))

    def fewer_rows(self, error: Exception, tried: int, capacity: int) -> None:
        """After `tried` rows of `capacity` slots did not fit.

        Raises:
            AmuroError: it cannot be fewer.
        """
        if tried <= self.divisor:
            raise memory.too_large(
                f"{tried} rows of {capacity} tokens", error, self.estimate
            ) from error
        self.generation_rows = rows_within(tried - 1, self.divisor)
        _warn(f"generating {tried} rows at once", str(self.generation_rows))


def _warn(tried: str, now: str) -> None:
    warnings.warn(f"out of device memory {tried}; going on with {now}", stacklevel=4)
