"""Datasheet figures of accelerators, and compiler options by TPU generation: the only tables. No
jax.

Sources: cloud.google.com/tpu/docs/{v2, v3, v4, v5e, v5p, v6e} (interconnect: the published Gbit/s
per chip, all links in one direction); NVIDIA's datasheets of A100 80GB SXM, H100 SXM and H200 SXM
(bf16 without sparsity; NVLink in one direction).
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator as its maker describes it.

    Attributes:
        name: as in a topology (`v5e:4x4`).
        platform: tpu or gpu.
        kind: part of jax's `device_kind`, in lower case.
        flops: bf16 FLOP/s.
        memory: bytes.
        bandwidth: bytes/s of the memory.
        links: bytes/s that one chip can send to others, over all its links.
        axes: of the torus that a slice is cut from; 1: devices of one machine.
    """

    name: str
    platform: str
    kind: str
    flops: float
    memory: float
    bandwidth: float
    links: float
    axes: int


CHIPS = {
    chip.name: chip
    for chip in (
        # v2 and v3: one of a chip's two cores, which jax takes for a device each
        Chip("v2", "tpu", "v2", 23e12, 8e9, 350e9, 62e9, 2),
        Chip("v3", "tpu", "v3", 61.5e12, 16e9, 450e9, 82e9, 2),
        Chip("v4", "tpu", "v4", 275e12, 32e9, 1228e9, 300e9, 3),
        Chip("v5e", "tpu", "v5 lite", 197e12, 16e9, 819e9, 200e9, 2),
        Chip("v5p", "tpu", "v5", 459e12, 95e9, 2765e9, 600e9, 3),
        Chip("v6e", "tpu", "v6 lite", 918e12, 32e9, 1640e9, 400e9, 2),
        Chip("a100", "gpu", "a100", 312e12, 80e9, 2039e9, 300e9, 1),
        Chip("h100", "gpu", "h100", 989e12, 80e9, 3350e9, 450e9, 1),
        Chip("h200", "gpu", "h200", 989e12, 141e9, 4800e9, 450e9, 1),
    )
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip that jax calls `device_kind` ("TPU v5 lite", "NVIDIA H100 80GB HBM3"), if it is in
    the table.
    """
    text = device_kind.lower()
    fitting = [chip for chip in CHIPS.values() if chip.kind in text or chip.name in text]
    return max(fitting, key=lambda chip: len(chip.kind), default=None)


# Compiler options of training steps by TPU generation, each with its reason (MaxText's published
# runs, benchmarks/xla_flags_library.py, use them too). libtpu 0.0.52 makes the same program for v5e
# with and without those of v5e: there they are defaults, older versions need them.
_OVERLAP = {
    "xla_tpu_enable_async_collective_fusion": "true",  # collectives run inside compute fusions
    "xla_tpu_enable_async_collective_fusion_multiple_steps": "true",  # over several of them
    "xla_tpu_overlap_compute_collective_tc": "true",  # one core does both at once
    "xla_enable_async_all_gather": "true",  # gathers have a start and an end
}
XLA_OPTIONS = {
    "v4": _OVERLAP,
    # gathers of fsdp too; the compiler refuses it for other generations
    "v5e": _OVERLAP | {"xla_tpu_enable_async_collective_fusion_fuse_all_gather": "true"},
    "v5p": _OVERLAP,
    # 128 MB of vector memory: large tiles of products pay, and leave room to fetch the next
    "v6e": _OVERLAP | {"xla_tpu_scoped_vmem_limit_kib": "98304"},
}
