"""The same training on several meshes and over several processes: largest difference of the losses.

    python benchmarks/meshes.py [--scratch=/tmp/amuro_meshes]

20 steps of a small model in fp32, on virtual CPU devices, against one process with one device.
"""

from pathlib import Path

import numpy as np
from absl import app, flags
from train_worker import result, start

from amuro_jax import checkpoint

# (processes, devices of each, mesh)
RUNS = [
    (1, 8, "data:8"),
    (1, 8, "fsdp:8"),
    (1, 4, "tensor:4"),
    (1, 8, "data:2,fsdp:2,tensor:2"),
    (2, 4, "data:2,fsdp:2,tensor:2"),
    (4, 2, "data:2,fsdp:2,tensor:2"),
    (2, 1, "fsdp:2"),
    (4, 1, "data:4"),
]
flags.DEFINE_string("scratch", "/tmp/amuro_meshes", "Folder of the runs.")


def losses(workdir: Path, **options) -> np.ndarray:
    """Losses of a run."""
    for process in start(workdir, **options):
        if process.wait():
            raise RuntimeError(f"{workdir.name} failed")
    return np.array(result(workdir)["losses"])


def main(_):
    """Prints one table."""
    scratch = Path(flags.FLAGS.scratch)
    checkpoint.remove(scratch)
    alone = losses(scratch / "alone")
    print(f"loss of the first step {alone[0]:.4f}, of the last {alone[-1]:.4f}")
    print(f"{'processes':>9} {'devices':>8} {'mesh':<24} largest difference of {len(alone)} losses")
    for count, devices, mesh in RUNS:
        name = f"{count}x{devices}_{mesh.replace(':', '').replace(',', '_')}"
        other = losses(scratch / name, count=count, devices=devices, mesh=mesh)
        gap = np.abs(other - alone).max()
        print(f"{count:>9} {count * devices:>8} {mesh:<24} {gap:.1e}", flush=True)


if __name__ == "__main__":
    app.run(main)
