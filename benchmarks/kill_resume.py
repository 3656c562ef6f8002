"""kill -9 at random instants: are the final parameters those of a run that nobody disturbed?

    python benchmarks/kill_resume.py [--kills=20 --processes=1,2 --scratch=/tmp/amuro_kills]

For each number of processes one run of 150 steps is left alone, and another one is killed at random
times and started again, until it was killed so often and came to its end. Of several processes a
random one is killed; the others end because of it. SHA-256 of all final parameters is compared.
"""

import random
import time
from pathlib import Path

from absl import app, flags
from train_worker import result, start

from amuro_jax import checkpoint
from amuro_jax.logs import read_metrics

STEPS, SAVE_EVERY, PAUSE = 150, 5, 0.1
MOST = 8.0  # seconds from a run's first new step to its kill
flags.DEFINE_integer("kills", 20, "Of each number of processes.")
flags.DEFINE_list("processes", ["1", "2"], "Numbers of processes.")
flags.DEFINE_string("scratch", "/tmp/amuro_kills", "Folder of the runs.")


def steps_of(workdir) -> int:
    """Steps whose metrics are written."""
    return len(read_metrics(workdir / "metrics.jsonl"))


def disturbed(workdir: Path, count: int, kills: int, rng) -> list[int]:
    """Runs to the end under kills; the step at each kill (0: while it started)."""
    options = {"count": count, "mesh": f"fsdp:{count}" if count > 1 else ""}
    options |= {"steps": STEPS, "save_every": SAVE_EVERY, "pause": PAUSE}
    killed = []
    while result(workdir) is None:
        processes = start(workdir, **options)
        if len(killed) < kills:
            before = steps_of(workdir)
            # One in five is killed while it starts, restores or compiles.
            if rng.random() < 0.2:
                time.sleep(rng.uniform(0, MOST))
            else:
                while steps_of(workdir) <= before and processes[0].poll() is None:
                    time.sleep(0.02)
                time.sleep(rng.uniform(0, MOST / 8))
            rng.choice(processes).kill()
            killed.append(steps_of(workdir))
        for process in processes:
            process.wait()
    return killed


def main(_):
    """Prints one table."""
    scratch, rng = Path(flags.FLAGS.scratch), random.Random(0)
    checkpoint.remove(scratch)
    print(f"{'processes':>9} {'kills':>5} {'steps':>5}  {'parameters':<11} {'losses':<9} at steps")
    for count in map(int, flags.FLAGS.processes):
        whole, other = scratch / f"whole_{count}", scratch / f"killed_{count}"
        options = {"count": count, "mesh": f"fsdp:{count}" if count > 1 else ""}
        for process in start(whole, **options, steps=STEPS, save_every=SAVE_EVERY):
            process.wait()
        killed = disturbed(other, count, flags.FLAGS.kills, rng)
        mine, theirs = result(whole), result(other)
        same = "identical" if mine["sha256"] == theirs["sha256"] else "DIFFERENT"
        losses = "identical" if mine["losses"] == theirs["losses"] else "DIFFERENT"
        at = ", ".join(map(str, killed))
        print(f"{count:>9} {len(killed):>5} {STEPS:>5}  {same:<11} {losses:<9} {at}", flush=True)


if __name__ == "__main__":
    app.run(main)
