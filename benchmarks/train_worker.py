"""A small training that the benchmarks of several processes start: kill_resume.py and meshes.py.

    python benchmarks/train_worker.py CLUSTER MESH WORKDIR STEPS SAVE_EVERY PAUSE

Writes WORKDIR/result.json: losses by step, and SHA-256 of the final parameters' bytes. PAUSE:
seconds of each batch, so that a kill finds the run at work.
"""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from amuro_jax import processes
from amuro_jax.config import Recipe, TrainRun
from amuro_jax.data.types import TrainExample
from amuro_jax.models.config import ModelConfig

MODEL = ModelConfig("olmo", 256, 64, 2, 8, 8, 8, 128, 64)
BATCH = 16


def examples(count: int) -> list[TrainExample]:
    """Rows of random tokens; the last ones follow from the first."""
    rng, made = np.random.default_rng(0), []
    for row in range(count):
        tokens = rng.integers(3, 256, rng.integers(17, 33)).astype(np.int32)
        tokens[-4:] = tokens[0] % 5 + 3
        made.append(TrainExample(tokens, np.arange(len(tokens)) >= len(tokens) - 4, row))
    return made


def train(cluster, mesh, workdir, steps, save_every, pause) -> None:
    """One process of the run, or what a killed one left of it."""
    processes.join(cluster)
    import jax
    from jax.experimental import multihost_utils

    from amuro_jax import sharding
    from amuro_jax.logs import read_metrics
    from amuro_jax.models.parameters import flatten, init_params
    from amuro_jax.train import batches
    from amuro_jax.train.fine_tune import fine_tune

    load = batches.Batches.load

    def slowly(self, step, mine=None):
        time.sleep(pause)
        return load(self, step, mine)

    batches.Batches.load = slowly
    recipe = Recipe(batch_size=BATCH, epochs=1, learning_rate=3e-3, dtype="float32")
    run = TrainRun(log_every=1, save_every=save_every)
    # Drawn by numpy: the same bits however many processes and devices there are.
    rng, shapes = np.random.default_rng(0), jax.eval_shape(lambda: init_params(MODEL, 0))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(np.float32), shapes)
    done = fine_tune(
        params,
        MODEL,
        examples(BATCH * steps),
        recipe,
        run,
        mesh=sharding.make_mesh(mesh) if mesh else None,
        workdir=workdir,
    )
    whole = done.params
    if not processes.alone():
        whole = multihost_utils.process_allgather(whole, tiled=True)
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten(whole).items()):
        digest.update(name.encode() + np.asarray(leaf).tobytes())
    if processes.is_writer():
        losses = [row["loss"] for row in read_metrics(f"{workdir}/metrics.jsonl")]
        result = {"losses": losses, "sha256": digest.hexdigest()}
        Path(workdir, "result.json").write_text(json.dumps(result))


def start(workdir, count=1, devices=1, mesh="", steps=20, save_every=1000, pause=0.0):
    """`count` processes of the run; programs are kept in a folder beside the workdir."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(Path(workdir).parent / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "AMURO_PROGRESS": "0",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    clusters = [f"127.0.0.1:{port},{count},{n}" if count > 1 else "alone" for n in range(count)]
    settings = [mesh, str(workdir), str(steps), str(save_every), str(pause)]
    return [
        subprocess.Popen(
            [sys.executable, __file__, cluster, *settings],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for cluster in clusters
    ]


def result(workdir) -> dict | None:
    """What a run wrote that came to its end."""
    path = Path(workdir, "result.json")
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    train(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
