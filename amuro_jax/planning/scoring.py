"""The plan of scores: how the model is split over the chips, and how long each set takes."""

import dataclasses

from amuro_jax import sharding
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.cost import Amount, forward_flops
from amuro_jax.planning.cost import Efficiency, Roofline, roofline
from amuro_jax.planning.topology import Topology
from amuro_jax.planning.workload import Score
from amuro_jax.scoring import ahead_of_time, buckets
from amuro_jax.scoring.scorer import Scorer

# Of peak in forward passes of packed lines. An assumption, as those of training are.
SCORING = Efficiency(products=0.45)
WEIGHTS_SHARE = 0.6  # of a chip's memory for parameters; the rest is for batches and caches
ROWS = 64  # texts that a chip generates together (scoring.limits)
POSITIONS = 8  # hidden states wanted of a line, in the program that is compiled


@dataclasses.dataclass(frozen=True)
class ScorePlan:
    """What the scores of one set under one format come to.

    Attributes:
        seconds: of one; `hours`: chip-hours of all.
        time: parts of one score.
    """

    part: str
    label: str
    count: int
    rows: str
    flops: float
    time: Roofline
    seconds: float
    hours: float


@dataclasses.dataclass(frozen=True)
class ScorerPlan:
    """How scorers are laid out, and the compiler's account of their largest program, per chip."""

    mesh: str
    why: str
    arguments: int | None = None
    temporaries: int | None = None


def plan_scorer(
    scores: tuple[Score, ...], model: ModelConfig, topology: Topology, devices, configured: str
) -> ScorerPlan:
    """The mesh of the scorers: each chip has whole rows, and as little of the model as it must.

    Raises:
        ConfigError: the configured mesh does not fill the devices.
    """
    sharding.parse_mesh(configured, topology.count, "config.score_run.mesh")
    itemsize = 2 if scores[0].dtype == "bfloat16" else 4
    parameters, tensor = itemsize * model.num_parameters, 1
    while (
        parameters / tensor > WEIGHTS_SHARE * topology.chip.memory
        and topology.count % (2 * tensor) == 0
        and model.num_kv_heads % (2 * tensor) == 0
    ):
        tensor *= 2
    data = topology.count // tensor
    text = ",".join(f"{name}:{n}" for name, n in (("data", data), ("tensor", tensor)) if n > 1)
    why = f"parameters take {parameters / tensor / 1e9:.2f} GB of each chip"
    plan = ScorerPlan(text or "data:1", why)
    if devices is None:
        return plan
    mesh = sharding.make_mesh(plan.mesh, devices) if len(devices) > 1 else None
    widest = max((score.rows for score in scores), key=lambda rows: rows.read.tokens)
    scorer = Scorer(model, mesh, str(scores[0].dtype))
    width = buckets.round_up(max(32, min(widest.width, model.max_length)), buckets.WIDTHS)
    lines = buckets.lines_per_batch(scorer.limits.batch_tokens, width, scorer.limits.divisor)
    prefix = buckets.round_up(widest.prefix, buckets.PREFIXES) if widest.prefix else 0
    positions = min(POSITIONS, width)
    program = ahead_of_time.compile_lines(scorer.programs, lines, width, prefix, positions)
    account = program.memory_analysis()
    return dataclasses.replace(
        plan,
        arguments=account.argument_size_in_bytes,
        temporaries=account.temp_size_in_bytes,
    )


def plan_score(score: Score, model: ModelConfig, topology: Topology, tensor: int) -> ScorePlan:
    """Time and chip-hours of the scores of one set."""
    reading, rows = score.rows.read, score.rows
    new = rows.generated * rows.rows
    pairs = new * (rows.width + rows.prefix + rows.generated / 2)
    amount = reading + Amount(new, pairs, new)
    flops, chips, itemsize = forward_flops(model, amount), topology.count, 2
    # Each step of generation reads all weights, and the keys and values of all rows.
    weights = itemsize * model.num_parameters / tensor
    groups = max(1, chips // tensor)
    steps = rows.generated * -(-rows.rows // (ROWS * groups))
    keys = 2 * model.num_layers * model.num_kv_heads * model.head_dim * itemsize / tensor
    read = steps * (weights + ROWS * keys * (rows.width + rows.generated)) + weights
    prefill = roofline(topology.chip, forward_flops(model, reading) / chips, 0.0, 0.0, SCORING)
    decode = roofline(
        topology.chip, (flops - forward_flops(model, reading)) / chips, read, 0.0, SCORING
    )
    seconds = prefill.seconds + decode.seconds
    return ScorePlan(
        score.part,
        score.label,
        score.count,
        rows.source,
        flops,
        Roofline(prefill.products + decode.products, decode.memory, 0.0),
        seconds,
        seconds * score.count * chips / 3600,
    )
