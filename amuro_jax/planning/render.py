"""A plan as text for people."""

from amuro_jax.planning.plan import REFERENCE, Plan
from amuro_jax.planning.workload import PUBLISHED_HOURS, PUBLISHED_TOTAL


def render(plan: Plan) -> str:
    """Sections: memory and time of each training, scores, chip-hours by part, disk."""
    chip = plan.topology.chip
    lines = [
        f"{plan.work}, {plan.parameters / 1e9:.2f} G parameters, on {plan.topology.text}: "
        f"{plan.topology.count} × {chip.name}",
        f"({chip.flops / 1e12:.0f} TFLOP/s, {chip.memory / 1e9:.0f} GB, "
        f"{chip.bandwidth / 1e9:.0f} GB/s memory, {chip.links / 1e9:.0f} GB/s links each)",
    ]
    if plan.compiler:
        lines.append(f"Nothing is compiled: {plan.compiler}. Bytes are estimates from shapes.")
    for one in plan.trainings:
        lines += ["", *_training(one, chip)]
    if plan.scorer:
        lines += ["", *_scores(plan)]
    return "\n".join([*lines, "", *_hours(plan), "", *_disk(plan), "", *_assumptions(plan)])


def _training(one, chip):
    chosen, compiled = one.chosen, one.compiled
    together = f", {chosen.members} in one program" if chosen.members > 1 else ""
    yield (
        f"{one.part} on {one.label}, {one.count} × {one.steps:,} steps of {chosen.rows} rows "
        f"({one.rows}){together}"
    )
    yield f"  mesh {chosen.mesh}, remat {chosen.remat}: {one.why}"
    if compiled:
        yield (
            f"  {_gb(compiled.bytes)} of {_gb(chip.memory)} a chip with rows of {one.longest} "
            f"tokens, by the compiler: {_gb(compiled.arguments)} state and batch, "
            f"{_gb(compiled.temporaries)} temporaries"
            + (f", {_gb(compiled.host)} of the host's" if compiled.host else "")
        )
        yield from _program(chosen, compiled)
    else:
        yield f"  about {_gb(chosen.bytes)} of {_gb(chip.memory)} a chip, rows of {one.longest}"
    time, flops = chosen.time, chosen.members * one.flops
    yield (
        f"  {flops / 1e12:.2f} TFLOP a step; at least {1e3 * time.seconds:.2f} ms "
        f"(arithmetic {1e3 * time.products:.2f}, memory {1e3 * time.memory:.2f}, "
        f"links {1e3 * time.links:.2f}), MFU {100 * one.mfu:.1f} % at most"
    )
    yield f"  {one.seconds / 60:.1f} minutes each, {one.hours:.2f} chip-hours in all"


def _program(chosen, compiled):
    if compiled.collectives is None:
        yield (
            "  this jaxlib cannot read the compiled program; sent by a chip in a step, estimated: "
            f"{_gb(chosen.sent)}"
        )
        return
    yield f"  largest arrays: {', '.join(compiled.largest)}"
    sent = ", ".join(f"{name} {_gb(size)}" for name, size in compiled.collectives.items())
    yield f"  sent by a chip in such a step: {sent or 'nothing'}"


def _scores(plan):
    scorer = plan.scorer
    text = f"scores, mesh {scorer.mesh}: {scorer.why}"
    if scorer.arguments is not None:
        text += (
            f"; the largest program {_gb(scorer.arguments)} and {_gb(scorer.temporaries)} "
            "temporaries, by the compiler"
        )
    yield text
    for one in plan.scores:
        yield (
            f"  {one.count:>4} × {one.label:<34} {one.seconds:>8.1f} s each, "
            f"{one.hours:>7.3f} chip-hours ({one.rows})"
        )


def _hours(plan):
    study = "study" in plan.work
    yield f"chip-hours of {plan.topology.chip.name}" + (f"{'':<12}published, A100" if study else "")
    for part, hours in plan.hours.items():
        published = PUBLISHED_HOURS.get(part) if study else None
        yield f"  {part:<20}{hours:>10.2f}" + ("" if published is None else f"{published:>16}")
    yield f"  {'total':<20}{plan.total:>10.2f}" + (f"{PUBLISHED_TOTAL:>16}" if study else "")
    yield f"  as {REFERENCE}, by peak arithmetic: {plan.equivalent:.2f} hours"


def _disk(plan):
    disk = plan.disk
    yield (
        f"disk {_gb(disk.total)}: converted checkpoints {_gb(disk.checkpoints)}, fine-tuned models "
        f"{_gb(disk.tuned)}, states of the run in progress {_gb(disk.states)}"
    )


def _assumptions(plan):
    for name, one in plan.efficiency.items():
        yield (
            f"assumed in {name}: {one.products:.0%} of peak arithmetic, {one.memory:.0%} of the "
            f"memory's bandwidth, {one.links:.0%} of the links', all overlapping"
        )
    yield "not counted: compilation, loading, saving, preliminary runs"


def _gb(size):
    return f"{size / 1e9:.2f} GB"
