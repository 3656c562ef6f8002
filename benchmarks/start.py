"""How long a training on a large chat set takes until its first batch is there, and its memory.

    python benchmarks/start.py [--rows=326000 --scratch=/tmp/amuro_start]
    python benchmarks/start.py --train

Writes synthetic conversations in the shape of Tulu 2 (lengths log-normal, 2.5 kB in the mean, one
to three exchanges). A fresh process opens the set as `amuro train` does: key of the training (the
file's SHA-256), whether packing pays, first batch; then batches of a middle and the last step of
three epochs: what a resume costs. --train: `amuro train` itself on a tiny model, to the 20th step,
compilation included.
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
from amuro_jax.config import Recipe
from amuro_jax.lab import tokenizer as lab_tokenizer
from amuro_jax.lab.corpus import make_corpus
from amuro_jax.lab.world import make_world
from amuro_jax.logs import read_metrics
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import init_params
from amuro_jax.opened import read_checkpoint
from amuro_jax.records import ModelRef
from amuro_jax.train.batches import Batches, PackedCollator, packing_saves
from amuro_jax.train.run import TrainingData, TrainJob

MEAN_BYTES, SPREAD = 2500, 0.9  # of a conversation; standard deviation of the logarithm
EPOCHS, BATCH = 3, 8
flags.DEFINE_integer("rows", 326_000, "Conversations.")
flags.DEFINE_bool("train", False, "Start `amuro train` too.")
flags.DEFINE_string("opens", "", "Of the process that opens the set.")
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


def opens(scratch: Path) -> None:
    """What the fresh process does; prints a line for each part."""
    opened = read_checkpoint(scratch / "model")
    recipe = Recipe(task="tulu", rows=None, epochs=EPOCHS, batch_size=BATCH)
    model = ModelRef("model", "model", "tulu")
    job = TrainJob(opened, recipe, model, "", "", str(scratch / "data"))

    def say(what):
        status = Path("/proc/self/status").read_text()
        peak = int(next(x for x in status.splitlines() if x.startswith("VmHWM")).split()[1]) / 1e6
        wall = time.time() - psutil.Process().create_time()
        used = time.process_time()
        print(f"{what:<38} {wall:>7.1f} s {used:>7.1f} s processor {peak:>6.2f} GB", flush=True)

    say("checkpoint and tokenizer are open")
    job.key()
    say("key of the training")
    examples = TrainingData().of(job).examples
    say("set is open")
    packing_saves(examples, BATCH, recipe.seed, 1)
    say("whether packing pays")
    batches = Batches(examples, BATCH, EPOCHS, recipe.seed, 1, PackedCollator(1))
    for step in (0, batches.total // 2, batches.total - 1):
        batches.load(step)
        say(f"batch of step {step + 1:,} of {batches.total:,}")


def main(_):
    """Prints a line for each part."""
    scratch = Path(flags.FLAGS.scratch)
    if flags.FLAGS.opens:
        opens(Path(flags.FLAGS.opens))
        return
    path = scratch / "data" / "tulu_v2" / "train.jsonl"
    if not path.exists():
        write_set(path, flags.FLAGS.rows)
    if not checkpoint.is_model(scratch / "model"):
        write_model(scratch / "model")
    size, load = path.stat().st_size / 1e9, psutil.getloadavg()[0]
    print(f"{flags.FLAGS.rows:,} conversations, {size:.2f} GB, {BATCH} a step; load {load:.1f}")
    subprocess.run([sys.executable, __file__, f"--opens={scratch}"], check=True)
    if flags.FLAGS.train:
        checkpoint.remove(scratch / "run")
        first, twentieth, peak = start(scratch)
        print(f"amuro train: step 1 after {first:.1f} s, 20 after {twentieth:.1f} s, {peak:.2f} GB")


if __name__ == "__main__":
    app.run(main)
