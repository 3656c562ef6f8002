"""The scorer's programs compiled ahead of time, also for devices that are not there: their memory,
and what is in them.
"""

import jax
import jax.numpy as jnp

from amuro_jax import sharding
from amuro_jax.models import cache
from amuro_jax.models.parameters import abstract_params, logical_axes
from amuro_jax.scoring.generation import Sampling


def compile_lines(programs, count: int, width: int, prefix: int, positions: int | None = None):
    """The compiled program that reads `count` lines of `width` tokens behind a prefix of `prefix`
    slots (0: none).

    Args:
        positions: hidden states wanted of each line; None: all.
    """
    tokens = [_shape(programs, (count, width), jnp.int32, split=True)] * 4
    queries = positions and _shape(programs, (count, positions), jnp.int32, split=True)
    return programs.lines.lower(
        _params(programs), *tokens, queries, _shared(programs, prefix)
    ).compile()


def compile_prefix(programs, slots: int):
    """The compiled program that reads a prefix of `slots` tokens."""
    return programs.prefix.lower(
        _params(programs), _shape(programs, (1, slots), jnp.int32), _shape(programs, (), jnp.int32)
    ).compile()


def compile_head(programs, tokens: int, positions: int, targets: int):
    """The compiled vocabulary head for `positions` of `tokens` hidden states and some targets."""
    numbers = [_shape(programs, (size,), jnp.int32) for size in (positions, targets, targets)]
    hidden = _shape(programs, (tokens, programs.config.hidden_size), programs.dtype, split=True)
    return programs.head.lower(_params(programs), hidden, *numbers).compile()


def compile_generation(generator, rows: int, read: int, width: int, room: int, prefix: int) -> dict:
    """The compiled programs of greedy generation by name: read, join, first, steps, replace.

    Args:
        rows: texts at once; `read` contexts of `width` tokens are read at a time behind a prefix of
            `prefix` slots.
        room: slots for new tokens.
    """
    programs, compiled = generator.programs, {}

    def numbers(*shape, split=False):
        return _shape(programs, shape, jnp.int32, split)

    def run(name, function, *args):
        compiled[name], out = _compiled(function, args)
        return out

    def first(name, hidden, lengths):
        start = (params, hidden, lengths, numbers(), lengths, seed, Sampling())
        return run(name, generator._first, *start)[0]

    params, shared = _params(programs), _shared(programs, prefix)
    seed, several = _shape(programs, (), jnp.uint32), rows // read
    few, all_rows = numbers(read, split=True), numbers(rows, split=True)
    texts = (numbers(read, width, split=True), few, numbers(), shared, width + room)
    keys, hidden = run("read", generator._read, params, *texts)
    new = first("first of few", [hidden], few)
    state = first("first", [hidden] * several, all_rows)
    state |= {"cache": run("join", generator._join, [keys] * several)}
    step = (shared, all_rows, numbers(1), seed, numbers(), room, Sampling())
    state, _ = run("steps", generator._more, params, state, *step)
    run("replace", generator._replace, state, new | {"cache": keys}, numbers(read))
    return compiled


def _compiled(function, args):
    """A jitted function compiled for `args`, and the shapes and shardings of what it returns."""
    lowered = function.lower(*args)
    program = lowered.compile()
    out = jax.tree.map(
        lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec),
        lowered.out_info,
        program.output_shardings,
    )
    return program, out


def _params(programs):
    tree = programs.cast(abstract_params(programs.config, stacks=programs.stacks))
    if programs.mesh is None:
        return tree
    shardings = sharding.shardings(
        logical_axes(programs.config, programs.stacks), tree, programs.mesh
    )
    return jax.tree.map(
        lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec),
        tree,
        shardings,
    )


def _shared(programs, slots):
    if not slots:
        return None
    prefix = jax.eval_shape(
        lambda: cache.empty(programs.config, 1, slots, programs.dtype, programs.stacks)
    )
    return jax.tree.map(lambda leaf: _shape(programs, leaf.shape, leaf.dtype), prefix)


def _shape(programs, shape, dtype, split=False):
    mesh = programs.mesh
    if mesh is None:
        return jax.ShapeDtypeStruct(shape, dtype)
    spec = sharding.batch_sharding(mesh, len(shape)) if split else sharding.replicated(mesh)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=spec)
