"""Reading a shared prefix: all at once, or in parts where memory is short."""

import jax
import numpy as np

from amuro_jax.models.cache import KeyValues
from amuro_jax.scoring import planner
from amuro_jax.scoring.memory import only_memory
from amuro_jax.scoring.programs import pad_rows


def read_prefix(programs, limits, params, prefix: np.ndarray) -> KeyValues | None:
    """Keys and values of a prefix, padded to its bucket; None for the empty prefix.

    Raises:
        AmuroError: not even a few tokens at a time fit the device.
    """
    if not len(prefix):
        return None
    tokens = pad_rows(np.asarray(prefix, np.int32), planner.capacity(len(prefix)), 0)[None]
    while True:
        tried = min(limits.prefix_tokens, tokens.shape[1])
        try:
            return jax.block_until_ready(_read(programs, params, tokens, len(prefix), tried))
        except jax.errors.JaxRuntimeError as error:
            limits.shorter_prefix(only_memory(error), len(prefix), tried)


def _read(programs, params, tokens, length, size):
    put = programs.put
    if size == tokens.shape[1]:
        return programs.prefix(params, put(tokens), put(np.int32(length)))
    buffer = programs.empty(-(-tokens.shape[1] // size) * size)
    for start in range(0, tokens.shape[1], size):
        part = pad_rows(tokens[0, start : start + size], size, 0)[None]
        buffer = programs.prefix_part(
            params, buffer, put(part), put(np.int32(start)), put(np.int32(length))
        )
    return buffer
