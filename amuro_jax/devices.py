"""What a device is: its memory, and the options that programs for it are compiled with."""

import functools
import os
from pathlib import Path

import jax
from absl import logging

from amuro_jax.chips import XLA_OPTIONS, chip_of

UNKNOWN = 16e9  # bytes of a device that neither reports its memory nor is in the table of chips


def limit_of(device) -> tuple[int, int]:
    """(bytes that may be used, bytes in use) of one device.

    By its kind where it does not report them, as one that is only compiled for.
    """
    if device.platform == "cpu":
        return ram() // len(jax.local_devices(backend="cpu")), 0
    try:
        stats = device.memory_stats()
    except jax.errors.JaxRuntimeError:  # a device of a topology, without hardware
        stats = None
    if stats and stats.get("bytes_limit"):
        return stats["bytes_limit"], stats.get("bytes_in_use", 0)
    chip = chip_of(device.device_kind)
    return int(UNKNOWN if chip is None else chip.memory), 0


def ram() -> int:
    """Bytes of memory of this machine, or of the control group that the process runs in."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    files = [
        path
        for path in map(
            Path, ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
        )
        if path.exists()
    ]
    limits = [path.read_text().strip() for path in files]
    return min([total, *(int(limit) for limit in limits if limit.isdigit())])


@functools.cache
def compiler_options(device) -> dict[str, str]:
    """Options of a training step's compilation (`chips.XLA_OPTIONS`); none where the compiler of
    this machine does not know one of them, which it is asked with an empty program.
    """
    chip = chip_of(device.device_kind) if device.platform == "tpu" else None
    options = XLA_OPTIONS.get(chip.name, {}) if chip else {}
    if not options:
        return {}
    spec = jax.sharding.SingleDeviceSharding(device)
    number = jax.ShapeDtypeStruct((), "float32", sharding=spec)
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(number).compile()
    except jax.errors.JaxRuntimeError as error:
        logging.warning("compiled without options of %s: %s", chip.name, str(error)[:200])
        return {}
    return options
