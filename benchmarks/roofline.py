"""What scoring a set costs on TPU, without one: compiled ahead of time, real prompts, roofline of
compute and memory.

    python benchmarks/roofline.py --data_root=FOLDER --tokenizer=FILE [--task=mnli_matched
    --rows=9815 --shots=4 --mesh=data:8]

Needs libtpu. Bytes per chip come from the compiler. FLOPs come from the architecture; the last
column has the compiler's beside them. No time here was measured: a roofline is what no program can
beat.
"""

import argparse
import dataclasses

from jax.experimental import topologies

from amuro_jax import sharding
from amuro_jax.chips import CHIPS
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.evals.prepare import prepare
from amuro_jax.models.config import ModelConfig
from amuro_jax.scoring import ahead_of_time, buckets, planner
from amuro_jax.scoring.scorer import Scorer

OLMO_1B = ModelConfig("olmo", 50304, 2048, 16, 16, 16, 128, 8192, 2048)
# bf16 FLOP/s and bytes/s of one chip
PEAKS = {name: (CHIPS[name].flops, CHIPS[name].bandwidth) for name in ("v5e", "v5p", "v6e")}


def tpu_mesh(mesh: str, topology: str = "v5e:2x4"):
    """A mesh of TPUs that need not be there."""
    return sharding.make_mesh(
        mesh, topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    )


def compile_lines(
    mesh, width: int, prefix: int, positions: int | None, attention: str, batch_tokens: int
):
    """The scorer's program for one batch of bf16 lines behind a prefix (0: none), compiled.

    Returns:
        (bytes as the compiler has them, FLOPs and bytes moved on one chip, lines of the batch). The
        compiler counts the body of the scan
        over layers once: a model of one layer and one of two, which scan nothing, say what a layer
            counts.
    """

    def compiled(layers):
        config = dataclasses.replace(OLMO_1B, num_layers=layers)
        scorer = Scorer(
            config,
            mesh,
            "bfloat16",
            attention=attention,
            batch_tokens=batch_tokens * sharding.batch_divisor(mesh),
        )
        lines = buckets.lines_per_batch(scorer.limits.batch_tokens, width, scorer.limits.divisor)
        return ahead_of_time.compile_lines(scorer.programs, lines, width, prefix, positions), lines

    program, lines = compiled(OLMO_1B.num_layers)
    one, two = (compiled(layers)[0].cost_analysis() for layers in (1, 2))
    counted = {
        name: one[name] + (OLMO_1B.num_layers - 1) * (two[name] - one[name])
        for name in ("flops", "bytes accessed")
    }
    return program.memory_analysis(), counted, lines


@dataclasses.dataclass
class Way:
    """One way to score the set: tokens read, query-key pairs, predicting positions, and the program
    that does most of the work.

    `slots`: hidden states wanted of each line, None: all; the last layer's products after its
        attention are for those only.
    """

    name: str
    tokens: float
    pairs: float
    positions: float
    width: int
    prefix: int
    slots: int | None = None

    def flops(self, config: ModelConfig) -> float:
        """Matrix products, attention and vocabulary head."""
        return (
            self.layers(config, self.tokens, self.pairs)
            + 2.0 * self.positions * config.hidden_size * config.vocab_size
        )

    def layers(self, config: ModelConfig, tokens: float, pairs: float) -> float:
        """Those of the layers, for so many tokens and pairs."""
        cost = buckets.cost_of(config)
        out = config.hidden_size * config.num_heads * config.head_dim
        after = 2.0 * (out + config.mlp_weights)
        saved = 0.0 if self.slots is None else tokens * (1 - self.slots / self.width) * after
        return tokens * cost.per_token + pairs * cost.per_pair - saved


def ways(given) -> tuple[list[Way], str]:
    """With and without sharing, from real prompts.

    Rows that are not at hand are taken to be like those that are.
    """
    tokenizer = (
        Tokenizer.from_file(given.tokenizer)
        if given.tokenizer.endswith(".json")
        else Tokenizer.load(given.tokenizer)
    )
    queries = build_queries(
        get_task(given.task), "default", given.shots, tokenizer=tokenizer, data_root=given.data_root
    )
    requests = prepare(
        [dataclasses.replace(query, unconditional=None) for query in queries], tokenizer
    ).requests
    scale, chips = given.rows / len(requests), sharding.batch_divisor(given.made)
    # The planner weighs the padding of a last batch: of a subset it sees a batch as much smaller as
    # the subset is.
    batch = int(chips * given.batch_tokens / max(scale, 1))
    plan = planner.plan_requests(requests, buckets.cost_of(OLMO_1B), batch, OLMO_1B.max_length)
    positions = scale * sum(
        len(set(zip(part.target_line.tolist(), part.target_query.tolist(), strict=True)))
        for part in plan.lines
    )
    prefixes = {part.prefix.tobytes(): len(part.prefix) for part in plan.lines}
    tokens, pairs = sum(prefixes.values()), sum(length**2 for length in prefixes.values())
    for part in plan.lines:
        lines, width = scale * len(part.tokens), part.tokens.shape[1]
        tokens, pairs = (
            tokens + lines * width,
            pairs + lines * width * (width + planner.capacity(len(part.prefix))),
        )
    most = max(plan.lines, key=lambda part: part.tokens.size)
    shared = Way(
        "shared prefix",
        tokens,
        pairs,
        positions,
        most.tokens.shape[1],
        planner.capacity(len(most.prefix)),
        most.query_positions.shape[1],
    )
    each = [[len(r.context) + len(c) - 1 for c in r.continuations] for r in requests]
    once = [len(r.context) + sum(len(c) - 1 for c in r.continuations) for r in requests]
    longest = buckets.round_up(max(once), buckets.WIDTHS)
    all_tokens = [length for row in each for length in row]
    found = [
        Way(
            "a pass per row",
            scale * sum(once),
            scale * sum(n * n for n in once),
            positions,
            longest,
            0,
        ),
        Way(
            "a pass per label form",
            scale * sum(all_tokens),
            scale * sum(n * n for n in all_tokens),
            positions,
            longest,
            0,
        ),
    ]
    shapes = ", ".join(
        f"{len(p.tokens)} lines of {p.tokens.shape[1]} behind {len(p.prefix)}" for p in plan.lines
    )
    about = (
        f"{given.task}, {given.shots} shots, {len(requests)} rows at hand taken for {given.rows}; "
        f"their plan: {shapes}"
    )
    return [shared, *found], about


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_root", required=True)
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json, or its folder")
    for name, value in {
        "task": "mnli_matched",
        "rows": 9815,
        "shots": 4,
        "mesh": "data:8",
        "topology": "v5e:2x4",
        "batch_tokens": 16384,
    }.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    given = parser.parse_args()
    given.made = tpu_mesh(given.mesh, given.topology)
    found, about = ways(given)
    print(
        f"OLMo-1B, bf16, {given.topology}, {given.mesh}, "
        f"batches of {given.batch_tokens} tokens per shard; {about}\n"
    )
    roofs = "".join(f" {chip} s |" for chip in PEAKS)
    print(
        f"| way | attention | line + prefix | M tokens | PFLOP |{roofs} GB arguments | GB temporary"
        " | compiler's FLOPs / architecture's |"
    )
    print("|---|---|---|---|---|" + "---|" * (len(PEAKS) + 3))
    compiled: dict[tuple, tuple] = {}
    for way in found:
        for attention in ("", "splash", "xla") if way.prefix else ("", "xla"):
            key = (way.width, way.prefix, way.slots, attention)
            if key not in compiled:
                compiled[key] = compile_lines(given.made, *key, given.batch_tokens)
            print(line(way, attention, *compiled[key], given.made), flush=True)


def line(way: Way, attention: str, bytes_of, counted: dict, lines: int, mesh) -> str:
    """One line of the table.

    A roofline is the larger of compute and memory time, all chips at work.
    """
    chips, batch = mesh.size, lines * way.width
    moved = counted["bytes accessed"] * way.tokens / batch
    flops = way.flops(OLMO_1B)
    times = [(flops / chips / peak, moved / rate) for peak, rate in PEAKS.values()]
    seconds = "".join(
        f" {max(compute, memory):.2f} ({compute:.2f}, {memory:.2f}) |" for compute, memory in times
    )
    inner = way.layers(OLMO_1B, batch, batch * (way.width + way.prefix)) / chips
    gigabytes = (
        f"{bytes_of.argument_size_in_bytes / 1e9:.2f} | {bytes_of.temp_size_in_bytes / 1e9:.2f}"
    )
    work = f"{way.tokens / 1e6:.2f} | {flops / 1e15:.2f}"
    head = f"| {way.name} | {attention or 'best'} | {way.width} + {way.prefix} | {work} |"
    return f"{head}{seconds} {gigabytes} | {counted['flops'] / inner:.2f} |"


if __name__ == "__main__":
    main()
