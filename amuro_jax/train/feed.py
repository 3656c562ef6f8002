"""The batches of a run, built in a thread while the device works."""

import collections
import concurrent.futures
import time
from collections.abc import Iterator

from amuro_jax.train.batches import BatchSource, Mine, Part

AHEAD = 2  # batches that are built before they are needed: one may take longer than a step


def feed(
    batches: BatchSource, start: int, mine: Mine | None = None
) -> Iterator[tuple[int, Part, float]]:
    """(step, its batch, seconds that were waited for it) of every step from `start` on."""
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        for step in range(start, batches.total):
            for number in range(step + len(waiting), min(step + AHEAD + 1, batches.total)):
                waiting.append(pool.submit(batches.load, number, mine))
            began = time.perf_counter()
            part = waiting.popleft().result()
            yield step, part, time.perf_counter() - began
