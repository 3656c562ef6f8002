"""Meshes are parsed or refused, rules place axes, and a sharded forward gives the numbers of one
device.
"""

import jax
import numpy as np
import pytest

from amuro_jax import sharding
from amuro_jax.errors import ConfigError
from amuro_jax.models.forward import forward
from amuro_jax.models.layout import plain
from amuro_jax.models.parameters import abstract_params, init_params, logical_axes
from tests.models.test_layout import CONFIGS, tokens


def test_parse_mesh():
    assert sharding.parse_mesh("data:4,tensor:2", 8) == {"data": 4, "fsdp": 1, "tensor": 2}
    assert sharding.parse_mesh("data:-1,tensor:2", 8) == {"data": 4, "fsdp": 1, "tensor": 2}
    assert sharding.parse_mesh("", 1) == {"data": 1, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize(
    "text",
    [
        "data:3",
        "rows:2",
        "data:2,data:4",
        "data:x",
        "data:0",
        "data:-1,tensor:3",
        "data:-1,fsdp:-1",
        "data",
        "data:-2",
    ],
)
def test_bad_meshes_are_refused(text):
    with pytest.raises(ConfigError):
        sharding.parse_mesh(text, 8)


def test_the_mesh_of_a_configuration_fits_the_devices_or_is_refused_by_its_field(monkeypatch):
    assert sharding.whole_mesh("data:4,tensor:2").shape == {"data": 4, "fsdp": 1, "tensor": 2}
    with pytest.raises(ConfigError, match="does not fill 8 devices(?s:.*)config.train.mesh=fsdp:3"):
        sharding.whole_mesh("fsdp:3", "config.train.mesh")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert sharding.whole_mesh("data:-1") is None
    with pytest.raises(ConfigError, match="does not fill 1 devices"):
        sharding.whole_mesh("data:8")


def test_an_axis_that_does_not_divide_is_replicated():
    mesh = sharding.make_mesh("fsdp:4,tensor:2")
    assert sharding.spec(
        ("embed", "heads", "head_dim"), (8, 4, 3), mesh
    ) == jax.sharding.PartitionSpec("fsdp", "tensor", None)
    assert sharding.spec(
        ("embed", "heads", "head_dim"), (6, 3, 3), mesh
    ) == jax.sharding.PartitionSpec(None, None, None)


@pytest.mark.parametrize(
    "mesh_text", ["data:8", "fsdp:8", "data:4,tensor:2", "data:2,fsdp:2,tensor:2"]
)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.family)
def test_forward_is_the_same_on_every_mesh(config, mesh_text):
    mesh = sharding.make_mesh(mesh_text)
    params = init_params(config, 0)
    expected = jax.jit(lambda p, t: forward(p, t, plain(16, 8), config=config)[0])(
        params, tokens(8, 16)
    )
    placed = jax.device_put(
        params, sharding.shardings(logical_axes(config), abstract_params(config), mesh)
    )
    batch = jax.device_put(tokens(8, 16), sharding.batch_sharding(mesh))
    with jax.set_mesh(mesh):
        result = jax.jit(lambda p, t: forward(p, t, plain(16, 8), config=config)[0])(placed, batch)
    np.testing.assert_allclose(np.asarray(result), np.asarray(expected), atol=2e-5)


def test_batch_divisor_counts_the_shards_of_a_batch():
    assert sharding.batch_divisor(sharding.make_mesh("data:2,fsdp:2,tensor:2")) == 4
