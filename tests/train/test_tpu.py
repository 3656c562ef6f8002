"""The training step of OLMo-1B compiles for a TPU v5e slice and fits its memory.

No TPU is needed.
"""

import jax
import jax.numpy as jnp
import pytest

from amuro_jax import sharding
from amuro_jax.models.config import ModelConfig
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import Step

pytestmark = pytest.mark.slow
OLMO_1B = ModelConfig("olmo", 50304, 2048, 16, 16, 16, 128, 8192, 2048)


def test_olmo_1b_step_fits_v5e(monkeypatch):
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    except Exception as error:  # no compiler for this machine
        pytest.skip(f"no TPU compiler: {error}")
    mesh = sharding.make_mesh("fsdp:8", topology.devices)
    step = Step(OLMO_1B, Optimizer(clip_norm=1.0), "bfloat16", "full", 1, mesh)
    rows, length, targets = 8, 1024, 8
    place = sharding.batch_sharding(mesh)
    shapes = {
        name: jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=place)
        for name in ("tokens", "position", "enter", "leave")
    }
    shapes |= {
        name: jax.ShapeDtypeStruct((rows, targets), jnp.int32, sharding=place)
        for name in ("source", "target")
    }
    shapes["weight"] = jax.ShapeDtypeStruct((rows, targets), jnp.float32, sharding=place)
    state = jax.tree.map(
        lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at),
        step.abstract_state(),
        step.state_shardings,
    )
    with jax.set_mesh(mesh):
        compiled = step.jitted.lower(
            state, {}, shapes, jax.ShapeDtypeStruct((), jnp.float32)
        ).compile()
    memory = compiled.memory_analysis()
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    # fp32 parameters and two moments, 12 bytes each of 1.177 G scalars, over 8 chips
    assert arguments == pytest.approx(12 * OLMO_1B.num_parameters / 8, rel=0.02)
    assert arguments + temporary < 15e9, f"{(arguments + temporary) / 1e9:.2f} GB per chip"
    print(
        f"OLMo-1B step on v5e:2x4, 8 × 1024 tokens: {arguments / 1e9:.2f} GB arguments, "
        f"{temporary / 1e9:.2f} GB temporary per chip"
    )
