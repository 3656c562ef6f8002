"""Bytes that a training step takes on each device, from shapes, and the remat policy that fits.

An estimate, made before anything is compiled; tests/train/test_memory.py compares it with the
compiler's account. `amuro plan` asks the compiler itself.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from amuro_jax import sharding
from amuro_jax.devices import limit_of
from amuro_jax.errors import ConfigError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import abstract_params
from amuro_jax.train.loss import CHUNK
from amuro_jax.train.step import Step
from amuro_jax.train.trainable import Trainable

# Policies that `auto` tries, from the fastest. Not `offload`: whether it pays depends on the host's
# link, which no table here knows.
ORDER = ("none", "dots", "full")
SHARE = 0.9  # of the limit; the rest is left to fragments and to what the runtime keeps
STATISTICS = 128  # fp32 a head and token: splash keeps its softmax sums spread over vector lanes


@dataclasses.dataclass(frozen=True)
class Split:
    """How a step is split: sizes of the mesh's axes, and micro-batches."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    micro_batches: int = 1


def fitting(make_step, rows: int, length: int, targets: int, members: int = 1) -> Step:
    """The step of the first policy that fits the memory of its devices.

    Args:
        make_step: policy → `Step`.
        rows, length, targets: of the largest batch.
        members: trainings in one program, shared by the mesh's data shards; each has all rows.

    Raises:
        ConfigError: even full remat does not fit.
    """
    for remat in ORDER:
        step = make_step(remat)
        shards = step.mesh.shape["data"] if members > 1 and step.mesh is not None else 1
        # `step_bytes` deals the rows to the data shards
        needed = members // shards * step_bytes(step, shards * rows, length, targets)
        limit = SHARE * free_bytes(step.mesh)
        if needed <= limit:
            return step
    raise ConfigError(
        f"a step of {rows} × {length} tokens takes about {needed / 1e9:.1f} GB of each device, "
        f"{limit / 1e9:.1f} GB may be used",
        where="remat=auto",
        hint="lower micro_batch_size, or split the model over more devices (mesh=fsdp:…)",
    )


def free_bytes(mesh) -> int:
    """Bytes that are free on the fullest device of a mesh (None: the default device)."""
    devices = jax.devices()[:1] if mesh is None else list(mesh.devices.flat)
    local = [device for device in devices if device.process_index == jax.process_index()]
    return min(limit - used for limit, used in map(limit_of, local or devices[:1]))


def step_bytes(step: Step, rows: int, length: int, targets: int) -> int:
    """Bytes of one device while a step of `rows` × `length` tokens runs; see `estimate`."""
    device = jax.devices()[0] if step.mesh is None else step.mesh.devices.flat[0]
    # XLA computes 16-bit products in fp32 on CPU
    itemsize = 4 if device.platform == "cpu" else jnp.dtype(step.compute.dtype).itemsize
    sizes = dict.fromkeys(sharding.AXES, 1) | dict(step.mesh.shape if step.mesh else {})
    return estimate(
        step.config,
        step.trainable,
        Split(**sizes, micro_batches=step.micro_batches),
        itemsize=itemsize,
        remat=step.compute.remat,
        moment=jnp.dtype(step.optimizer.moment_dtype or "float32").itemsize,
        fused=step.compute.attention.gradient,
        rows=rows,
        shape=(length, targets),
    )


def estimate(
    config: ModelConfig,
    trainable: Trainable,
    split: Split,
    *,
    itemsize: int,
    remat: str,
    moment: int,
    fused: bool,
    rows: int,
    shape: tuple[int, int],
) -> int:
    """Bytes of one device: state, gradients, what waits for the backward pass, temporaries.

    Args:
        itemsize: bytes of a number in the layers; `moment`: in Adam's first moment.
        fused: attention is a kernel that keeps no scores.
        rows: of a step, on all devices; `shape`: (tokens of a row, predicted ones).
    """
    length, targets = shape
    shards = split.fsdp * split.tensor
    trained, frozen = elements(trainable.abstract(config)) / shards, 0.0
    if trainable.has_frozen:
        frozen = config.num_parameters / shards
    gradients = 1 if split.micro_batches == 1 else 2  # the sum so far, and one micro-batch's
    state = trained * (4 + 4 + moment + 4 * gradients) + 4 * frozen
    if itemsize == 2:  # the layers' weights in 16 bits
        state += 2 * config.num_parameters / shards
    local = -(-rows // (split.data * split.fsdp * split.micro_batches))
    layer = _layer_bytes(config, split.tensor, itemsize, fused, length)
    waiting = config.num_layers * layer[remat] * local * length
    working = 2 * layer["none"] * local * length + _gathered_layers(config, split, itemsize)
    return int(state + waiting + max(working, _head(config, split, itemsize, local, targets)))


def elements(tree) -> int:
    """Scalars of a tree of shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _layer_bytes(c, tensor, size, fused, length):
    """Policy → bytes of one token in one layer that wait for the backward pass."""
    heads, mlp = c.num_heads * c.head_dim / tensor, c.mlp_size / tensor
    projected = heads * (1 + 2 * c.num_kv_heads / c.num_heads)
    carry = size * c.hidden_size
    # a kernel keeps its result and sums, XLA the scores and the weights
    scores = c.num_heads / tensor * (4 * STATISTICS if fused else (4 + size) * length)
    stored = (heads * size if fused else 0) + scores
    dots = carry + size * (projected + (1 + c.gated_mlp) * mlp + 2 * c.hidden_size)
    # also: inputs of both norms in fp32, inputs of products, the activation and its derivative
    norms = 2 * (4 + size) * c.hidden_size
    none = dots + stored + norms + size * (2 * heads + (1 + 2 * c.gated_mlp) * mlp)
    fast = stored if fused else 0
    return {"none": none, "dots": dots + fast, "offload": carry + fast, "full": carry}


def _gathered_layers(config, split, itemsize):
    """Weights of two layers with the fsdp axis gathered (one runs, the next arrives), and the
    gradient of one.
    """
    if split.fsdp == 1:
        return 0
    layers = elements(abstract_params(config)["layers"]) / config.num_layers
    return layers / split.tensor * (2 * itemsize + 4)


def _head(config, split, itemsize, rows, targets):
    """Logits of one chunk of predicted positions, forward and backward, and the embedding with its
    gradient where the mesh gathers them.
    """
    columns = config.vocab_size / split.tensor
    logits = 3 * 4 * rows * min(targets, CHUNK) * columns
    return logits + (columns * config.hidden_size * (4 + itemsize) if split.fsdp > 1 else 0)
