"""The training step compiles for TPU slices, with fused attention inside and within their memory.

No TPU is needed.
"""

import functools
import math
import re

import pytest

from amuro_jax import sharding
from amuro_jax.models.attention import Backend
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.lora import Lora
from amuro_jax.planning.collectives import collective_bytes
from amuro_jax.train.ahead_of_time import compile_step
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import StackedStep, Step
from amuro_jax.train.trainable import AllParameters

ADAM = Optimizer(clip_norm=1.0)
OLMO_1B = ModelConfig("olmo", 50304, 2048, 16, 16, 16, 128, 8192, 2048)
SMALL = ModelConfig("olmo", 1024, 256, 2, 2, 2, 128, 512, 2048)


@functools.cache
def tpu_mesh(topology, text):
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:  # no compiler for this machine
        pytest.skip(f"no TPU compiler: {error}")
    return sharding.make_mesh(text, devices)


def pairs_of_tokens(program, length, at_least):
    """Arrays of the program with one entry for each pair of tokens of `at_least` rows and heads."""
    shapes = re.findall(rf"\w+\[((?:\d+,)*{length},{length})\]", program)
    leading = {shape: math.prod(map(int, shape.split(",")[:-2])) for shape in shapes}
    return [shape for shape, size in leading.items() if size >= at_least]


@pytest.mark.slow  # compiling for a TPU: 5 to 10 s each on two cores
@pytest.mark.parametrize("remat", ["dots", "offload", "full"])
def test_what_waits_for_the_backward_pass(remat):
    """`dots` runs no attention kernel twice, and offloaded products lie in the host's memory."""
    step = Step(SMALL, ADAM, "bfloat16", remat, 1, tpu_mesh("v5e:2x2", "fsdp:4"))
    compiled = compile_step(step, 8, 1024, 8)
    memory = compiled.memory_analysis()
    assert (memory.host_temp_size_in_bytes > 0) == (remat == "offload")
    calls = [line for line in compiled.as_text().splitlines() if "custom-call(" in line]
    forward, backward = (
        sum(f"%splash_mha_{name}" in line.partition("=")[0] for line in calls)
        for name in ("fwd", "dkv")
    )
    assert forward == backward + (remat == "full")


@pytest.mark.slow  # compiling for a TPU: 10 s
def test_a_member_on_each_chip_is_a_program_of_its_own():
    """Trainings in one program on a mesh of data alone: fused attention, and nothing is sent."""
    alone = Step(SMALL, ADAM, "bfloat16", "none", 1, tpu_mesh("v5e:2x2", "data:4"))
    program = compile_step(StackedStep(alone, 4), 8, 1024, 8)
    text = program.as_text()
    assert "splash_mha_dkv" in text and not collective_bytes(text)
    state = 12 * SMALL.num_parameters  # of one member: parameters and two moments
    assert program.memory_analysis().argument_size_in_bytes == pytest.approx(state, rel=0.1)


@pytest.mark.slow  # 40 s
def test_olmo_1b_at_its_whole_context_has_no_array_of_all_pairs():
    """1,920 tokens: 2,048 are the model's width too, and weights would look like scores. The scores
    of two rows of 16 heads are [32, 1920, 1920].
    """
    rows, heads = 2, OLMO_1B.num_heads
    step = Step(OLMO_1B, ADAM, "bfloat16", "full", 1, tpu_mesh("v5e:2x4", "fsdp:8"))
    program = compile_step(step, rows * 8, 1920, 8).as_text()
    assert "splash_mha_dkv" in program
    assert not pairs_of_tokens(program, 1920, rows * heads)
    assert "pred[2,1920,1920]" not in program  # nor a mask


@pytest.mark.slow  # 10 s
def test_attention_of_xla_has_such_an_array():
    """What the test above looks for is there where no kernel is used."""
    mesh = tpu_mesh("v5e:2x2", "fsdp:4")
    step = Step(SMALL, ADAM, "bfloat16", "full", 1, mesh, attention=Backend())
    assert pairs_of_tokens(compile_step(step, 8, 1024, 8).as_text(), 1024, 2 * SMALL.num_heads)


@pytest.mark.slow  # 40 s
@pytest.mark.parametrize("trainable", [AllParameters(), Lora(16, 32.0)], ids=["full", "adapter"])
def test_olmo_1b_step_fits_v5e(trainable):
    step = Step(
        OLMO_1B,
        ADAM,
        "bfloat16",
        "full",
        1,
        tpu_mesh("v5e:2x4", "fsdp:8"),
        trainable=trainable,
    )
    memory = compile_step(step, 8, 1024, 8).memory_analysis()
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    # fp32 parameters over 8 chips; trained, each has two moments
    each = 12 if isinstance(trainable, AllParameters) else 4
    # Seven factors of the adapter have the model's width and are sharded; the others (queries, keys
    # and values 2,048 each, out 2,048, three of 8,192) are on every chip.
    adapter = 0 if each == 12 else 12 * 16 * 16 * (7 * 2048 / 8 + 4 * 2048 + 3 * 8192)
    expected = each * OLMO_1B.num_parameters / 8 + adapter
    assert arguments == pytest.approx(expected, rel=0.03)
    assert arguments + temporary < 15e9, f"{(arguments + temporary) / 1e9:.2f} GB per chip"
