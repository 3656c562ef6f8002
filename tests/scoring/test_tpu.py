"""The scorer's programs for OLMo-1B compile for a TPU v5e slice, with the fused kernels inside, and
fit its memory. No TPU is needed.
"""

import jax
import pytest

from amuro_jax import sharding
from amuro_jax.models.config import ModelConfig
from amuro_jax.scoring import ahead_of_time
from amuro_jax.scoring.scorer import Scorer

pytestmark = pytest.mark.slow
OLMO_1B = ModelConfig("olmo", 50304, 2048, 16, 16, 16, 128, 8192, 2048)


@pytest.fixture(scope="module")
def devices():
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices
    except Exception as error:  # no compiler for this machine
        pytest.skip(f"no TPU compiler: {error}")


def test_lines_behind_a_prefix(devices):
    programs = Scorer(OLMO_1B, sharding.make_mesh("data:8", devices), "bfloat16").programs
    compiled = ahead_of_time.compile_lines(programs, 128 * 8, 128, 512, positions=8)
    assert "tree_attention" in compiled.as_text()
    memory = compiled.memory_analysis()
    taken = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    assert memory.argument_size_in_bytes == pytest.approx(2 * OLMO_1B.num_parameters, rel=0.05)
    assert taken < 16e9
    print(
        "OLMo-1B on v5e:2x4, data:8, 1024 lines of 128 tokens behind 512: "
        f"{taken / 1e9:.2f} GB per chip"
    )


def test_the_prefix_with_split_heads(devices):
    mesh = sharding.make_mesh("data:4,tensor:2", devices)
    assert (
        "tree_attention"
        in ahead_of_time.compile_prefix(Scorer(OLMO_1B, mesh, "bfloat16").programs, 512).as_text()
    )
    assert (
        "splash_mha_fwd"
        in ahead_of_time.compile_prefix(
            Scorer(OLMO_1B, mesh, "bfloat16", attention="splash").programs, 512
        ).as_text()
    )


def test_generation_writes_into_its_buffer_and_keeps_its_places(devices):
    """What the steps give back lies as what they take, so that they are one program.

    Rows are replaced without a copy of the others.
    """
    generator = Scorer(
        OLMO_1B, sharding.make_mesh("data:4,tensor:2", devices), "bfloat16"
    ).generator
    compiled = ahead_of_time.compile_generation(generator, 256, 64, 96, 60, 256)
    buffer = generator.programs.config.num_layers * 2 * 256 * (96 + 60) * 2048 * 2 / 8
    for name in ("steps", "replace"):
        memory = compiled[name].memory_analysis()
        assert (
            memory.alias_size_in_bytes >= buffer
            and memory.argument_size_in_bytes + memory.temp_size_in_bytes < 3e9
        )
    places = compiled["steps"].output_shardings[0]
    assert places == compiled["replace"].output_shardings
    assert places["cache"].key[0].spec == jax.sharding.PartitionSpec(None, "data", "tensor")
    for name in ("read", "steps", "replace"):  # keys and values of all rows never travel
        assert "16[15,256,16,156,128]" not in compiled[name].as_text()
