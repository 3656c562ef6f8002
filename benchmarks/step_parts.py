"""What packing, the loss at predicted positions alone and metrics that are read late are worth: a
training step on CPU with each of them on and off, on real rows, interleaved in one process.

    python benchmarks/step_parts.py --data_root=DATA --tokenizer=TOKENIZER.json
        [--tasks=mnli_matched,xsum --layers=12 --rounds=3 --steps=2]

The model is that of `train_step.py`. Ways:

    as it is       packed rows, the vocabulary at predicted positions, metrics read one step late
    unpacked       a row of its own for each example, padded to the longest of the batch
    all positions  the vocabulary, and the last layer, at every token of the packed rows
    metrics now    the loss is read before the next batch is packed

Losses of the first step from the same parameters are compared first.
"""

import argparse
import dataclasses
import os
import statistics
import time

import jax
import numpy as np
import train_step

from amuro_jax.models.parameters import init_params
from amuro_jax.train.batches import pack_batch, pad_batch
from amuro_jax.train.loss import CHUNK
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import Step

MULTIPLE = 4  # of the predicted positions of an unpacked row


def everywhere(arrays: dict) -> dict:
    """A batch whose predicting positions are all tokens, those without a target with weight 0."""
    rows, length = arrays["tokens"].shape
    size = -(-length // CHUNK) * CHUNK  # filled with places that repeat the last token
    source = np.minimum(np.arange(size, dtype=np.int32), length - 1)
    wide = {
        "source": np.broadcast_to(source, (rows, size)),
        "target": np.zeros((rows, size), np.int32),
        "weight": np.zeros((rows, size), np.float32),
    }
    row, place = np.nonzero(arrays["weight"])
    at = row, arrays["source"][row, place]
    wide["target"][at] = arrays["target"][row, place]
    wide["weight"][at] = arrays["weight"][row, place]
    return arrays | wide


class Way:
    """One way of making steps: from rows to the arrays of a batch, and when its loss is read."""

    def __init__(self, config, prepare, late=True, together=True):
        self.step = Step(config, Optimizer(clip_norm=1.0))
        self.step.compute = dataclasses.replace(self.step.compute, together=together)
        self.prepare, self.late = prepare, late

    def run(self, state, batches) -> tuple:
        """(state, loss of the last step) after a step on each batch of rows."""
        pending = None
        for rows in batches:
            state, metrics = self.step(state, self.prepare(rows), train_step.RATE)
            now = metrics["loss"]
            read = pending if self.late else now
            if read is not None:
                float(read)
            pending = now
        jax.block_until_ready(state.params)
        return state, float(pending)


def make_ways(config) -> dict[str, Way]:
    """Name → way."""

    def packed(rows):
        return pack_batch(rows, 1).arrays()

    def unpacked(rows):
        return pad_batch(rows, len(rows), MULTIPLE).arrays()

    return {
        "as it is": Way(config, packed),
        "unpacked": Way(config, unpacked),
        "all positions": Way(config, lambda rows: everywhere(packed(rows)), together=False),
        "metrics now": Way(config, packed, late=False),
    }


def main() -> None:
    """Prints a table per set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json")
    parser.add_argument("--tasks", default="mnli_matched,xsum")
    for name, value in {"layers": 12, "rounds": 3, "steps": 2, "max_length": 1024}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    config = train_step.model_config(given.layers)
    for task in given.tasks.split(","):
        rounds, given.rounds = given.rounds, given.steps - 1  # batches of a round, the same for all
        batches = train_step.batches(given, task)
        given.rounds = rounds
        _report(task, make_ways(config), batches, config, rounds)


def _report(task, ways, batches, config, rounds):
    start, losses = init_params(config, 0), {}
    for name, way in ways.items():  # compiles every shape
        losses[name] = way.run(way.step.init(start), batches)[1]
    expected = losses["as it is"]
    assert all(abs(loss - expected) < 2e-3 for loss in losses.values()), losses
    state = ways["as it is"].step.init(start)
    times: dict[str, list] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            wall, used = time.perf_counter(), time.process_time()
            state, _ = way.run(state, batches)
            taken = time.perf_counter() - wall, time.process_time() - used
            times[name].append([seconds / len(batches) for seconds in taken])
    own = statistics.median(used for _, used in times["as it is"])
    tokens = sum(len(row.tokens) for rows in batches for row in rows) / len(batches)
    print(f"{task}, {tokens:.0f} tokens a step, load {os.getloadavg()[0]:.0f}")
    print("| way | wall s a step | processor s | ratio to as it is |\n|---|---|---|---|")
    for name, taken in times.items():
        wall, used = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"| {name} | {wall:.2f} | {used:.2f} | {used / own:.2f} |", flush=True)


if __name__ == "__main__":
    main()
