"""Which modules of the package three paths pass through: docs/notes/foundation.md has the figures.

    python benchmarks/code_paths.py

Builds the tiny laboratory, then traces every function of the package that runs (imports apart, all
threads of the process): a Hub name to device arrays (from a local server of the Hub's protocol), a
JSONL row to a line of the score table (a study without fine-tuning, then the table), and an example
to a saved model. Runs on one CPU device; under a minute.
"""

import contextlib
import dataclasses
import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `tests`: the local Hub is of the tests

# What every path needs, or what decides sizes and places: not the path itself.
SUPPORT = {
    "", "api", "chips", "claims", "compiles", "devices", "errors", "files", "keys", "libtpu",
    "logs", "parquet", "peers", "preemption", "processes", "records", "sentinel", "sharding",
    "spelling", "variants", "config.*", "storage.*", "models.*", "planning.*", "convert",
    "data.registry", "data.tasks.*", "data.task", "data.tokenizer", "data.protocols",
    "scoring.buckets", "scoring.memory", "scoring.limits", "train.limits", "train.memory",
}  # fmt: skip
# On the second and third path how the checkpoint was opened; of a study what is to do, and by whom.
OPENING = {"convert.*", "opened", "array_store"}
STUDY = {
    "checkpoint", "watchdog", "train.run", "report.training", "study.derived", "study.grid",
    "study.partial", "study.plan", "study.preflight", "study.queue", "study.together",
    "study.trainings", "results.imported", "results.parts", "results.plan", "results.pooled",
}  # fmt: skip


@contextlib.contextmanager
def traced(modules: set):
    """Adds the modules of the package of which a function ran, by their names in the package."""
    package = str(ROOT / "amuro_jax") + os.sep

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(package):
            path = code.co_filename.removeprefix(package).removesuffix(".py")
            modules.add(path.replace(os.sep, ".").removesuffix("__init__").rstrip("."))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def amuro(*arguments: str) -> None:
    """A verb of the command line, in a process of its own."""
    subprocess.run([sys.executable, "-m", "amuro_jax", *arguments], check=True, cwd=ROOT)


def show(title: str, modules: set, support: set) -> None:
    """One path: both counts, and the names of the second."""
    own = sorted(
        name
        for name in modules
        if name not in support and f"{name.partition('.')[0]}.*" not in support
    )
    print(f"{title}: {len(modules)} modules, {len(own)} without network and support")
    print("    " + ", ".join(own))


def main() -> None:
    import amuro_jax
    from amuro_jax.cli.configure import load_config
    from amuro_jax.config import StudyConfig, TrainConfig
    from tests.convert.hub_server import Hub, serve

    for module in pkgutil.walk_packages(amuro_jax.__path__, "amuro_jax."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)  # so that nothing of an import is traced
    with tempfile.TemporaryDirectory() as scratch:
        lab = f"{scratch}/lab"
        amuro("lab", f"--config={ROOT}/configs/lab/tiny.py", f"--config.out={lab}")
        last = max(Path(lab, "checkpoints").iterdir(), key=lambda path: path.stat().st_mtime)
        amuro("export", f"--checkpoint={last}", f"--out={scratch}/hf")
        os.environ["AMURO_CACHE"] = f"{scratch}/cache"
        paths = [set(), set(), set()]
        with serve(Hub(f"{scratch}/hf")) as address:
            os.environ["HF_ENDPOINT"] = address
            with traced(paths[0]):
                amuro_jax.load_model("org/model")
        study = load_config("study/tiny.py", StudyConfig)
        study = dataclasses.replace(study, fine_tunes=(), evals=study.evals[-1:])
        study = dataclasses.replace(study, suite=f"{lab}/checkpoints")
        study = dataclasses.replace(study, data_root=f"{lab}/data", workdir=f"{scratch}/study")
        with traced(paths[1]):
            amuro_jax.run_study(study)
            amuro_jax.load_results(study.workdir).analysis("scores")
        recipe = load_config("train/lab_nli.py", TrainConfig).recipe
        recipe = dataclasses.replace(recipe, rows=32)
        with traced(paths[2]):
            checkpoint = amuro_jax.open_checkpoint(str(last))
            amuro_jax.fine_tune(checkpoint, recipe, f"{scratch}/train", data_root=f"{lab}/data")
    show("Hub name to device arrays", paths[0], SUPPORT)
    show("JSONL row to a line of the score table", paths[1], SUPPORT | OPENING | STUDY)
    show("example to a saved model", paths[2], SUPPORT | OPENING)


if __name__ == "__main__":
    main()
