"""Training examples of a large set, encoded when a step needs them."""

import collections
import threading
from collections.abc import Callable, Sequence

import numpy as np

from amuro_jax.data.types import Example, TrainExample

# A set of more rows is not encoded before the run begins: at some thousand rows a second and core
# that takes longer than one waits for a first step.
STREAM_ROWS = 50_000
KEPT = 8192  # encoded examples that stay in memory, some 5 kB each


class Streamed(Sequence):
    """Encodes row by row what is asked for. A row with nothing to learn has an empty mask: where it
    is met, the run leaves it out.

    Safe to use from several threads.

    Attributes:
        max_length: tokens of an example at most.
    """

    def __init__(
        self,
        rows: np.ndarray,
        read: Callable[[int], Example],
        encode: Callable[[list[Example]], list[TrainExample]],
        max_length: int,
    ):
        """
        Args:
            rows: numbers of the rows in the file, in the order of the subsample.
            read: the validated row of a number.
            max_length: tokens to which `encode` cuts.
        """
        self._rows, self._read, self._encode = rows, read, encode
        self.max_length = max_length
        self._kept: collections.OrderedDict[int, TrainExample] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return self.take([index])[0]

    def take(self, indices: Sequence[int]) -> list[TrainExample]:
        """The examples of these places, encoded together."""
        with self._lock:
            missing = [index for index in indices if index not in self._kept]
            examples = [self._read(int(self._rows[index])) for index in missing]
            self._kept.update(zip(missing, self._encode(examples), strict=True))
            rows = [self._kept[index] for index in indices]
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return rows

    def row_numbers(self, indices: Sequence[int]) -> list[int]:
        """Numbers in the file of the rows at these places."""
        return [int(self._rows[index]) for index in indices]
