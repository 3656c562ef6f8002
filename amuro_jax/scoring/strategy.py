"""How the scorer's programs are laid out on one kind of device: the only module that decides."""

import dataclasses

import jax

from amuro_jax.models.attention import Backend, best_backend

MOST_TOKENS = 16384  # of a batch per device: more gains nothing
MOST_TOKENS_CPU = 1024  # a batch should stay in the cache
# Columns of the vocabulary at a time: [512, 8192] fp32 logits are 16 MB.
VOCAB_CHUNK = 8192


@dataclasses.dataclass(frozen=True)
class Strategy:
    """What depends on the device, and changes no number beyond rounding.

    Attributes:
        attention: backend; on CPU a few key heads at a time (10 % faster for 12 heads of 64, and
            1 / heads of the memory).
        stacks: layers of the programs that read (`parameters.stack_layers`): the last one by
            itself, so that its products after attention are for the query positions only.
        step_stacks: layers of decoding steps. On one CPU every layer by itself: a scan copies each
            layer out of the stack, which costs 20 % of a step of 64 rows.
        vocab_chunk: columns of one step of the vocabulary head; 0: all at once.
        most_tokens: tokens of a batch per device, at most.
    """

    attention: Backend
    stacks: tuple[int, ...]
    step_stacks: tuple[int, ...]
    vocab_chunk: int
    most_tokens: int


def choose_strategy(config, mesh, dtype, attention: str = "", vocab_chunk: int = -1) -> Strategy:
    """The strategy for the devices of `mesh` (None: the default device).

    Args:
        attention: name of a backend; "": the best of the platform.
        vocab_chunk: -1: VOCAB_CHUNK, or all columns where the mesh splits them.
    """
    platform = (jax.devices() if mesh is None else list(mesh.devices.flat))[0].platform
    backend = Backend(attention, mesh) if attention else best_backend(platform, dtype, mesh)
    stacks = (config.num_layers - 1, 1) if config.num_layers > 1 else (1,)
    one_cpu = backend.name == "blocked" and (mesh is None or mesh.size == 1)
    split = mesh is not None and mesh.shape["tensor"] > 1
    return Strategy(
        attention=backend,
        stacks=stacks,
        step_stacks=(1,) * config.num_layers if one_cpu else stacks,
        vocab_chunk=vocab_chunk if vocab_chunk >= 0 else 0 if split else VOCAB_CHUNK,
        most_tokens=MOST_TOKENS_CPU if platform == "cpu" else MOST_TOKENS,
    )
