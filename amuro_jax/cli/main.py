"""`amuro <verb> --flags`: finds the verb, lets absl parse its flags, and prints errors for people.

Imports no jax.
"""

import functools
import importlib
import os
import sys

from amuro_jax import __version__, huge_pages, peers, spelling
from amuro_jax.errors import AmuroError

# Verb → module of this package, in the order of a first day's work.
VERBS = {
    "lab": "lab",
    "revisions": "revisions",
    "convert": "convert",
    "verify": "verify",
    "export": "export",
    "tasks": "tasks",
    "plan": "plan",
    "train": "train",
    "score": "score",
    "study": "study",
    "status": "status",
    "report": "report",
    "plot": "plot",
    "results": "results",
    "import": "import_results",
    "export-results": "export_results",
    "merge": "merge",
    "diff": "diff",
    "gc": "gc",
    "audit": "audit",
    "ladder": "ladder",
    "predict": "predict",
    "lm-eval": "lm_eval",
    "doctor": "doctor",
    "configs": "configs",
    "completion": "completion",
}
# Verbs whose programs take long enough for huge pages.
COMPUTING = ("lab", "train", "score", "study", "lm-eval")


def module_of(verb: str):
    """The module of a verb: `DESCRIPTION`, `define_flags()` and `main()`; cheap to import."""
    return importlib.import_module(f"amuro_jax.cli.{VERBS[verb]}")


def usage() -> str:
    """The page that `amuro --help` prints."""
    lines = [
        f"amuro {__version__}: what a language model learns and forgets, checkpoint by checkpoint",
        "",
        "usage: amuro VERB [--flags]",
        "",
    ]
    width = max(map(len, VERBS))
    lines += [f"  {verb:<{width}} {module_of(verb).DESCRIPTION}" for verb in VERBS]
    lines += [
        "",
        "amuro VERB --help shows the flags of a verb. New here? Start with: amuro lab --help",
    ]
    return "\n".join(lines)


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console script.

    Exits with 0, 1 (interrupted or failed), or 2 (something for the reader to fix).
    """
    if argv is None and sys.argv[1:2] and sys.argv[1] in COMPUTING:
        huge_pages.start_again()
    argv = list(sys.argv if argv is None else argv)
    _quietly(lambda: _run(argv))


def _run(argv):
    if len(argv) > 2 and argv[1] == "help":  # `amuro help study`
        argv = [argv[0], argv[2], "--help"]
    if len(argv) < 2 or argv[1] in ("-h", "--help", "help"):
        print(usage())
        sys.exit(0 if len(argv) > 1 else 2)
    if argv[1] == "--version":
        print(__version__)
        sys.exit(0)
    if argv[1] not in VERBS:
        near = spelling.nearest(argv[1], VERBS)
        guess = f"; did you mean {near}?" if near else ""
        print(f"amuro: unknown verb {argv[1]!r}{guess}\n\n{usage()}", file=sys.stderr)
        sys.exit(2)
    _run_verb(argv[1], argv[2:])


def _quietly(action):
    """A reader that has seen enough (`amuro help | head -3`) is no error."""
    try:
        try:
            action()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run_verb(verb: str, flags: list[str]) -> None:
    from absl import app
    from absl import flags as absl_flags

    from amuro_jax.cli import configure
    from amuro_jax.libtpu import quiet_without_tpu

    quiet_without_tpu()
    module = module_of(verb)
    module.define_flags()
    if {"-h", "--help", "-help"} & set(flags):
        print(_help(verb, module))
        sys.exit(0)
    # `amuro revisions NAME` = `--suite=NAME`
    if flags and not flags[0].startswith("-") and hasattr(module, "FIRST"):
        flags = [f"--{module.FIRST}={flags[0]}", *flags[1:]]
    # orbax tells of every file at `info`: only warnings, unless the flag says otherwise
    absl_flags.FLAGS.verbosity = -1
    takes_files = hasattr(module, "FILES")
    parse = _guarded(verb, functools.partial(configure.parse_flags, files=takes_files))
    action = _guarded(verb, module.main)
    app.run(
        lambda rest: action(rest[1:]) if takes_files else action(),
        argv=[f"amuro {verb}", *flags],
        flags_parser=parse,
    )


def _help(verb, module) -> str:
    """The verb's own words, its flags, and every field of its configuration with its default."""
    from absl import flags as absl_flags

    from amuro_jax import config as configuration
    from amuro_jax.cli import configure

    lines = [f"amuro {verb}: {module.DESCRIPTION}", module.__doc__ or "", "flags:"]
    modules = (module.__name__, configure.__name__)
    declared = absl_flags.FLAGS.flags_by_module_dict()
    for flag in (flag for name in modules for flag in declared.get(name, [])):
        default = "" if flag.default in (None, [], "") else f" (default: {flag.default})"
        lines.append(f"  --{flag.name}: {flag.help}{default}")
    if name := getattr(module, "CONFIG", ""):
        lines += [
            "",
            f"fields of the configuration ({name} in amuro_jax.config.blocks):",
        ]
        lines += configure.describe_fields(getattr(configuration, name))
    return "\n".join(lines)


def _guarded(verb, function):
    def call(*args):
        return _report_errors(verb, lambda: function(*args))

    return call


def _report_errors(verb, action):
    try:
        return action()
    except AmuroError as error:
        print(f"amuro {verb}: {error}", file=sys.stderr)
        peers.end(error, 2)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            f"amuro {verb}: interrupted; finished work is saved, the same command resumes",
            file=sys.stderr,
        )
        peers.end(AmuroError("it was interrupted"), 1)
        sys.exit(1)
