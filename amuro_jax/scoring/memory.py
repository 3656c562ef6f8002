"""How much of a device's memory the scorer's programs take, and so how large its batches may be.

The figures are bounds from shapes, checked against the compiler's own account in
tests/scoring/test_memory.py. What they miss is caught when it happens: out of memory, the work goes
on in halves.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from amuro_jax import processes, sharding
from amuro_jax.devices import limit_of
from amuro_jax.errors import AmuroError
from amuro_jax.models.parameters import abstract_params, logical_axes
from amuro_jax.scoring.programs import HEAD_POSITIONS, LOGITS_AT_ONCE

SHARE = 0.85  # of the limit; the rest is left to fragments and to what the runtime keeps
LEAST = 32  # tokens of a batch or of a part of a prefix


@dataclasses.dataclass(frozen=True)
class Memory:
    """What is free on each device, and bytes per device of the scorer's programs.

    Attributes:
        free: bytes for batches: SHARE of the limit, less what is in use and the parameters as they
            will be placed.
        parameters: bytes of parameters on one device.
        layer: bytes of weights that exist beside the parameters while a layer runs.
        heads: query heads whose scores exist at once.
        most: tokens of a batch at most.
    """

    config: object
    free: int
    parameters: int
    layer: int
    itemsize: int
    shards: int
    heads: int
    columns: int
    most: int

    def line_bytes(self, tokens: int, width: int, prefix: int) -> int:
        """Temporaries of `tokens` tokens (on one device) in lines of `width` behind a prefix of
        `prefix` slots.
        """
        c, size = self.config, self.itemsize
        # Two fp32 copies where blocks are joined, and the weights.
        scores = self.heads * (width + prefix) * (8 + size)
        projected = 2 * (c.num_heads + 2 * c.num_kv_heads) * c.head_dim // self.shards * size
        mlp = (2 + c.gated_mlp) * c.mlp_size // self.shards * size
        return self.layer + tokens * (max(scores + projected, mlp) + 3 * c.hidden_size * size)

    def head_bytes(self) -> int:
        """Temporaries of the vocabulary head: scores and their exponentials, and a copy of the
        columns.
        """
        logits = 8 * min(LOGITS_AT_ONCE, HEAD_POSITIONS[-1] * self.config.vocab_size)
        return (
            max(logits, self.columns * 8 * HEAD_POSITIONS[-1])
            + self.columns * self.config.hidden_size * self.itemsize
        )

    def key_bytes(self, slots: int) -> int:
        """Keys and values of `slots` tokens, all layers, not split over devices."""
        return (
            2
            * self.config.num_layers
            * slots
            * self.config.num_kv_heads
            * self.config.head_dim
            * self.itemsize
        )

    def batch_tokens(self, width: int, prefix: int) -> int:
        """The largest power of two of tokens per device that fits, between LEAST and `most`."""
        # Hidden states of the batches in flight.
        in_flight = 3 * self.config.hidden_size * self.itemsize
        room = self.free - self.key_bytes(prefix)
        return _halve_until(
            self.most,
            LEAST,
            lambda n: (
                max(self.line_bytes(n, width, prefix), self.layer + self.head_bytes())
                + n * in_flight
                <= room
            ),
        )

    def prefix_chunk(self, slots: int) -> int:
        """Tokens of a prefix of `slots` that are read at a time: the largest of all, a half, a
        quarter, … that fits.
        """
        room = self.free - 2 * self.key_bytes(slots)
        return _halve_until(
            slots, LEAST, lambda n: self.line_bytes(n, n, slots if n < slots else 0) <= room
        )

    def generation_rows(self, most: int, capacity: int, prefix: int) -> int:
        """Rows of one device that may be generated together, each with a buffer of `capacity`
        slots.
        """
        room = (
            self.free
            - self.key_bytes(prefix)
            - self.head_bytes()
            - self.line_bytes(LEAST, capacity, prefix)
        )
        # The buffer, and one that is being built from it.
        return _halve_until(most, 1, lambda n: 2 * n * self.key_bytes(capacity) <= room)


def _halve_until(size, least, fits):
    while size > least and size % 2 == 0 and not fits(size):
        size //= 2
    return size


def memory_of(config, mesh, dtype, strategy) -> Memory:
    """The memory of the devices of `mesh` (or the default device) under one model configuration.

    Args:
        strategy: `strategy.Strategy`. `blocked` attention holds the scores of one key head at a
            time (compiled code runs a few beside each other in the room of one); any other is taken
            to hold all.
    """
    devices = jax.devices()[:1] if mesh is None else list(mesh.devices.flat)
    on_cpu, size, shards = (
        devices[0].platform == "cpu",
        jnp.dtype(dtype).itemsize,
        1 if mesh is None else mesh.shape["tensor"],
    )
    parameters, layer = _parameter_bytes(config, mesh, dtype)
    # XLA computes in fp32 there, with a converted copy of all layers beside the parameters.
    if on_cpu and size < 4:
        layer, size = 3 * layer * config.num_layers, 4
    local = [device for device in devices if device.process_index == jax.process_index()] or devices
    limit, used = min((limit_of(device) for device in local), key=lambda pair: pair[0] - pair[1])
    heads = (
        config.num_heads // config.num_kv_heads
        if strategy.attention.name == "blocked"
        else -(-config.num_heads // shards)
    )
    columns = min(strategy.vocab_chunk or -(-config.vocab_size // shards), config.vocab_size)
    free = int(SHARE * limit) - used - parameters
    if len({device.process_index for device in devices}) > 1:
        free = processes.least(free)  # all processes have to choose the same batches
    return Memory(
        config,
        free,
        parameters,
        layer,
        size,
        shards,
        heads,
        columns,
        strategy.most_tokens,
    )


def _parameter_bytes(config, mesh, dtype):
    """Bytes of all parameters on one device, and of one layer's weights with the fsdp axis
    gathered.
    """
    tree = abstract_params(config, dtype)
    sizes = jax.tree.map(lambda leaf: math.prod(leaf.shape) * leaf.dtype.itemsize, tree)
    if mesh is not None:
        shardings = sharding.shardings(logical_axes(config), tree, mesh)
        sizes = jax.tree.map(
            lambda leaf, spec: math.prod(spec.shard_shape(leaf.shape)) * leaf.dtype.itemsize,
            tree,
            shardings,
        )
    gathered = 1 if mesh is None else mesh.shape["fsdp"]
    return sum(jax.tree.leaves(sizes)), sum(
        jax.tree.leaves(sizes["layers"])
    ) * gathered // config.num_layers


def only_memory(error: Exception) -> Exception:
    """The error, where it says that memory ran out; any other is raised.

    Raises:
        AmuroError: one of several processes, which cannot go on with half a batch where the others
            may have gone on with all of it.
    """
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    if not processes.alone():
        hint = "lower --config.batch_tokens, or split the model over more devices"
        raise AmuroError(
            f"out of device memory in one of several processes: {str(error).splitlines()[0]}",
            where="scorer",
            hint=hint,
        ) from error
    return error


def too_large(what: str, error: Exception, memory: Memory) -> AmuroError:
    """The error of one thing that does not fit even alone."""
    first = str(error).splitlines()[0]
    free = max(memory.free, 0)
    sizes = (
        f"parameters take {memory.parameters / 1e9:.2f} GB of each device, "
        f"about {free / 1e9:.2f} GB were free for the rest"
    )
    hint = (
        "split the model over more devices (--config.run.mesh=tensor:…), "
        "use --config.scoring.dtype=bfloat16, or fewer shots"
    )
    return AmuroError(
        f"out of device memory with {what}: {first}\n  {sizes}", where="scorer", hint=hint
    )
