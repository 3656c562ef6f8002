"""How long a training on a large chat set takes to its first step, and what it holds in memory.

    python benchmarks/start.py [--rows=326000 --scratch=/tmp/amuro_start]

Writes synthetic conversations in the shape of Tulu 2 (lengths log-normal, 2.5 kB in the mean, one
to three exchanges), starts `amuro train` on them with a tiny model, and waits for its first and 20th
step. Then the batches of the first, a middle and the last step of three epochs are made in this
process: what a resume costs. No comparison: the way before this one encoded all rows first.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from absl import app, flags

from amuro_jax import checkpoint
from amuro_jax.data import encoding
from amuro_jax.data.protocols import STRICT
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.lab import tokenizer as lab_tokenizer
from amuro_jax.lab.corpus import make_corpus
from amuro_jax.lab.world import make_world
from amuro_jax.logs import read_metrics
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import init_params
from amuro_jax.train.batches import Batches, PackedCollator

MEAN_BYTES, SPREAD = 2500, 0.9  # of a conversation; standard deviation of the logarithm
EPOCHS, BATCH = 3, 8
flags.DEFINE_integer("rows", 326_000, "Conversations.")
flags.DEFINE_string("scratch", "/tmp/amuro_start", "Folder of the set, the model and the run.")


def write_set(path: Path, rows: int) -> None:
    """Conversations of words of the laboratory."""
    rng = np.random.default_rng(0)
    text = " ".join(make_corpus(make_world(0, 40), 2000))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as out:
        for number in range(rows):
            size = rng.lognormal(np.log(MEAN_BYTES) - SPREAD**2 / 2, SPREAD)
            turns, count = [], 2 * int(rng.integers(1, 4))
            for turn in range(count):
                length = int(size / count * rng.uniform(0.5, 1.5)) + 8
                start = int(rng.integers(0, len(text) - length))
                role = ("user", "assistant")[turn % 2]
                turns.append({"role": role, "content": text[start : start + length]})
            out.write(json.dumps({"id": f"row_{number}", "messages": turns}) + "\n")


def write_model(folder: Path) -> None:
    """A model of two layers with the laboratory's tokenizer."""
    documents = make_corpus(make_world(0, 40), 4000)
    trained = lab_tokenizer.train_tokenizer(documents, 4000)
    lab_tokenizer.write_tokenizer(trained, folder.parent / "tokenizer", 2048)
    rows = -(-trained.get_vocab_size() // 64) * 64
    config = ModelConfig("olmo", rows, 64, 2, 4, 4, 16, 128, 2048)
    checkpoint.save_model(folder, init_params(config, 0), config, folder.parent / "tokenizer", {})


def start(scratch: Path) -> tuple[float, float, float]:
    """(seconds to the first step, to the 20th, peak GB resident at the 20th) of `amuro train`."""
    fields = {
        "checkpoint": scratch / "model",
        "data_root": scratch / "data",
        "workdir": scratch / "run",
        "recipe.task": "tulu",
        "recipe.epochs": EPOCHS,
        "recipe.batch_size": BATCH,
        "recipe.rows": "none",
        "recipe.dtype": "float32",
        "run.packing": "true",
        "run.log_every": 1,
    }
    command = [sys.executable, "-m", "amuro_jax", "train"]
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    began, seconds = time.monotonic(), {}
    process = subprocess.Popen(command, env={**os.environ, "AMURO_PROGRESS": "0"})
    try:
        while len(seconds) < 2:
            steps = len(read_metrics(scratch / "run" / "metrics.jsonl"))
            for wanted in (1, 20):
                if steps >= wanted:
                    seconds.setdefault(wanted, time.monotonic() - began)
            assert process.poll() is None, "the run ended"
            time.sleep(0.1)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return seconds[1], seconds[20], int(peak.split()[1]) / 1e6
    finally:
        process.kill()


def resume(scratch: Path) -> list[tuple[int, float]]:
    """(step, seconds until its batch is there) from a set that was just opened."""
    tokenizer, times = Tokenizer.load(scratch / "tokenizer"), []
    for part in (0.0, 0.5, 1.0):
        began = time.perf_counter()
        made = encoding.encode_training_set(
            get_task("tulu"),
            "default",
            STRICT,
            tokenizer,
            rows=None,
            data_root=str(scratch / "data"),
        )
        batches = Batches(made.examples, BATCH, EPOCHS, 42, 1, PackedCollator(1))
        step = int(part * (batches.total - 1))
        batches.load(step)
        times.append((step, time.perf_counter() - began))
    return times


def main(_):
    """Prints one table."""
    scratch = Path(flags.FLAGS.scratch)
    path = scratch / "data" / "tulu_v2" / "train.jsonl"
    if not path.exists():
        write_set(path, flags.FLAGS.rows)
    if not checkpoint.is_model(scratch / "model"):
        write_model(scratch / "model")
    checkpoint.remove(scratch / "run")
    first, twentieth, peak = start(scratch)
    size = path.stat().st_size / 1e9
    load = psutil.getloadavg()[0]
    print(f"{flags.FLAGS.rows:,} conversations, {size:.2f} GB, {BATCH} a step; load {load:.1f}")
    print(f"first step after {first:.1f} s, 20 steps after {twentieth:.1f} s, peak {peak:.2f} GB")
    for step, seconds in resume(scratch):
        print(f"opened and batch of step {step + 1} made: {seconds:.2f} s")


if __name__ == "__main__":
    app.run(main)
