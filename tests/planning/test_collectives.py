"""Bytes sent, read from programs' text: one that XLA compiles here, and a written one."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from amuro_jax import sharding
from amuro_jax.planning.collectives import array_bytes, collective_bytes

LOOP = """HloModule m
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}
%fused (p: bf16[4,8]) -> bf16[16,8] {
  ROOT %all-gather.2 = bf16[16,8]{1,0} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}
}
%body (state: (s32[], f32[32])) -> (s32[], f32[32]) {
  %state = (s32[], f32[32]) parameter(0)
  %two = s32[] constant(2)
  %i = s32[] get-tuple-element(%state), index=0
  %next = s32[] add(%i, %two)
  %x = f32[32] get-tuple-element(%state), index=1
  %all-reduce.1 = f32[32]{0} all-reduce(%x), channel_id=3, replica_groups=[2,4]<=[8], to_apply=%add
  %more = bf16[16,8] fusion(%x), kind=kCustom, calls=%fused
  ROOT %out = (s32[], f32[32]) tuple(%next, %all-reduce.1)
}
%condition (state: (s32[], f32[32])) -> pred[] {
  %state = (s32[], f32[32]) parameter(0)
  %twelve = s32[] constant(12)
  %i = s32[] get-tuple-element(%state), index=0
  ROOT %less = pred[] compare(%i, %twelve), direction=LT
}
ENTRY %main (x: f32[32]) -> f32[32] {
  %x = f32[32] parameter(0)
  %start = bf16[16,8] fusion(%x), kind=kCustom, calls=%fused
  %permute = (f32[32]{0}, f32[32]{0}, u32[]) collective-permute-start(%x), channel_id=9
  %loop = (s32[], f32[32]) while(%x), condition=%condition, body=%body
  %rs = f32[8] reduce-scatter(%x), channel_id=4, replica_groups=mesh['a'=2,'b'=4] {'b'}
  ROOT %y = f32[32] get-tuple-element(%loop), index=1
}
"""


def test_loops_channels_and_groups_of_a_written_program():
    """The reduction runs 12 / 2 times; the gather, spread over the loop, started once."""
    assert collective_bytes(LOOP) == {
        "all-gather": 16 * 8 * 2 * 3 / 4,
        "collective-permute": 32 * 4,
        "all-reduce": 6 * 2 * 3 / 4 * 32 * 4,
        "reduce-scatter": 8 * 4 * 3,
    }


def test_a_compiled_program():
    """Partial sums over 8 devices are reduced once for each of three layers."""
    mesh = sharding.make_mesh("tensor:8")
    place = functools.partial(NamedSharding, mesh)
    x = jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=place(PartitionSpec()))
    up, down = (
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place(PartitionSpec(*axes)))
        for shape, axes in (
            ((3, 64, 128), (None, None, "tensor")),
            ((3, 128, 64), (None, "tensor", None)),
        )
    )

    def run(x, up, down):
        return jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w[0]) @ w[1], None), x, (up, down))[0]

    program = jax.jit(run, out_shardings=place(PartitionSpec())).lower(x, up, down).compile()
    sent = collective_bytes(program.as_text())
    assert sent == {"all-reduce": 3 * 2 * 7 / 8 * 16 * 64 * 4}


@pytest.mark.parametrize(
    "array,size", [(("f32", "2,3"), 24), (("bf16", "8"), 16), (("pred", "4"), 4), (("u32", ""), 4)]
)
def test_bytes_of_an_array(array, size):
    assert array_bytes(*array) == size
