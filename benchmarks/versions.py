"""The scorer and the training step of two checkouts against each other, interleaved: a worker
process for each.

    python benchmarks/versions.py --old=FOLDER_OF_THE_OTHER_CHECKOUT [--rounds=3] [--rows=32]

A random OLMo of 152 M parameters, random prompts, two steps on eight rows of 48 to 96 tokens.
Wall time depends on what else the machine
does; processor time of a worker much less, so both are shown, with the load of the machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

WORKER = """
import importlib, resource, sys, time
import jax, numpy as np
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import init_params

def find(name):
    try:
        return importlib.import_module("amuro_jax.scoring." + name)
    except ImportError:
        return importlib.import_module("amuro_jax.evals." + name)

Request, Scorer = find("requests").Request, find("scorer").Scorer
rows, rng = int(sys.argv[1]), np.random.default_rng(0)
draw = lambda n: tuple(rng.integers(0, 50000, n).tolist())
shots, queries = draw(161), [draw(n) for n in rng.integers(31, 80, rows)]
choices = [tuple(draw(n) for n in rng.integers(2, 12, 4)) for _ in queries]
work = {
    "classification": [Request(shots + query, ((5,),)) for query in queries],
    "multiple choice": [Request(shots + q, c) for q, c in zip(queries, choices)],
    "generation": [Request(shots + q, max_new_tokens=12) for q in queries],
}
from amuro_jax.train.batches import pad_batch
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import make_step
from amuro_jax.data.types import TrainExample
config = ModelConfig("olmo", 50304, 768, 12, 12, 12, 64, 3072, 2048)
scorer = Scorer(config)
params = scorer.place(init_params(config, 0))
draw_row = lambda n: TrainExample(np.array(draw(n), np.int32), np.arange(n) >= n - 3, 0)
batch = pad_batch([draw_row(n) for n in rng.integers(48, 97, 8)], 8, 4).arrays()
step = make_step(config, Optimizer(clip_norm=1.0))
plans = {name: scorer.plan(work[name]) for name in ("classification", "multiple choice")}
for line in sys.stdin:
    name = line.strip()
    start, used = time.perf_counter(), time.process_time()
    if name == "training":
        state, made = step.init(params), []
        for _ in range(2):
            state, metrics = step(state, batch, 1e-4)
            made.append(float(metrics["loss"]))
        del state
    elif name == "generation":
        made = [float(sum(one.tokens)) for one in scorer.generate(params, work[name])]
    else:
        made = [float(x) for r in scorer.loglikelihoods(params, plans[name]) for x in r.logprob]
    print(time.perf_counter() - start, time.process_time() - used, *made, flush=True)
"""
WORK = ("classification", "multiple choice", "generation", "training")


def start(folder: str, rows: int) -> subprocess.Popen:
    """A worker that runs the package of a checkout."""
    env = os.environ | {"PYTHONPATH": folder, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(rows)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        cwd="/",
    )


def run(worker: subprocess.Popen, name: str) -> list[float]:
    """Wall seconds, processor seconds, and the results."""
    worker.stdin.write(name + "\n")
    worker.stdin.flush()
    return [float(value) for value in worker.stdout.readline().split()]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--work", nargs="*", choices=WORK, default=WORK)
    given = parser.parse_args()
    here = str(Path(__file__).resolve().parents[1])
    workers = {"old": start(given.old, given.rows), "new": start(here, given.rows)}
    print(
        f"{given.rows} rows, {given.rounds} rounds after a warm-up, load {os.getloadavg()[0]:.1f}"
    )
    print("| work | old wall s | new wall s | ratio | old CPU s | new CPU s | ratio | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name in given.work:
        made = {key: [run(worker, name)] for key, worker in workers.items()}  # compiles
        for _ in range(given.rounds):
            for key, worker in workers.items():
                made[key].append(run(worker, name))
        worst = max(abs(a - b) for a, b in zip(*(made[k][-1][2:] for k in workers), strict=True))
        cells = []
        for column in (0, 1):
            old, new = (statistics.median(r[column] for r in made[k][1:]) for k in workers)
            cells += [f"{old:.2f}", f"{new:.2f}", f"{new / old:.3f}"]
        print(f"| {name} | {' | '.join(cells)} | {worst:.1e} |", flush=True)
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    main()
