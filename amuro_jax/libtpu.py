"""Keeps libtpu quiet where no TPU is, before jax looks for devices. Imports no jax."""

import glob
import importlib.util
import os
from pathlib import Path

GOOGLE = "0x1ae0"  # PCI vendor of TPU chips
# Without a TPU, libtpu (which the test extra installs) asks the network for these, and prints its
# failure as errors. Any valid values do: no chip is there to be described by them.
NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two plans at once: without chips they share nothing
}


def quiet_without_tpu(environment=os.environ, root: str = "/", find=importlib.util.find_spec):
    """Keeps libtpu quiet on a machine without a TPU, unless JAX_PLATFORMS asks for one.

    Where jax has no other plugin than libtpu, it is told not to try it: a profile would call what
    the failed try left registered, and end the process (jaxlib 0.10.2 with libtpu 0.0.52).

    Args:
        environment: to be changed; what is set already stays.
        root: of the file system in which chips are looked for.
        find: of an installed module; None where there is none.
    """
    platforms = environment.get("JAX_PLATFORMS", "").split(",")
    if "tpu" in platforms or "JAX_FORCE_TPU_INIT" in environment or _has_tpu(Path(root)):
        return
    for name, value in NO_TPU.items():
        environment.setdefault(name, value)
    if find("libtpu") is not None and find("jax_plugins") is None:
        environment.setdefault("JAX_PLATFORMS", "cpu")


def _has_tpu(root):
    if glob.glob(str(root / "dev/accel*")) or glob.glob(str(root / "dev/vfio/*")):
        return True
    vendors = glob.glob(str(root / "sys/bus/pci/devices/*/vendor"))
    return any(Path(path).read_text().strip() == GOOGLE for path in vendors)
