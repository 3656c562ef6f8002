"""A training step compiled ahead of time, also for devices that are not there."""

import jax
import jax.numpy as jnp

from amuro_jax import sharding
from amuro_jax.models.parameters import abstract_params, logical_axes
from amuro_jax.train.step import StackedStep, Step


def compile_step(step: Step | StackedStep, rows: int, length: int, targets: int):
    """The compiled step for batches of `rows` × `length` tokens with `targets` predicted ones.

    Args:
        rows: of all devices and micro-batches together.
    """
    placed = None if step.mesh is None else step.batch_sharding()
    args = (
        _placed(step.abstract_state(), step.state_shardings),
        abstract_frozen(step),
        _batch(placed, rows, length, targets),
        jax.ShapeDtypeStruct(step.rate_shape, jnp.float32),
    )
    if step.mesh is None:
        return step.jitted.lower(*args).compile()
    with jax.set_mesh(step.mesh):
        return step.jitted.lower(*args).compile()


def abstract_frozen(step: Step | StackedStep) -> dict:
    """Shapes of what a step reads beside its state, where it lies on the step's mesh."""
    if not step.trainable.has_frozen:
        return {}
    if isinstance(step, StackedStep):
        params = abstract_frozen(step.step)
        return jax.tree.map(step.of_members, params)
    params = abstract_params(step.config)
    if step.mesh is None:
        return params
    shardings = sharding.shardings(logical_axes(step.config), params, step.mesh)
    return _placed(params, shardings)


def _batch(placed, rows, length, targets):
    shapes = {name: (length, jnp.int32) for name in ("tokens", "position", "enter", "leave")}
    shapes |= {name: (targets, jnp.int32) for name in ("source", "target")}
    shapes["weight"] = (targets, jnp.float32)
    return {
        name: jax.ShapeDtypeStruct((rows, size), dtype, sharding=placed)
        for name, (size, dtype) in shapes.items()
    }


def _placed(tree, shardings):
    if shardings is None:
        return tree
    return jax.tree.map(
        lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec),
        tree,
        shardings,
    )
