"""One score, from a model and a set to a record and its rows; `amuro score` and studies call it.

An `Evaluator` keeps what checkpoints share: compiled scorers by model shape, prepared prompts by
everything that they depend on.
"""

import contextlib
import dataclasses
import time

from amuro_jax import files, keys, processes, sharding
from amuro_jax.config import (
    Dtype,
    Method,
    ScoreConfig,
    ScoreRun,
    Scoring,
    to_dict,
    validate_score,
)
from amuro_jax.data import protocols, queries, sources
from amuro_jax.data.registry import get_task
from amuro_jax.data.types import Query
from amuro_jax.errors import AmuroError
from amuro_jax.evals import metrics, reference
from amuro_jax.evals.evaluate import evaluate, rules
from amuro_jax.evals.prepare import GENERATE, Prepared, prepare
from amuro_jax.opened import Checkpoint, open_checkpoint
from amuro_jax.records import ModelRef, ScoreRecord
from amuro_jax.results.store import Store
from amuro_jax.scoring.scorer import Scorer
from amuro_jax.watchdog import Watchdog

# Context of a scorer under `no_fitting`: the published pipeline let prompts exceed the model's own.
UNBOUNDED = 1 << 20


@dataclasses.dataclass(frozen=True)
class ScoreJob:
    """One score to be computed.

    Attributes:
        checkpoint: the model's tokenizer, context and provenance; of a model in memory, those of
            the checkpoint that it was tuned from.
        identity: of the model that is scored.
        model: what it is called.
    """

    checkpoint: Checkpoint
    identity: str
    model: ModelRef
    task: str
    format: str
    shots: int
    scoring: Scoring
    data_root: str = ""

    def key(self) -> str:
        """Content key of the score."""
        return keys.score_key(
            self.identity,
            self.task,
            self.format,
            self.shots,
            self.scoring,
            self.checkpoint.tokenizer.fingerprint,
            self.data_root,
        )

    def label(self) -> str:
        """`step1000 base: paws default 4-shot`."""
        return f"{self.model.label()}: {self.task} {self.format} {self.shots}-shot"

    @property
    def protocol(self) -> str:
        """Name of the protocol with its quirks."""
        return protocols.resolve(self.scoring.protocol, self.scoring.quirks).name


class Evaluator:
    """Scores models on sets; what several models share is made once.

    Args:
        run: where and how fast.
        field: of the mesh, for errors.
    """

    def __init__(self, run: ScoreRun = ScoreRun(), field: str = "config.run.mesh"):
        self.run, self.mesh = run, sharding.whole_mesh(run.mesh, field)
        self._scorers, self._queries, self._prepared = {}, {}, {}

    def score(self, job: ScoreJob, params: dict) -> tuple[ScoreRecord, list[dict]]:
        """One score and the rows behind it (docs/architecture.md, "Rows").

        Args:
            params: of the model, laid out for `mesh`.

        Raises:
            AmuroError: a set that cannot be read, or a model whose numbers are not finite, by name.
        """
        started, prepared = time.perf_counter(), self.prepared(job)
        evaluation = self._evaluate(job, params, prepared, **_summary(job))
        seconds = time.perf_counter() - started
        return self._record(job, prepared.method, evaluation.metrics, seconds), evaluation.rows

    def size(self, job: ScoreJob) -> int:
        """Rows of a score."""
        return len(self.queries(job))

    def score_rows(self, job: ScoreJob, params: dict, places: tuple[int, ...]) -> list[dict]:
        """Some rows of a score, by their places among all, ascending; `join` makes a score of
        all of them.
        """
        prepared = self.prepared(job, places)
        return self._evaluate(job, params, prepared, **_summary(job) | {"bootstrap": 0}).rows

    def join(self, job: ScoreJob, rows: list[dict], seconds: float) -> ScoreRecord:
        """The record of a score whose rows were scored part by part, in the order of the set."""
        generated = not self.queries(job)[0].continuations
        method = GENERATE if generated else job.scoring.method
        return self._record(job, method, metrics.metrics_record(rows, **_summary(job)), seconds)

    def _evaluate(self, job, params, prepared, **summary):
        opened = job.checkpoint
        scorer, label = self.scorer(opened, job.scoring), job.model.label()
        with self._watched():
            return evaluate(scorer, params, opened.tokenizer, prepared, model=label, **summary)

    def _watched(self):
        """A process that works alone waits for no other; its batches may take hours on a CPU."""
        if self.run.batch_seconds is None and processes.alone():
            return contextlib.nullcontext()
        return Watchdog(self.run.batch_seconds, of="batch of scores")

    def _record(self, job, method, measured, seconds):
        opened, scoring, task = job.checkpoint, job.scoring, get_task(job.task)
        protocol = protocols.resolve(scoring.protocol, scoring.quirks)
        checksums = keys.data_checksums(job.task, scoring, job.data_root)
        return ScoreRecord(
            key=job.key(),
            model=job.model,
            task=task.name,
            format=job.format,
            shots=job.shots,
            split=sources.test_split(task, protocol, job.data_root).name,
            primary=task.primary or "",
            method=method,
            protocol=protocol.name,
            switches=protocol.switches(),
            scoring=scoring,
            metrics=measured,
            provenance=dataclasses.replace(
                opened.provenance(checksums, to_dict(self.run)), model=job.identity
            ),
            context=opened.config.max_length,
            seconds=round(seconds, 3),
        )

    def scorer(self, opened: Checkpoint, scoring: Scoring) -> Scorer:
        """The scorer of a model's shape; all checkpoints of a series share one."""
        protocol = protocols.resolve(scoring.protocol, scoring.quirks)
        config = opened.config
        if protocol.no_fitting:  # no limit where a protocol lets prompts overflow (quirk 8)
            config = dataclasses.replace(config, max_length=UNBOUNDED)
        key = (config, scoring.dtype)
        if key not in self._scorers:
            run = self.run
            self._scorers[key] = Scorer(
                config,
                self.mesh,
                scoring.dtype,
                batch_tokens=run.batch_tokens or 0,
                attention=run.attention or "",
            )
        return self._scorers[key]

    def pair_logprobs(
        self, opened: Checkpoint, params: dict, pairs, dtype: Dtype
    ) -> list[tuple[float, float]]:
        """Log-probabilities of preference pairs under a model, what `train.run.train` asks for."""
        scorer = self.scorer(opened, Scoring(dtype=dtype))
        return reference.score_pairs(scorer, params, pairs)

    def prepared(self, job: ScoreJob, places: tuple[int, ...] | None = None) -> Prepared:
        """The tokenised queries of a set under a format, or those at some places; the same for all
        checkpoints of a series that share tokenizer and context.
        """
        scoring = job.scoring
        key = (*_query_key(job), scoring.method, places)
        if key not in self._prepared:
            built = self.queries(job)
            options, _ = rules(get_task(job.task), _protocol(job))
            self._prepared[key] = prepare(
                built if places is None else [built[place] for place in places],
                job.checkpoint.tokenizer,
                method=scoring.method,
                max_new_tokens=scoring.max_new_tokens,
                **options,
            )
        return self._prepared[key]

    def queries(self, job: ScoreJob) -> list[Query]:
        """The queries of a set under a format, one for each row that is scored."""
        key = _query_key(job)
        if key not in self._queries:
            tokenizer = job.checkpoint.tokenizer
            arguments = _query_arguments(job)
            self._queries[key] = queries.build_queries(
                get_task(job.task), tokenizer=tokenizer, **arguments
            )
        return self._queries[key]


def _protocol(job):
    return protocols.resolve(job.scoring.protocol, job.scoring.quirks)


def _query_arguments(job):
    """What the queries of a set depend on, beside the set and the tokenizer: both the arguments
    and the cache key.
    """
    scoring = job.scoring
    return {
        "format": job.format,
        "shots": job.shots,
        "protocol": _protocol(job),
        "data_root": job.data_root,
        "max_length": job.checkpoint.config.max_length,
        "max_new_tokens": scoring.max_new_tokens,
        "rows": scoring.rows or 0,
        "shot_seed": scoring.shot_seed,
    }


def _query_key(job):
    return (job.task, job.checkpoint.tokenizer.fingerprint, *_query_arguments(job).values())


def _summary(job):
    """How the rows of a score become its metrics."""
    _, summary = rules(get_task(job.task), _protocol(job))
    scoring = job.scoring
    return {"bootstrap": scoring.bootstrap, "seed": scoring.bootstrap_seed, **summary}


def run(config: ScoreConfig, report=lambda line: None) -> list[ScoreRecord]:
    """`amuro score`: scores everything that `config` names; finished scores are not recomputed.

    Several processes (`processes.join`) do it together; the first one writes. The workdir is a
    store like a study's: `cells/<key>/{cell.json, rows.parquet}`, `configs/<key>.json`.

    Returns:
        A record per set, format and number of shots, in this order.

    Raises:
        ConfigError: an invalid field, or a format that a set does not have.
        AmuroError: the workdir cannot be written; nothing was computed.
    """
    validate_score(config)
    cells, scorings = _wanted(config), _scorings(config)
    opened = open_checkpoint(config.checkpoint)
    evaluator, params, table = Evaluator(config.run), None, []
    store, model = Store.open(config.workdir), _called(config.checkpoint, opened.source)
    jobs = [
        ScoreJob(opened, opened.identity, model, task, format, shots, scoring, config.data_root)
        for task, format, shots in cells
        for scoring in scorings
    ]
    asked = _Asked(evaluator) if len(scorings) > 1 else None
    for job in jobs:
        if asked and asked.before(job):
            continue
        key = job.key()
        if processes.decide(store.is_done(key)):
            table += [store.read(key)] if processes.is_writer() else []
            report(f"{job.label()}{_under(asked, job)}: finished before")
            continue
        if params is None:
            if processes.is_writer():  # a folder that cannot be written costs no scores
                values = to_dict(config)
                store.storage.write_json(f"configs/{files.content_key(values)}.json", values)
            placed = opened.load_params(evaluator.mesh)
            params = evaluator.scorer(opened, config.scoring).place(placed)
        record, rows = evaluator.score(job, params)
        if processes.is_writer():
            store.commit(record, rows)
        metrics = record.metrics
        said = f"{metrics['metric']} {metrics['value']:.4f}, {record.seconds:.1f} s"
        report(f"{job.label()}{_under(asked, job)}: {said}")
        table.append(record)
    for label, names in (asked.repeated if asked else {}).items():
        report(f"{label}: nothing changes under {', '.join(names)}: not scored")
    return table


def _under(asked, job):
    return f" under {job.protocol}" if asked else ""


def _scorings(config: ScoreConfig) -> list[Scoring]:
    """The run's scoring, under each of its protocols."""
    return [
        dataclasses.replace(config.scoring, protocol=protocol, quirks=quirks)
        for protocol, quirks in map(protocols.named, protocols.expanded(config.protocols))
    ] or [config.scoring]


class _Asked:
    """Which protocols ask a set the very same: same prompts, candidates and statistic. A quirk that
    changes nothing in a set is not scored.
    """

    def __init__(self, evaluator: Evaluator):
        self._evaluator, self._before = evaluator, {}
        self.repeated: dict[str, list[str]] = {}  # label of a job → protocols that ask nothing new

    def before(self, job: ScoreJob) -> str:
        """The earlier protocol that asks the same; "": this is the first."""
        prepared = self._evaluator.prepared(job)
        protocol = protocols.resolve(job.scoring.protocol, job.scoring.quirks)
        options, summary = rules(get_task(job.task), protocol)
        generated = prepared.method == GENERATE
        if generated or prepared.method != Method.FREE:
            options = options | {"fixed_order": None}  # it decides nothing there
        if generated:
            options = options | {"candidates": None}
        split = sources.test_split(get_task(job.task), protocol, job.data_root).name
        # The text of a request alone tells where generation stops: it is part of the requests.
        one = (split, options, summary, prepared.queries, prepared.requests)
        known = self._before.setdefault((job.task, job.format, job.shots), [])
        for name, other in known:
            if other == one:
                self.repeated.setdefault(job.label(), []).append(protocol.name)
                return name
        known.append((protocol.name, one))
        return ""


def _wanted(config: ScoreConfig) -> list[tuple[str, str, int]]:
    """(set, format, shots) of every score; a multiple-choice set has the default format only."""
    cells = []
    for name in config.tasks:
        only_default = get_task(name).kind == "multiple_choice"
        formats = config.formats or ("default",)
        if only_default and config.formats not in (None, ("default",)):
            raise AmuroError(
                f"{name} is a multiple-choice set: it has the format default only, "
                f"got {', '.join(config.formats)}",
                where="config.formats",
                hint="score it in a run of its own, without config.formats",
            )
        cells += [(name, format, shots) for format in formats for shots in config.shots]
    return cells


def _called(name: str, source: dict) -> ModelRef:
    """What a checkpoint is called: by its own provenance, a fine-tuned one by its training's."""
    training = source.get("training")
    if training:
        return ModelRef(**training["model"])
    return ModelRef(str(source.get("source", name)), str(source.get("revision") or name))


def render(table: list[ScoreRecord]) -> str:
    """The printed table."""
    lines = [
        f"{'set':<24} {'format':<9} {'shots':>5} {'rows':>6}  {'metric':<12} {'value':>7} "
        f"{'± se':>7} {'majority':>8} {'seconds':>8}  protocol"
    ]
    for record in table:
        m = record.metrics
        majority = "" if m["majority"] is None else f"{m['majority']:.4f}"
        lines.append(
            f"{record.task:<24} {record.format:<9} {record.shots:>5} {m['n']:>6}  "
            f"{m['metric']:<12} {m['value']:>7.4f} {m['stderr']:>7.4f} {majority:>8} "
            f"{record.seconds:>8.1f}  {record.protocol}"
        )
    return "\n".join(lines)
