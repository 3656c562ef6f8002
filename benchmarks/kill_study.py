"""Does a study that is killed again and again compute every cell once, with the same results?

    python benchmarks/kill_study.py --kills=6
    python benchmarks/kill_study.py --kills=6 --store=objects
    python benchmarks/kill_study.py --kills=5 --ray

Three processes, each with its share of three checkpoints (`--shard`), work in one folder; after a
new line in the log one of them, by chance, is killed and started again, until so many are. With
`--store=objects` the folder is an object store (a file system that neither renames nor appends;
its study has no fine-tuning, whose states take a disk, gs:// or s3://). With `--ray` two nodes of a
Ray cluster do the work; one node is killed so often, and the driver twice. Then the cells are
compared with those of one process that nobody disturbed. Prints a table, with the seconds of both;
`--kills=0` is the one to compare them. `--folder` keeps the checkpoints and the undisturbed study
for further runs.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.object_store import WholeObjects  # noqa: E402

SCHEME = "diskobjects"
SHARDS = 3
SCORES = ("value", "stderr", "low", "high", "n")
EVERY = 3  # one new line of the log in so many kills
NODE_TRIES = 5  # Ray gives a node up that is not there in 15 to 30 s, as on a busy machine


class DiskObjects(WholeObjects, LocalFileSystem):
    """An object store that several processes share: whole objects, no rename, no append."""

    protocol = SCHEME

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix(f"{SCHEME}://"))

    def pipe_file(self, path, value, mode="overwrite", **_):
        """Puts an object; creating one is exclusive, as in GCS and S3."""
        path = Path(self._strip_protocol(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parents[-2], delete=False) as scratch:
            scratch.write(value)
        try:
            if mode == "create":
                os.link(scratch.name, path)
            else:
                os.replace(scratch.name, path)
        finally:
            Path(scratch.name).unlink(missing_ok=True)

    def put_file(self, path1, path2, **kwargs):
        """Puts a file of the disk: an object store has no folders to be made first."""
        Path(self._strip_protocol(path2)).parent.mkdir(parents=True, exist_ok=True)
        super().put_file(path1, path2, **kwargs)


fsspec.register_implementation(SCHEME, DiskObjects, clobber=True)


def get_config(kind: str):
    """The study: three checkpoints, one fine-tuning set (`folder`) or none (`objects`)."""
    from amuro_jax.config import Dtype, EvalSet, FineTune, Recipe, Role, Scoring, StudyConfig

    recipe = Recipe(rows=16, epochs=2, batch_size=4, dtype=Dtype.FLOAT32, max_length=256)
    config = StudyConfig(
        name="killed",
        formats=("default", "io"),
        shots=(1,),
        evals=(EvalSet("lab_attributes", Role.MULTIPLE_CHOICE, shots=(0, 1, 2)),),
        recipe=recipe,
        scoring=Scoring(rows=6, max_new_tokens=4, bootstrap=50),
    )
    if kind == "objects":
        return config
    tuned = (EvalSet("lab_nli", Role.IN_DOMAIN, ("lab_nli",)), *config.evals)
    return dataclasses.replace(config, fine_tunes=(FineTune("lab_nli"),), evals=tuned)


def make_lab(folder: Path) -> Path:
    """Three checkpoints and their data sets; what is there already is kept."""
    if not (folder / "checkpoints").is_dir():
        small = ["--config.steps=4", "--config.first_checkpoint=1", "--config.checkpoints=3"]
        command = [sys.executable, "-m", "amuro_jax", "lab", *small, f"--config.out={folder}"]
        command += [f"--config={ROOT}/configs/lab/tiny.py"]
        subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return folder


def start(kind: str, lab: Path, workdir: str, *more: str) -> subprocess.Popen:
    """`amuro study` in a process of its own, which knows the scheme of `DiskObjects`."""
    run = "import sys, benchmarks.kill_study; from amuro_jax.cli.main import run; run(sys.argv)"
    flags = [
        f"--config={__file__}:{kind}",
        f"--config.suite={lab}/checkpoints",
        f"--config.data_root={lab}/data",
        f"--config.workdir={workdir}",
    ]
    command = [sys.executable, "-c", run, "study", *flags, *more]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)


def environment() -> dict[str, str]:
    """Of all processes. Ray's workers get the priority of the others: at its niceness of 15 they
    hardly ever run on a machine that is busy with something else.
    """
    own = {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    return {**os.environ, **own}


def lines(workdir: str) -> int:
    """Lines of the study's log."""
    from amuro_jax.results.store import Store

    return len(Store.open(workdir).read_log())


def disturbed(workdir: str, kills: int, working, kill) -> int:
    """Calls `kill` by chance after new lines of the log, while `working()`; returns how often."""
    done, seen = 0, 0
    while working():
        time.sleep(0.05)
        now = lines(workdir)
        if now > seen and done < kills and random.random() < 1 / EVERY:
            kill()
            done += 1
            print(f"kill {done} of {kills} behind line {now} of the log", file=sys.stderr)
        seen = now
    return done


def by_shards(kind: str, lab: Path, workdir: str, kills: int) -> dict[str, int]:
    """Three processes, of which one is killed and started again so often."""

    def shard(number):
        return start(kind, lab, workdir, f"--shard={number}/{SHARDS}")

    processes = [shard(number) for number in range(SHARDS)]

    def working():
        if any(process.poll() not in (None, 0) for process in processes):
            sys.exit("a process failed by itself")
        return any(process.poll() is None for process in processes)

    def kill():
        alive = [at for at, process in enumerate(processes) if process.poll() is None]
        if alive:
            at = random.choice(alive)
            processes[at].kill()
            processes[at].wait()
            processes[at] = shard(at)

    return {"processes killed": disturbed(workdir, kills, working, kill)}


def by_ray(kind: str, lab: Path, workdir: str, kills: int) -> dict[str, int]:
    """Two nodes, of which one is killed and replaced so often; twice the driver as well."""
    from ray.cluster_utils import Cluster

    os.environ.update(environment())
    cluster, count = Cluster(), collections.Counter()

    def add_node(**more):
        for _ in range(NODE_TRIES - 1):
            with contextlib.suppress(Exception):  # Ray's own, of no kind
                return cluster.add_node(num_cpus=1, object_store_memory=80 << 20, **more)
        return cluster.add_node(num_cpus=1, object_store_memory=80 << 20, **more)

    add_node(include_dashboard=False)
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.shutdown)
        flag = f"--executor=ray:{cluster.address}"
        now = {"node": add_node(), "driver": start(kind, lab, workdir, flag)}
        stack.callback(lambda: now["driver"].kill())

        def working():
            if now["driver"].poll() not in (None, 0):
                sys.exit("the driver failed by itself")
            return now["driver"].poll() is None

        def kill():
            if count["nodes killed"] > count["drivers killed"] < 2:
                count["drivers killed"] += 1
                now["driver"].kill()
                now["driver"].wait()
                now["driver"] = start(kind, lab, workdir, flag)
            else:
                count["nodes killed"] += 1
                cluster.remove_node(now["node"], allow_graceful=False)
                now["node"] = add_node()

        disturbed(workdir, kills and kills + 2, working, kill)
    return dict(count)


def compare(workdir: str, reference: str) -> tuple[int, int, int, float]:
    """(cells, of them finished more than once, of them with another score or interval than the
    reference's, largest relative difference of what else is a mean of log-probabilities).
    """
    from amuro_jax.results.store import Store

    made, undisturbed = Store.open(workdir), Store.open(reference)
    finished = collections.Counter(
        one["key"] for one in made.read_log() if one["event"] == "finished"
    )
    cells, expected = ({one.key: one for one in store.records()} for store in (made, undisturbed))
    if cells.keys() != expected.keys():
        sys.exit(f"other cells than without kills: {cells.keys() ^ expected.keys()}")
    pairs = [
        (one.metrics, expected[key].metrics)
        for key, one in cells.items()
        if hasattr(one, "metrics")
    ]
    others = sum(any(one[name] != other[name] for name in SCORES) for one, other in pairs)
    drift = max(
        abs(one["extra"][name] / other["extra"][name] - 1)
        for one, other in pairs
        for name in ("log_loss", "bits_per_byte")
        if other["extra"].get(name)
    )
    return len(cells), sum(count > 1 for count in finished.values()), others, drift


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--store", choices=("folder", "objects"), default="folder")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--folder", help="kept; default: a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder, kind = Path(given.folder or scratch).absolute(), given.store
        lab, reference = make_lab(folder / "lab"), str(folder / f"alone-{kind}")
        kept, began = Path(reference).exists(), time.perf_counter()
        if start(kind, lab, reference).wait():
            sys.exit("the study failed without a kill")
        alone = "kept" if kept else f"{time.perf_counter() - began:.0f}"
        began = time.perf_counter()
        prefix = f"{SCHEME}://" if kind == "objects" else ""
        workdir = f"{prefix}{scratch}/killed"
        kills = (by_ray if given.ray else by_shards)(kind, lab, workdir, given.kills)
        seconds = time.perf_counter() - began
        cells, twice, others, drift = compare(workdir, reference)
    killed = ", ".join(f"{count} {name}" for name, count in kills.items())
    names = ("killed", "cells", "computed twice", "other scores", "log-loss, relative", "seconds")
    values = (killed or "none", cells, twice, others, f"{drift:.1e}", f"{seconds:.0f}")
    print(f"| {' | '.join([*names, 'seconds of one process'])} |\n|{'---|' * (len(names) + 1)}")
    print(f"| {' | '.join(map(str, [*values, alone]))} |")


if __name__ == "__main__":
    main()
