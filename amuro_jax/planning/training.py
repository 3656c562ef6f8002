"""The plan of one fine-tuning: which mesh and remat policy, what the step takes, and how long."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp

from amuro_jax import sharding
from amuro_jax.config import Remat
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.cost import causal_row, training_flops
from amuro_jax.planning.collectives import array_bytes, collective_bytes
from amuro_jax.planning.cost import AGAIN, Roofline, roofline
from amuro_jax.planning.padding import Computed, computed, examples_of
from amuro_jax.planning.topology import Topology
from amuro_jax.planning.workload import Training
from amuro_jax.train import memory
from amuro_jax.train.ahead_of_time import compile_step
from amuro_jax.train.batches import LENGTHS, TARGETS, fit_size
from amuro_jax.train.fine_tune import step_of, trainable_of
from amuro_jax.train.step import make_stacked_step

SHARE = 0.92  # of a chip's memory that a compiled program may take
TRIES = 3  # candidates that are compiled at most
STATE_BYTES = 28  # AdamW in fp32: parameter, gradient and two moments read, three of them written


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to split a step over the chips, by estimate.

    Attributes:
        mesh: as a configuration has it.
        members: trainings in one program, one for each shard of `data`; 1: a training by itself.
        rows: of a step without packing, padded to the batch shards; of each member.
        step: what a step of mean size computes; of each member.
        bytes: of one chip, estimated from shapes.
        time: of a step of mean size, of all members.
    """

    mesh: str
    remat: str
    members: int
    rows: int
    step: Computed
    bytes: float
    sent: float
    time: Roofline

    @property
    def seconds(self) -> float:
        """Of a step, for each training."""
        return self.time.seconds / self.members


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The compiler's account of the step for the longest rows, per chip.

    Attributes:
        collectives: bytes sent, by operation; None where this jaxlib cannot read the program.
    """

    arguments: int
    temporaries: int
    host: int
    collectives: dict[str, float] | None
    largest: list[str]

    @property
    def bytes(self) -> int:
        """State, batch and temporaries; what is donated is not counted twice."""
        return self.arguments + self.temporaries


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """What one fine-tuning comes to.

    Attributes:
        flops: of the model in one step of one training; without remat and padding.
        mfu: model FLOPs over the step's time at the chips' peaks.
        seconds: of all steps of one training, or of those that share its program; `hours`:
            chip-hours of all trainings.
        why: why this mesh and policy.
    """

    part: str
    label: str
    count: int
    steps: int
    rows: str
    longest: int
    chosen: Candidate
    compiled: Compiled | None
    flops: float
    mfu: float
    seconds: float
    hours: float
    why: str


def plan_training(
    training: Training,
    model: ModelConfig,
    topology: Topology,
    devices,
    configured: str,
    tries: int = TRIES,
) -> TrainingPlan:
    """The plan of a fine-tuning on a topology.

    Args:
        devices: to compile for; None: estimates only.
        configured: the run's mesh, which must fit the devices.
        tries: candidates that are compiled at most.

    Raises:
        ConfigError: the configured mesh does not fill the devices, or `offload` on a CPU.
    """
    sharding.parse_mesh(configured, topology.count, "config.run.mesh")
    ranked = candidates(training, model, topology)
    chosen, compiled, tried = ranked[0], None, []
    if devices is not None:
        chosen, compiled, tried = _best_compiled(ranked, training, model, topology, devices, tries)
    flops, time = _flops(training, model), chosen.time
    seconds = time.seconds * training.steps
    together = training.count // chosen.members
    left_over = training.count % chosen.members
    every = seconds * together
    if left_over:
        sizes = _sizes(chosen.mesh)
        alone = _candidate(sizes, chosen.remat, 1, training, model, topology)
        every += alone.time.seconds * training.steps * left_over
    return TrainingPlan(
        training.part,
        training.label,
        training.count,
        training.steps,
        training.rows.source,
        _shape(training)[0],
        chosen,
        compiled,
        flops,
        flops / (chosen.seconds * topology.count * topology.chip.flops),
        seconds,
        every * topology.count / 3600,
        _why(training, ranked, chosen, topology, tried),
    )


def _best_compiled(ranked, training, model, topology, devices, tries):
    """(candidate, the compiler's account, what was tried besides): the fastest by the traffic of
    the compiled program that fits. Estimates leave traffic out, so that a candidate that is
    estimated to be slower than a compiled one need not be compiled.
    """
    done = []
    for one in ranked[:tries]:
        fitting = [time.seconds / tried.members for tried, _, time in done if time is not None]
        if fitting and min(fitting) <= one.seconds:
            break
        compiled = compile_candidate(one, training, model, devices)
        sent = one.sent if compiled.collectives is None else sum(compiled.collectives.values())
        fits = compiled.bytes <= SHARE * topology.chip.memory
        time = _time(training, model, topology, one, sent) if fits else None
        done.append((one, compiled, time))

    def order(result):
        tried, compiled, time = result
        return time is None, compiled.bytes if time is None else time.seconds / tried.members

    best = min(done, key=order)
    tried = [
        f"{one.mesh}, {one.remat}: "
        + (f"{_gb(compiled.bytes)}" if time is None else f"{1e3 * time.seconds:.1f} ms")
        for one, compiled, time in done
        if one is not best[0]
    ]
    chosen, compiled, time = best
    return dataclasses.replace(chosen, time=time or chosen.time), compiled, tried


def candidates(training: Training, model: ModelConfig, topology: Topology) -> list[Candidate]:
    """All ways to split the step that fit by estimate, the fastest first (of equals, the one with
    fewer tensor shards, then less remat); the smallest, where none fits.
    """
    every = []
    for tensor in _divisors(math.gcd(topology.count, model.num_kv_heads)):
        for fsdp in _divisors(topology.count // tensor):
            data = topology.count // tensor // fsdp
            mesh = {"data": data, "fsdp": fsdp, "tensor": tensor}
            together = {1, data} if 1 < data <= training.stack else {1}
            every += [
                _candidate(mesh, remat, members, training, model, topology)
                for members in sorted(together)
                for remat in _policies(training)
            ]
    limit = memory.SHARE * topology.chip.memory
    fitting = [one for one in every if one.bytes <= limit]
    if not fitting:
        return [min(every, key=lambda one: one.bytes)]
    best = min(one.seconds for one in fitting)

    def order(one):
        # a hundredth of the time is not worth more tensor shards or remat
        return round(one.seconds / best, 2), _sizes(one.mesh)["tensor"], one.bytes

    return sorted(fitting, key=order)


def _policies(training):
    return memory.ORDER if training.run.remat == Remat.AUTO else (str(training.run.remat),)


def _divisors(number):
    return [size for size in range(1, number + 1) if number % size == 0]


def _sizes(mesh: str):
    return dict.fromkeys(sharding.AXES, 1) | {
        axis: int(size) for axis, _, size in (part.partition(":") for part in mesh.split(","))
    }


def _name(sizes):
    return ",".join(f"{axis}:{n}" for axis, n in sizes.items() if n > 1) or "data:1"


def _shape(training):
    """(length, targets) of the largest batch."""
    longest = fit_size(training.rows.longest, LENGTHS)
    return longest, min(longest, fit_size(math.ceil(training.rows.targets), TARGETS))


def _micro(training):
    return training.recipe.batch_size // (
        training.run.micro_batch_size or training.recipe.batch_size
    )


def _candidate(sizes, remat, members, training, model, topology):
    micro = _micro(training)
    multiple = sizes["fsdp"] * micro * (1 if members > 1 else sizes["data"])
    rows = -(-examples_of(training.recipe) // multiple) * multiple
    step = computed(training.rows, training.recipe, training.run, multiple)
    sent = _estimated_bytes(sizes, members, step, training, model)
    one = Candidate(_name(sizes), remat, members, rows, step, 0.0, sent, Roofline(0, 0, 0))
    split = memory.Split(**sizes, micro_batches=micro)
    fused = topology.chip.platform in ("tpu", "gpu")
    start = 0.0
    if members > 1:  # each chip has all rows of its member, and the parameters that it starts from
        split = dataclasses.replace(split, data=1)
        fused = fused and sizes["fsdp"] * sizes["tensor"] == 1
        start = 4 * model.num_parameters / (sizes["fsdp"] * sizes["tensor"])
    needed = memory.estimate(
        model,
        trainable_of(training.recipe),
        split,
        itemsize=jnp.dtype(training.recipe.dtype).itemsize,
        remat=remat,
        moment=2 if training.recipe.moment_dtype == "bfloat16" else 4,
        fused=fused,
        rows=rows,
        shape=_shape(training),
    )
    time = _time(training, model, topology, one, sent)
    return dataclasses.replace(one, bytes=needed + start, time=time)


def _flops(training, model):
    """Model FLOPs of a step of rows of mean length."""
    row = causal_row(training.rows.mean, training.rows.targets)
    amount = row.times(examples_of(training.recipe))
    return training_flops(model, amount, training.recipe.lora_rank is not None)


def _time(training, model, topology, candidate, sent):
    """Of a step of mean size: padding and remat are computed too."""
    sizes, adapter = _sizes(candidate.mesh), training.recipe.lora_rank is not None
    flops = candidate.members * training_flops(model, candidate.step.amount, adapter)
    flops += AGAIN[candidate.remat] * flops / (2 if adapter else 3)
    split = sizes["fsdp"] * sizes["tensor"]
    trained = _trained(training, model)
    state = STATE_BYTES * trained / split
    passes = 2 if candidate.remat != "full" else 3  # weights read in 16 bits, forward and backward
    weights = passes * 2 * model.num_parameters / sizes["tensor"] * _micro(training)
    return roofline(topology.chip, flops / topology.count, state + weights, sent)


def _trained(training, model):
    if training.recipe.lora_rank is None:
        return model.num_parameters
    shapes = trainable_of(training.recipe).abstract(model)
    return memory.elements(shapes)


def _estimated_bytes(sizes, members, step, training, model):
    """Bytes that one chip sends in a step: parameters gathered forward and backward in 16 bits and
    gradients scattered (fsdp), gradients reduced (data, within one training), activations reduced
    (tensor).
    """
    data, fsdp, tensor = (sizes[axis] for axis in sharding.AXES)
    data = 1 if members > 1 else data
    micro, total = _micro(training), model.num_parameters / tensor
    trained = _trained(training, model) / tensor
    gathered = (fsdp - 1) / fsdp * (2 * 2 * total + 2 * trained) * micro
    reduced = 2 * (data - 1) / data * 2 * trained / fsdp
    tokens = step.amount.tokens / (data * fsdp)
    activations = 4 * model.num_layers * tokens * model.hidden_size * 2
    return gathered + reduced + 2 * (tensor - 1) / tensor * activations


def compile_candidate(candidate, training, model, devices) -> Compiled:
    """The compiler's account of a candidate, for rows of the longest length."""
    mesh = sharding.make_mesh(candidate.mesh, devices) if len(devices) > 1 else None
    run = dataclasses.replace(training.run, remat=Remat(candidate.remat))
    step = step_of(training.recipe, run, model, mesh, trainable=trainable_of(training.recipe))
    if candidate.members > 1:
        step = make_stacked_step(step, candidate.members)
    program = compile_step(step, candidate.rows, *_shape(training))
    account = program.memory_analysis()
    try:
        text = program.as_text()
    except jax.errors.JaxRuntimeError:  # libtpu 0.0.52 for v5p: operations of a later XLA
        text = None
    return Compiled(
        account.argument_size_in_bytes,
        account.temp_size_in_bytes,
        account.host_temp_size_in_bytes,
        None if text is None else collective_bytes(text),
        [] if text is None else largest_arrays(text),
    )


def largest_arrays(text: str, count: int = 3) -> list[str]:
    """The largest results of a program's operations, `bf16[…] 0.21 GB`; arguments left out."""
    matches = re.findall(
        r"= (\w+)\[([\d,]+)\]\S* (?!parameter|get-tuple|bitcast|tuple)[\w\-]+\(", text
    )
    sizes = {f"{kind}[{shape}]": array_bytes(kind, shape) for kind, shape in set(matches)}
    top = sorted(sizes, key=sizes.get, reverse=True)[:count]
    return [f"{name} {_gb(sizes[name])}" for name in top]


def _why(training, ranked, chosen, topology, tried):
    limit = _gb(topology.chip.memory)
    if chosen.bytes > memory.SHARE * topology.chip.memory:
        return f"nothing fits {limit} a chip; this needs least"
    parts = [f"{chosen.time.bound} bound, the fastest of {len(ranked)} that fit {limit} a chip"]
    step = chosen.step
    how = "packed" if step.packed else "padded"
    parts.append(f"{how}, {step.ratio:.2f} tokens computed for each real one")
    if tried:
        parts.append("compiled besides: " + "; ".join(tried))
    return "; ".join(parts)


def _gb(size):
    return f"{size / 1e9:.2f} GB"
