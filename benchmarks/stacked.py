"""K checkpoints in one program against one after another: examples per second, interleaved, the
same work, losses compared first.

    python benchmarks/stacked.py [--model=tiny|lab --members=8 --rows=16 --length=48 --rounds=7]

Each round times `--steps` AdamW steps of every way; printed are medians and their ratio to one
after another, by the clock and by processor time (which says more on a busy machine), and the
share of the machine's best matrix product of the same run. Ways:

    separate   the step of one model, called for each member in turn (what the study did)
    vmap       one program, all members in every product (`train.step.StackedStep`)
    map        one program, members one after another in a loop
    shard      members shared by the devices, one per core, each with `vmap`
    shard_map  members shared by the devices, one after another on each
    steps      as `map`, with several optimiser steps in one call
    shard_steps  as `shard_map`, with several optimiser steps in one call
"""

import functools
import os
import statistics
import time

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={os.cpu_count()}"
)

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.sharding import NamedSharding, PartitionSpec

from amuro_jax.data.types import TrainExample
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import init_params
from amuro_jax.train.batches import pad_batch
from amuro_jax.train.optimizer import Optimizer
from amuro_jax.train.step import make_step

MODELS = {  # the laboratory's: vocabulary, width, layers, heads, mlp
    "tiny": (512, 32, 2, 2, 64),
    "lab": (1280, 128, 3, 4, 384),
    "20m": (8192, 384, 8, 6, 1024),
}
flags.DEFINE_enum("model", "tiny", list(MODELS), "Size.")
flags.DEFINE_integer("members", 8, "Checkpoints.")
flags.DEFINE_integer("rows", 16, "Rows of a step.")
flags.DEFINE_integer("length", 48, "Tokens of a row at most.")
flags.DEFINE_integer("steps", 8, "Steps of a round.")
flags.DEFINE_integer("rounds", 7, "Rounds.")
flags.DEFINE_list("ways", [], "Ways to time besides `separate`; empty: all.")
PEAK = 1024  # side of the matrices whose product is the machine's best rate


def make_config(name) -> ModelConfig:
    """One of the laboratory's models."""
    vocab, width, layers, heads, mlp = MODELS[name]
    return ModelConfig("olmo", vocab, width, layers, heads, heads, width // heads, mlp, 512)


def make_batches(f, vocab) -> list[dict]:
    """Steps' batches of rows between half the length and the whole, with two tokens to predict."""
    rng, made = np.random.default_rng(0), []
    for _ in range(f.steps):
        lengths = rng.integers(f.length // 2, f.length + 1, f.rows)
        rows = [
            TrainExample(rng.integers(3, vocab, n).astype(np.int32), np.arange(n) >= n - 2, i)
            for i, n in enumerate(lengths)
        ]
        made.append(pad_batch(rows, f.rows, 4).arrays())
    return made


def make_ways(step, members: int, batches: list[dict]) -> dict:
    """Name → (states at the start, function of states that does all steps and returns
    (states, last losses)).
    """
    trees = [init_params(step.config, seed) for seed in range(members)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(step.init, trees))
    rate = np.float32(1e-3)
    update = step._update

    def all_members(over):
        def run(states, batch):
            return over(lambda state: update(state, {}, batch, rate), states)

        return run

    def one_by_one(function, states):
        return jax.lax.map(function, states)

    def together(function, states):
        return jax.vmap(function)(states)

    def called(program, place=lambda tree: tree):
        compiled = jax.jit(program, donate_argnums=0)

        def run(states):
            for batch in batches:
                states, metrics = compiled(states, place(batch))
            return states, metrics["loss"]

        return run

    mesh = jax.make_mesh((jax.device_count(),), ("member",))
    spread, same = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("member",), ()))

    def shared(over):
        program = over_devices(all_members(over))
        return called(program, lambda batch: jax.device_put(batch, same))

    def separate(states):
        losses = []
        for batch in batches:
            for place, state in enumerate(states):
                states[place], metrics = step(state, batch, rate)
                losses.append(metrics["loss"])
        return states, jnp.stack(losses[-members:])

    whole = jax.tree.map(lambda *arrays: np.stack(arrays), *batches)

    def many_steps(states, batches):
        def run(state):
            def one(state, batch):
                state, metrics = update(state, {}, batch, rate)
                return state, metrics["loss"]

            state, losses = jax.lax.scan(one, state, batches)
            return state, {"loss": losses[-1]}

        return jax.lax.map(run, states)

    def at_once(program):
        compiled = jax.jit(program, donate_argnums=0)

        def run(states):
            states, metrics = compiled(states, whole)
            return states, metrics["loss"]

        return run

    def over_devices(function):
        specs = (PartitionSpec("member"), PartitionSpec())
        return jax.shard_map(
            function, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False
        )

    copies = functools.partial(jax.tree.map, jnp.copy)
    placed = jax.device_put(stack, spread)
    return {
        "separate": ([step.init(tree) for tree in trees], separate),
        "vmap": (copies(stack), called(all_members(together))),
        "map": (copies(stack), called(all_members(one_by_one))),
        "shard": (copies(placed), shared(together)),
        "shard_map": (copies(placed), shared(one_by_one)),
        "steps": (copies(stack), at_once(many_steps)),
        "shard_steps": (placed, at_once(over_devices(many_steps))),
    }


def best_product() -> float:
    """FLOP/s of the best of several products of large matrices, fp32."""
    a = jnp.ones((PEAK, PEAK), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - started)
    return 2 * PEAK**3 / min(times)


def main(_):
    """Prints one table."""
    f = flags.FLAGS
    config = make_config(f.model)
    step = make_step(config, Optimizer(clip_norm=1.0))
    batches = make_batches(f, config.vocab_size)
    ways = make_ways(step, f.members, batches)
    ways = {n: way for n, way in ways.items() if not f.ways or n in ("separate", *f.ways)}
    times, first, peak = {name: [] for name in ways}, {}, best_product()
    processor = {name: [] for name in ways}
    for number in range(f.rounds + 1):
        for name, (states, run) in ways.items():
            started, used = time.perf_counter(), time.process_time()
            states, losses = run(states)
            losses = np.asarray(losses)
            ways[name] = (states, run)
            if number:
                times[name].append(time.perf_counter() - started)
                processor[name].append(time.process_time() - used)
            else:  # the first round compiles, and gives the losses
                first[name] = losses
        peak = max(peak, best_product())
    for name, losses in first.items():
        np.testing.assert_allclose(losses, first["separate"], atol=1e-4, err_msg=name)
    tokens = f.steps * f.rows * batches[0]["tokens"].shape[1]
    # 6 FLOPs a token and parameter in the layers; the vocabulary at predicted positions only
    inner = config.num_parameters - config.vocab_size * config.hidden_size
    head = f.steps * f.rows * 4 * config.vocab_size * config.hidden_size
    flops = 6 * (tokens * inner + head) * f.members
    print(
        f"{f.model}: {config.num_parameters / 1e6:.2f} M parameters, {f.members} members, "
        f"{f.rows} rows of {batches[0]['tokens'].shape[1]} tokens, {jax.device_count()} devices, "
        f"best product {peak / 1e9:.0f} GFLOP/s, load {os.getloadavg()[0]:.1f}"
    )
    heads = ("ms a step of all", "ratio", "processor ms", "ratio", "GFLOP/s", "share")
    print(f"{'way':<12}" + "".join(f"{head:>17}" for head in heads))
    wall, used = ({n: statistics.median(v) for n, v in of.items()} for of in (times, processor))
    for name in ways:
        rate = flops / wall[name]
        print(
            f"{name:<12}{wall[name] / f.steps * 1e3:>17.1f}"
            f"{wall['separate'] / wall[name]:>17.2f}{used[name] / f.steps * 1e3:>17.1f}"
            f"{used['separate'] / used[name]:>17.2f}{rate / 1e9:>17.1f}{rate / peak:>17.0%}"
        )


if __name__ == "__main__":
    app.run(main)
