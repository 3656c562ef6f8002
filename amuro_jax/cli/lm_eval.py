"""Runs tasks of lm-evaluation-harness on a checkpoint, its own or local YAML files.

    amuro lm-eval --checkpoint=allenai/OLMo-1B-hf --tasks=arc_easy,hellaswag --num_fewshot=5
    amuro lm-eval --checkpoint=work/lab/checkpoints@step100-tokens1M --tasks=my_task \\
      --include_path=path/to/yaml

Needs the extra `lm-eval`.
"""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "run lm-evaluation-harness tasks on a checkpoint"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string("checkpoint", "", "As `amuro convert` takes it.")
    flags.DEFINE_string("tasks", "", "Comma-separated names of tasks.")
    flags.DEFINE_string(
        "include_path",
        "",
        "Folder with YAML files of further tasks; the harness's own are then left out.",
    )
    flags.DEFINE_integer("num_fewshot", None, "Shots; by default as each task says.")
    flags.DEFINE_integer("limit", None, "Rows per task.")
    flags.DEFINE_string("dtype", "float32", "Compute dtype: float32 or bfloat16.")
    flags.DEFINE_string("mesh", "", "Mesh, for example data:4,tensor:2; empty: one device.")
    flags.DEFINE_bool(
        "apply_chat_template", False, "Render prompts with the tokenizer's chat template."
    )
    flags.DEFINE_string("out", "", "File for the results as JSON.")
    configure.define_cluster()


def main() -> None:
    """Evaluates and prints the harness's table."""
    from amuro_jax import files, processes
    from amuro_jax.errors import ConfigError

    args = flags.FLAGS
    configure.require_flags("checkpoint", "tasks", hint="amuro lm-eval --help")
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
        from lm_eval.utils import make_table
    except ImportError as error:
        raise ConfigError(
            "lm-evaluation-harness is not installed",
            where="amuro lm-eval",
            hint="pip install 'amuro_jax[lm-eval]'",
        ) from error
    configure.join_cluster()
    if not processes.alone() and not args.mesh:
        raise ConfigError(
            "several processes need a mesh over all their devices",
            where="--mesh",
            hint="for example --mesh=data:-1",
        )
    from amuro_jax.evals.lm_eval import AmuroLM

    manager = (
        TaskManager(include_path=args.include_path, include_defaults=False)
        if args.include_path
        else TaskManager()
    )
    results = lm_eval.simple_evaluate(
        model=AmuroLM(args.checkpoint, args.dtype, args.mesh),
        tasks=args.tasks.split(","),
        num_fewshot=args.num_fewshot,
        limit=args.limit,
        task_manager=manager,
        apply_chat_template=args.apply_chat_template,
        bootstrap_iters=1000,
    )
    if not processes.is_writer():
        return
    print(make_table(results))
    if args.out:
        files.write_text(
            args.out,
            _json({name: results[name] for name in ("results", "configs", "versions", "n-shot")}),
        )


def _json(value):
    import json

    return json.dumps(value, indent=2, default=str, ensure_ascii=False) + "\n"
