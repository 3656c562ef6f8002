"""The plan of a run or a study on a topology: memory, arithmetic, traffic, time, disk."""

import dataclasses
import json

from amuro_jax.chips import CHIPS
from amuro_jax.planning.cost import Efficiency
from amuro_jax.planning.scoring import SCORING, ScorePlan, ScorerPlan, plan_score, plan_scorer
from amuro_jax.planning.topology import Compiler, Topology, compiler_of, parse_topology
from amuro_jax.planning.training import TRIES, TrainingPlan, plan_training
from amuro_jax.planning.workload import Workload, workload_of

REFERENCE = "v5p"  # chip whose hours other chips' are compared in
STATES = 2  # resumable states that are kept while a model is trained


@dataclasses.dataclass(frozen=True)
class Disk:
    """Bytes on disk.

    Attributes:
        checkpoints: converted, all that are opened; `tuned`: fine-tuned models that are there at
            once; `states`: of the run in progress, or of those in one program.
    """

    checkpoints: float
    tuned: float
    states: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.checkpoints + self.tuned + self.states


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `amuro plan` prints. Times are rooflines at assumed efficiencies, not measurements.

    Attributes:
        compiler: why nothing was compiled; "": it was.
        hours: chip-hours by part.
        equivalent: the total in hours of the reference chip, by peak arithmetic.
    """

    work: str
    topology: Topology
    parameters: int
    compiler: str
    trainings: tuple[TrainingPlan, ...]
    scorer: ScorerPlan | None
    scores: tuple[ScorePlan, ...]
    hours: dict[str, float]
    equivalent: float
    disk: Disk
    efficiency: dict[str, Efficiency]

    @property
    def total(self) -> float:
        """Chip-hours of everything."""
        return sum(self.hours.values())

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(dataclasses.asdict(self) | {"total_hours": self.total}, indent=1)


def make_plan(
    config, topology: str, tokenizer: str = "", compile: bool = True, tries: int = TRIES
) -> Plan:
    """The plan of a training run, a scoring run or a study.

    Args:
        topology: see `topology.parse_topology`.
        tokenizer: see `workload.workload_of`.
        compile: ask the compiler, where there is one; else estimates alone.
        tries: programs that are compiled for each training at most.

    Raises:
        ConfigError: an unknown topology, a configured mesh that does not fill it, or a model or
            set whose size is not known.
    """
    where = parse_topology(topology)
    work = workload_of(config, tokenizer)
    compiler = compiler_of(where) if compile else Compiler(None, "not asked to")
    trainings = tuple(
        plan_training(one, work.model, where, compiler.devices, work.mesh, tries)
        for one in work.trainings
    )
    scorer, scores = None, ()
    if work.scores:
        scorer = plan_scorer(work.scores, work.model, where, compiler.devices, work.score_mesh)
        split = scorer.mesh.rpartition("tensor:")
        tensor = int(split[2]) if split[1] else 1
        scores = tuple(plan_score(one, work.model, where, tensor) for one in work.scores)
    hours: dict[str, float] = {}
    for one in (*trainings, *scores):
        hours[one.part] = hours.get(one.part, 0.0) + one.hours
    return Plan(
        work.what,
        where,
        work.model.num_parameters,
        compiler.why,
        trainings,
        scorer,
        scores,
        hours,
        sum(hours.values()) * where.chip.flops / CHIPS[REFERENCE].flops,
        _disk(work, trainings),
        {"training": Efficiency(), "scoring": SCORING},
    )


def _disk(work: Workload, trainings: tuple[TrainingPlan, ...]) -> Disk:
    stored = 4 * work.model.num_parameters  # parameters are kept in fp32
    together = max((one.chosen.members for one in trainings), default=0)
    # Groups of checkpoints are trained on all their sets before the first of them is scored.
    grouped = sum(
        min(one.count, one.stack)
        for one, planned in zip(work.trainings, trainings, strict=True)
        if planned.chosen.members > 1
    )
    tuned = max(work.tuned, grouped)
    return Disk(work.checkpoints * stored, tuned * stored, STATES * 3 * stored * together)
