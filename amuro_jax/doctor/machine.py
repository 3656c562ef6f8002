"""This machine: packages, devices, mesh, memory, disk."""

import collections
import glob
import importlib.metadata
import platform
import re
import shutil
from pathlib import Path

import jax
import psutil
from packaging.requirements import Requirement

from amuro_jax import __version__, devices, sharding
from amuro_jax.doctor.finding import Finding

GB = 1e9
# Where an accelerator shows itself, and the extra that makes jax use it.
ACCELERATORS = {"dev/nvidia0": "cuda", "dev/accel*": "tpu", "dev/vfio/[0-9]*": "tpu"}
# Below it, reading a shard of a checkpoint or tokenising a set already swaps.
LEAST_MEMORY_GB = 2.0
_EXTRA = re.compile(r'extra == "([^"]+)"')


def versions(requirements: list[str] | None = None, installed=importlib.metadata.version):
    """Whether every package is there in a version of the range that is known to work.

    Args:
        requirements: as in a package's metadata; None: of the installed amuro_jax.
    """
    if requirements is None:
        requirements = importlib.metadata.requires("amuro_jax") or []
    wrong, without = [], set()
    optional: dict[str, list[str]] = collections.defaultdict(list)  # by extra
    for requirement in map(Requirement, requirements):
        extra = _EXTRA.search(str(requirement.marker or ""))
        if requirement.marker is not None and not extra and not requirement.marker.evaluate():
            continue
        try:
            version = installed(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            if extra:
                without.add(extra[1])
            else:
                wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            faults = optional[extra[1]] if extra else wrong
            faults.append(f"{requirement.name} {version} is not {requirement.specifier}")
    # An extra of which a package is missing was not asked for: the rest is there for others.
    wrong += [one for extra in sorted(optional.keys() - without) for one in optional[extra]]
    named = {"amuro_jax": __version__, "python": platform.python_version()}
    named |= {name: installed(name) for name in ("jax", "jaxlib")}
    text = ", ".join(f"{name} {version}" for name, version in named.items())
    hint = "pip install -c constraints.txt 'amuro_jax[…]'" if wrong else ""
    return Finding("versions", not wrong, "; ".join([text, *wrong]), hint, named)


def accelerators(root: str = "/") -> set[str]:
    """Extras for the accelerators that this machine shows, whether or not jax uses them."""
    return {extra for path, extra in ACCELERATORS.items() if glob.glob(str(Path(root) / path))}


def device_kinds(shown: set[str] | None = None) -> Finding:
    """What jax computes on; not ok where it leaves an accelerator of this machine alone."""
    shown = accelerators() if shown is None else shown
    kind, local = jax.devices()[0], jax.local_device_count()
    text = f"{jax.device_count()} × {kind.device_kind} ({kind.platform})"
    if jax.process_count() > 1:
        text += f", {local} of them on each of {jax.process_count()} processes"
    values = {"count": jax.device_count(), "local": local, "kind": kind.device_kind}
    hint = ""
    if kind.platform == "cpu" and shown:
        text += f", though this machine has a device for the extra {' or '.join(sorted(shown))}"
        hint = f"pip install 'amuro_jax[{sorted(shown)[0]}]', and leave JAX_PLATFORMS unset"
    return Finding("devices", not hint, text, hint, values | {"platform": kind.platform})


def mesh(text: str) -> Finding:
    """Whether a mesh fits the devices."""
    sizes = sharding.parse_mesh(text, jax.device_count(), "--mesh")
    return Finding("mesh", True, ",".join(f"{axis}:{size}" for axis, size in sizes.items()))


def memory(least_gb: float = LEAST_MEMORY_GB) -> Finding:
    """Free memory of the machine, and of each of its devices."""
    free = psutil.virtual_memory().available / GB
    text = f"{free:.1f} of {devices.ram() / GB:.1f} GB free"
    for device in jax.local_devices()[:1]:
        limit, used = devices.limit_of(device)
        if device.platform != "cpu":
            text += f"; {(limit - used) / GB:.1f} of {limit / GB:.1f} GB on each device"
    hint = "" if free >= least_gb else f"end other programs: less than {least_gb:.0f} GB is free"
    return Finding("memory", not hint, text, hint, {"free_gb": round(free, 2)})


def disk(folders: dict[str, Path], least_gb: float) -> Finding:
    """Free space where the cache and a local workdir are, or will be."""
    free = {name: shutil.disk_usage(_existing(path)).free / GB for name, path in folders.items()}
    text = ", ".join(f"{free[name]:.0f} GB free for the {name} ({folders[name]})" for name in free)
    short = [name for name in free if free[name] < least_gb]
    hint = f"make room for the {' and the '.join(short)}: --disk_gb={least_gb:g}" if short else ""
    return Finding("disk", not short, text, hint, {k: round(v, 1) for k, v in free.items()})


def _existing(path):
    path = Path(path).absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
