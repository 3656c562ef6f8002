"""One scoring run: a checkpoint, its sets, formats and shots, results on disk."""

import dataclasses
import time

import pandas as pd

from amuro_jax import checkpoint, files, processes, sharding
from amuro_jax.config import ScoreConfig, split_names, to_dict
from amuro_jax.convert.resolver import open_checkpoint
from amuro_jax.data.protocols import resolve
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.errors import AmuroError
from amuro_jax.evals.evaluate import Evaluation, evaluate, rules
from amuro_jax.evals.prepare import Prepared, prepare
from amuro_jax.scoring.scorer import Scorer

UNBOUNDED = (
    1 << 20
    # context of a scorer under `no_fitting`: the published pipeline let prompts run past the model's
    # own
)


def score(given: ScoreConfig, report=lambda line: None) -> list[dict]:
    """Scores everything that `given` names and writes
    `<workdir>/<task>-<format>-<shots>/{rows.parquet,metrics.json}`.

    Several processes (`processes.join`) do it together; the first one writes.

    Returns:
        One record per set, format and number of shots: its name, metrics and seconds.
    """
    tasks, protocol = (
        [get_task(name) for name in split_names(given.tasks)],
        resolve(given.protocol, given.quirks),
    )
    folder = open_checkpoint(given.checkpoint)
    config, tokenizer = checkpoint.read_config(folder), Tokenizer.load(folder / "tokenizer")
    mesh = sharding.whole_mesh(given.mesh)
    device = {"batch_tokens": given.batch_tokens, "attention": given.attention}
    scorer = Scorer(scorer_config(config, protocol), mesh, given.dtype, **device)
    params = scorer.place(checkpoint.load_params(folder, config, mesh))
    about = {
        "config": to_dict(given),
        "model": checkpoint.model_hash(folder),
        "protocol": protocol.name,
        "tokenizer": tokenizer.fingerprint,
    }
    about |= {"context": config.max_length}
    table = []
    for task in tasks:
        for format in (
            split_names(given.formats) if task.kind != "multiple_choice" else ("default",)
        ):
            for shots in map(int, split_names(given.shots)):
                start = time.time()
                prepared = prepare_cell(given, task, format, shots, protocol, config, tokenizer)
                result = evaluate_cell(given, task, protocol, scorer, params, tokenizer, prepared)
                record = {
                    "task": task.name,
                    "format": format,
                    "shots": shots,
                    **result.metrics,
                    "seconds": time.time() - start,
                }
                if processes.is_writer():
                    write_result(
                        f"{given.workdir}/{task.name}-{format}-{shots}", result, record | about
                    )
                report(
                    f"{task.name} {format} {shots} shots: {record['metric']} {record['value']:.4f}, {record['seconds']:.1f} s"
                )
                table.append(record)
    return table


def scorer_config(config, protocol):
    """The model's configuration as the scorer takes it: without a limit of length where a protocol
    lets prompts overflow (quirk 8).
    """
    return dataclasses.replace(config, max_length=UNBOUNDED) if protocol.no_fitting else config


def prepare_cell(
    given: ScoreConfig, task, format: str, shots: int, protocol, config, tokenizer
) -> Prepared:
    """Queries of one set under one format, tokenised; the same for all checkpoints of a family."""
    options = {
        "data_root": given.data_root,
        "max_length": config.max_length,
        "max_new_tokens": given.max_new_tokens,
        "rows": given.rows,
    }
    queries = build_queries(
        task, format, shots, protocol, tokenizer, shot_seed=given.shot_seed, **options
    )
    ranking, _ = rules(task, protocol)
    return prepare(
        queries, tokenizer, method=given.method, max_new_tokens=given.max_new_tokens, **ranking
    )


def evaluate_cell(
    given: ScoreConfig, task, protocol, scorer, params, tokenizer, prepared: Prepared
) -> Evaluation:
    """One model on one prepared set."""
    _, summary = rules(task, protocol)
    return evaluate(
        scorer,
        params,
        tokenizer,
        prepared,
        bootstrap=given.bootstrap,
        seed=given.bootstrap_seed,
        **summary,
    )


def write_result(folder, result: Evaluation, record: dict) -> None:
    """Writes rows.parquet and metrics.json; the folder appears when both are complete."""
    with files.atomic_folder(folder) as scratch:
        write_rows(scratch / "rows.parquet", result.rows)
        files.write_json(scratch / "metrics.json", record)


def write_rows(path, rows: list[dict]) -> None:
    """One Parquet row per scored test row."""
    try:
        pd.DataFrame(rows).to_parquet(path, index=False)
    except OSError as error:
        raise AmuroError(
            f"cannot write: {error}",
            where=path,
            hint="free some disk space or choose another folder",
        ) from error


def render(table: list[dict]) -> str:
    """The printed table."""
    head = f"{'set':<24} {'format':<9} {'shots':>5} {'rows':>6}  {'metric':<9} {'value':>7} {'± se':>7} {'majority':>8} {'seconds':>8}"
    lines = [
        f"{r['task']:<24} {r['format']:<9} {r['shots']:>5} {r['n']:>6}  {r['metric']:<9} {r['value']:>7.4f} {r['stderr']:>7.4f} "
        f"{'' if r['majority'] is None else format(r['majority'], '8.4f'):>8} {r['seconds']:>8.1f}"
        for r in table
    ]
    return "\n".join([head, *lines])
