"""Where the checkpoints of a series lie in relation to each other: training moves the weights along
a path, so that neighbours are close. numpy only.
"""

import numpy as np

MARGIN = 0.04  # the path must get shorter by this share of its four edges: above what chance gives
FEWEST = 4  # checkpoints: of three, first and last cannot be told apart
DETOUR = 3.0  # one file's detour over the others': above what clean series show


def distances(vectors: list[np.ndarray]) -> np.ndarray:
    """Root mean square distance [N, N] of samples, each tensor in units of its mean size.

    Args:
        vectors: per checkpoint an array [T, S] of S sampled elements of T tensors, already scaled.
    """
    flat = np.stack([vector.ravel() for vector in vectors]).astype(np.float64)
    squares = (flat**2).sum(axis=1)
    gram = flat @ flat.T
    return np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * gram, 0) / flat.shape[1])


def exchanged(between: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of places whose checkpoints must be exchanged for the shortest path, one after the
    other; empty where no exchange makes it clearly shorter.
    """
    if len(between) < FEWEST:
        return []
    order, exchanges = np.arange(len(between)), []
    while len(exchanges) < len(between):
        pair, gain = _best_exchange(between[np.ix_(order, order)])
        if gain < MARGIN:
            return exchanges
        exchanges.append((int(pair[0]), int(pair[1])))
        order[list(pair)] = order[[pair[1], pair[0]]]
    return exchanges


def _best_exchange(between):
    """The exchange that shortens the path most, and by which share of the edges it touches."""
    count, best, share = len(between), ((0, 1), 0.0), 0.0
    for first in range(count - 1):
        for second in range(first + 1, count):
            borders = {first - 1, first, second - 1, second} & set(range(count - 1))
            before = sum(between[border, border + 1] for border in borders)
            after = sum(
                between[_swap(border, first, second), _swap(border + 1, first, second)]
                for border in borders
            )
            if before - after > best[1]:
                best, share = ((first, second), before - after), (before - after) / before
    return best[0], share


def _swap(index, first, second):
    return second if index == first else first if index == second else index


def detours(between: np.ndarray) -> np.ndarray:
    """Per inner place, the squared way over it against the squared way past it [N]: about 1 on a
    path of independent steps, larger where a checkpoint lies off the path. NaN at both ends.
    """
    count = len(between)
    ratios = np.full(count, np.nan)
    for index in range(1, count - 1):
        past = between[index - 1, index + 1] ** 2
        over = between[index - 1, index] ** 2 + between[index, index + 1] ** 2
        ratios[index] = over / past if past > 0 else np.nan
    return ratios
