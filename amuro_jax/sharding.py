"""The only module that makes a mesh, and the one table from logical axis names to mesh axes."""

import math

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from amuro_jax.errors import ConfigError

AXES = ("data", "fsdp", "tensor")

# Logical axis → mesh axes, tried in order of the array's axes; an axis of the mesh is used once per
# array.
RULES = {
    "batch": ("data", "fsdp"),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
    "embed": ("fsdp",),
}


def parse_mesh(text: str, devices: int, where: str = "mesh") -> dict[str, int]:
    """`"data:4,tensor:2"` → {"data": 4, "fsdp": 1, "tensor": 2}; one size may be -1: the devices
    that are left.

    Raises:
        ConfigError: unknown or repeated axis, bad size, or a product that is not the number of
            devices.
    """
    sizes, where = dict.fromkeys(AXES, 1), f"{where}={text}"
    seen = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        axis, _, size = part.partition(":")
        if axis not in sizes or axis in seen:
            raise ConfigError(
                f"unknown or repeated axis {axis!r}", where=where, hint="axes: " + ", ".join(AXES)
            )
        if not size.lstrip("-").isdigit() or int(size) == 0 or int(size) < -1:
            raise ConfigError(
                f"axis {axis} needs a size, got {size!r}",
                where=where,
                hint="for example data:4,tensor:2",
            )
        sizes[axis], _ = int(size), seen.add(axis)
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    known = math.prod(size for size in sizes.values() if size > 0)
    if len(open_axes) == 1 and devices % known == 0:
        sizes[open_axes[0]] = devices // known
    if math.prod(sizes.values()) != devices:
        raise ConfigError(
            f"mesh {sizes} does not fill {devices} devices",
            where=where,
            hint="use -1 for the size that is left",
        )
    return sizes


def make_mesh(text: str = "data:-1", devices=None) -> Mesh:
    """Mesh over all devices (or `devices`) with axes data, fsdp, tensor, all of Auto type."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = parse_mesh(text, len(devices))
    shape = tuple(sizes[axis] for axis in AXES)
    kinds = (AxisType.Auto,) * len(AXES)
    try:
        return jax.make_mesh(shape, AXES, axis_types=kinds, devices=devices)
    except NotImplementedError:  # an axis that is no product of a torus's, as 8 × 2 on 4 × 4 chips
        placed = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(placed, AXES, axis_types=kinds)


def spec(axes: tuple, shape: tuple, mesh: Mesh) -> PartitionSpec:
    """Partition of an array with these logical axes: by RULES, where the size divides.

    Else replicated along that axis.
    """
    used: set[str] = set()
    entries = []
    for axis, size in zip(axes, shape, strict=True):
        mesh_axes = tuple(
            name for name in RULES.get(axis, ()) if mesh.shape[name] > 1 and name not in used
        )
        if not mesh_axes or size % math.prod(mesh.shape[name] for name in mesh_axes):
            entries.append(None)
            continue
        used.update(mesh_axes)
        entries.append(mesh_axes if len(mesh_axes) > 1 else mesh_axes[0])
    return PartitionSpec(*entries)


def shardings(axes_tree, abstract_tree, mesh: Mesh):
    """Tree of NamedSharding for a tree of arrays with logical axis names beside it."""
    return jax.tree.map(
        lambda leaf, axes: NamedSharding(mesh, spec(axes, leaf.shape, mesh)),
        abstract_tree,
        axes_tree,
    )


def whole_mesh(text: str, where: str = "config.mesh") -> Mesh | None:
    """The mesh of a configuration, over all devices; None where there is one device, which takes no
    mesh.

    Raises:
        ConfigError: the text does not fit the devices, be it one; names the field `where`.
    """
    parse_mesh(text, jax.device_count(), where)
    return make_mesh(text) if jax.device_count() > 1 else None


def batch_sharding(mesh: Mesh, ndim: int = 2, lead: int = 0) -> NamedSharding:
    """Sharding of a batch of `ndim` axes: axis `lead` over data and fsdp, the others replicated."""
    names = tuple(name for name in RULES["batch"] if mesh.shape[name] > 1)
    entries = [None] * ndim
    entries[lead] = names or None
    return NamedSharding(mesh, PartitionSpec(*entries))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_divisor(mesh: Mesh) -> int:
    """Number of shards of the batch axis: batches are padded to a multiple of it."""
    return int(np.prod([mesh.shape[name] for name in RULES["batch"]]))
