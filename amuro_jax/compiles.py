"""What jax compiles while it is watched: programs, seconds, and how many came from the cache on
disk. Imports jax lazily.
"""

import contextlib
import dataclasses
import threading

# one for every program, read from the cache or compiled
_COMPILED = "/jax/core/compile/backend_compile_duration"
_READ_FROM_CACHE = "/jax/compilation_cache/cache_retrieval_time_sec"
# jax records it only where it writes the program to the cache
_WRITTEN_TO_CACHE = "/jax/compilation_cache/cache_misses"


@dataclasses.dataclass(frozen=True)
class Compiles:
    """Programs compiled anew, those of them now in the cache, seconds of their compilation.

    Programs read from the cache, seconds of that.
    """

    compiled: int = 0
    written: int = 0
    seconds: float = 0.0
    cached: int = 0
    cache_seconds: float = 0.0

    def __add__(self, other):
        return Compiles(
            *(
                a + b
                for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
            )
        )

    def __sub__(self, other):
        return Compiles(
            *(
                a - b
                for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
            )
        )

    def __str__(self):
        built = f"compiled {self.compiled} programs in {self.seconds:.1f} s"
        return f"{built}, {self.cached} from the cache"

    def record(self) -> dict:
        """The counts as plain values, seconds to the millisecond."""
        return {name: round(value, 3) for name, value in dataclasses.asdict(self).items()}


class Watch:
    """Counts since its start, in all threads; `total` is what was seen so far."""

    def __init__(self):
        self.total, self._lock = Compiles(), threading.Lock()

    def _add(self, **more):
        with self._lock:
            self.total += Compiles(**more)

    def _event(self, name, **_):
        if name == _WRITTEN_TO_CACHE:
            self._add(written=1)

    def _duration(self, name, seconds, **_):
        if name == _COMPILED:
            self._add(compiled=1, seconds=seconds)
        elif name == _READ_FROM_CACHE:
            # Comes within the program's own event, which counts it as compiled.
            self._add(compiled=-1, seconds=-seconds, cached=1, cache_seconds=seconds)


@contextlib.contextmanager
def watch():
    """A `Watch` that counts until the block is left."""
    from jax import monitoring

    seen = Watch()
    monitoring.register_event_listener(seen._event)
    monitoring.register_event_duration_secs_listener(seen._duration)
    try:
        yield seen
    finally:
        monitoring.unregister_event_listener(seen._event)
        monitoring.unregister_event_duration_listener(seen._duration)
