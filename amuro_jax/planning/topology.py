"""Topologies by name (`v5e:4x4`, `h100:8`, `cpu`), and their devices where programs can be compiled
for them.
"""

import dataclasses
import difflib
import functools
import math
import time

import jax
import jax.numpy as jnp

from amuro_jax.chips import CHIPS, Chip
from amuro_jax.devices import ram
from amuro_jax.errors import ConfigError

EXAMPLES = "for example v5e:4x4, v5p:2x2x2, v6e:4x4, h100:8 or cpu"
SIDE = 1024  # of the square matrices whose product measures a CPU
TRIALS = 5


@dataclasses.dataclass(frozen=True)
class Topology:
    """Some devices of one kind.

    Attributes:
        text: as it was named.
        count: number of devices.
    """

    text: str
    chip: Chip
    count: int


@dataclasses.dataclass(frozen=True)
class Compiler:
    """Devices to compile for; None where there is no compiler, and why."""

    devices: list | None
    why: str = ""


def parse_topology(text: str) -> Topology:
    """The topology that a name means.

    Raises:
        ConfigError: an unknown chip, or a shape that is not one of its slices.
    """
    name, _, shape = text.strip().lower().partition(":")
    known = [*CHIPS, "cpu"]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"unknown chip {name!r}",
            where=f"--topology={text}",
            hint=f"{guess}{EXAMPLES}; chips: " + ", ".join(known),
        )
    chip = _this_cpu() if name == "cpu" else CHIPS[name]
    sizes = shape.split("x") if shape else ["1"] * chip.axes
    if not all(size.isdigit() and int(size) > 0 for size in sizes) or len(sizes) != chip.axes:
        pattern = "x".join(["N"] * chip.axes)
        raise ConfigError(
            f"{shape!r} is no shape of a {name} slice, which has {chip.axes} axes ({pattern})",
            where=f"--topology={text}",
            hint=EXAMPLES,
        )
    return Topology(text, chip, math.prod(map(int, sizes)))


def compiler_of(topology: Topology) -> Compiler:
    """What programs can be compiled for without the devices being there.

    Raises:
        ConfigError: a TPU slice that does not exist.
    """
    if topology.chip.platform == "cpu":
        devices = jax.devices("cpu")
        if len(devices) >= topology.count:
            return Compiler(devices[: topology.count])
        return Compiler(None, f"this process has {len(devices)} CPU devices")
    if topology.chip.platform == "gpu":
        return Compiler(None, "programs for GPUs are not compiled ahead of time")
    try:
        import libtpu  # noqa: F401
    except ImportError:
        return Compiler(None, "no TPU library here (pip install libtpu)")
    from jax.experimental import topologies

    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology.text)
    except Exception as error:  # jax and libtpu raise several kinds
        message = str(error).splitlines()[0]
        if "opology" in message:
            raise ConfigError(
                f"no such TPU slice: {message[:200]}",
                where=f"--topology={topology.text}",
                hint=EXAMPLES,
            ) from error
        return Compiler(None, f"the TPU compiler does not start: {message[:200]}")
    return Compiler(list(described.devices))


@functools.cache
def _this_cpu() -> Chip:
    """This machine as a chip: its best fp32 product and copy now, and its memory."""
    device = jax.devices("cpu")[0]
    square = jax.device_put(jnp.ones((SIDE, SIDE), jnp.float32), device)
    seconds = _fastest(jax.jit(jnp.matmul), square, square)
    copied = _fastest(jax.jit(lambda x: x + 1), jnp.tile(square, (16, 1)))
    return Chip(
        "cpu",
        "cpu",
        "cpu",
        2 * SIDE**3 / seconds,
        float(ram()),
        2 * 16 * 4 * SIDE**2 / copied,
        0.0,
        1,
    )


def _fastest(function, *arguments) -> float:
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(TRIALS):
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - started)
    return min(times)
