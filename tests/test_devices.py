"""What is known of devices: memory by kind, and options that their compiler knows."""

import types

import jax
import pytest

from amuro_jax import chips, devices, sharding

TPUS = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}


def tpu(topology):
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]
    except Exception as error:  # no compiler for this machine
        pytest.skip(f"no TPU compiler: {error}")


@pytest.mark.parametrize("name", TPUS)
def test_every_option_is_known_to_the_compiler(name):
    device = tpu(TPUS[name])
    assert devices.compiler_options(device) == chips.XLA_OPTIONS[name] != {}
    assert devices.limit_of(device) == (chips.CHIPS[name].memory, 0)


def test_an_option_that_is_unknown_is_left_out(monkeypatch, caplog):
    device = tpu("v5e:2x2")
    monkeypatch.setitem(chips.XLA_OPTIONS, "v5e", {"xla_tpu_no_such_option": "true"})
    assert devices.compiler_options.__wrapped__(device) == {}


def test_other_platforms_have_none():
    assert devices.compiler_options(jax.devices()[0]) == {}


def test_a_device_that_is_not_in_the_table():
    unknown = types.SimpleNamespace(platform="tpu", device_kind="TPU v99", memory_stats=dict)
    assert devices.limit_of(unknown) == (devices.UNKNOWN, 0)


@pytest.mark.parametrize("text", ["fsdp:8,tensor:2", "data:2,fsdp:4,tensor:2", "fsdp:16"])
def test_a_mesh_may_split_an_axis_of_the_torus(text):
    """Eight by two is no product of the axes of four by four chips."""
    tpu("v6e:4x4")
    from jax.experimental import topologies

    chips_of = topologies.get_topology_desc(platform="tpu", topology_name="v6e:4x4")
    mesh = sharding.make_mesh(text, chips_of.devices)
    assert mesh.size == 16 and len(set(mesh.devices.flat)) == 16
