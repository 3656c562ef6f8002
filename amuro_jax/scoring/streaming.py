"""Many checkpoints one after the other: the next one's parameters are read and placed while the
current one is scored.
"""

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator


def stream(
    names: Iterable, load: Callable, place: Callable = lambda params: params
) -> Iterator[tuple]:
    """Yields (name, placed parameters) in order, one ahead; at most two checkpoints are held at a
    time.

    Args:
        load: name → parameters; runs in a thread, beside the work on the checkpoint before.
        place: for example `Scorer.place`: puts them on the device in the compute dtype.

    Raises:
        Whatever `load` raises, at the checkpoint it belongs to; those before it are yielded.
    """
    names = list(names)
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="next-checkpoint") as worker:
        ahead = worker.submit(lambda name: place(load(name)), names[0]) if names else None
        for index, name in enumerate(names):
            params = ahead.result()
            ahead = (
                worker.submit(lambda name: place(load(name)), names[index + 1])
                if index + 1 < len(names)
                else None
            )
            yield name, params
            del params
