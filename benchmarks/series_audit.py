"""The audit of a series on 100 clean series and on 200 planted faults: which are named, what is a
false alarm, and how many bytes are read.

    python benchmarks/series_audit.py --scratch=/tmp/series_audit
"""

import argparse
import collections
import pathlib
import shutil
import time

import numpy as np

from amuro_jax.convert.revisions import list_revisions
from amuro_jax.convert.series_audit import FaultKind, audit_series
from tests.convert import series

RUNS, LENGTH = 10, 600


def schedules(rng):
    """Steps of a series: even, log-spaced, dense at the start and then even, or random."""
    kind = rng.integers(4)
    count = int(rng.integers(6, 14))
    if kind == 0:
        gap = int(rng.integers(20, LENGTH // count))
        return [gap * place for place in range(1, count + 1)]
    if kind == 1:
        return sorted(set(np.geomspace(4, LENGTH, count).astype(int).tolist()))
    if kind == 2:
        return [0, 1, 2, 4, 8, 16, 32, 64, *range(100, 100 * int(rng.integers(4, 7)), 100)]
    return sorted(rng.choice(np.arange(2, LENGTH // 6), count, replace=False) * 6)


def audited(folder):
    """The audit of a folder of checkpoints, and its time."""
    start = time.perf_counter()
    found = audit_series(list_revisions(folder))
    return found, time.perf_counter() - start


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--clean", type=int, default=100)
    parser.add_argument("--faults", type=int, default=25, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    scratch, rng = pathlib.Path(options.scratch), np.random.default_rng(options.seed)
    shutil.rmtree(scratch, ignore_errors=True)
    wanted = [schedules(rng) for _ in range(options.clean)]
    even = [[40 * place for place in range(1, int(rng.integers(8, 15)))] for _ in range(40)]
    steps = {int(step) for one in [*wanted, *even] for step in one}
    rates = np.geomspace(5e-4, 8e-3, RUNS)
    seeds = range(options.seed, options.seed + RUNS)
    runs = [series.train(steps, *one) for one in zip(seeds, rates, strict=True)]
    alarms, shares, seconds = [], [], []
    for number, chosen in enumerate(wanted):
        folder = scratch / "clean"
        kept = {int(step): runs[number % RUNS][int(step)] for step in chosen}
        series.write_series(folder, kept)
        found, spent = audited(folder)
        # A series of random steps may by chance look even with holes: these are no false alarms.
        alarms += [(number, str(one)) for one in found.faults if one.kind != FaultKind.HOLE]
        shares.append(found.bytes_read / found.bytes_total)
        seconds.append(spent)
        shutil.rmtree(folder)
    print(f"clean series {len(wanted)}, alarms {len(alarms)}", *alarms, sep="\n  ")
    named, extra = collections.Counter(), []
    for kind in series.KINDS:
        for number in range(options.faults):
            # Only an even series has holes that can be known.
            pool = even if kind == "hole" or number % 2 else wanted
            chosen = [step for step in pool[number % len(pool)] if step]
            folder = scratch / "faulty"
            kept = {int(step): runs[number % RUNS][int(step)] for step in chosen}
            names = series.write_series(folder, kept)
            right = series.plant(folder, kind, names, kept, rng)
            found, _ = audited(folder)
            hits = [
                one for one in found.faults if one.kind == kind and right & set(one.checkpoints)
            ]
            named[kind] += bool(hits)
            if not hits:
                print("missed", kind, right, [str(one) for one in found.faults])
            extra += [str(one) for one in found.faults if not right & set(one.checkpoints)]
            shutil.rmtree(folder)
    for kind in series.KINDS:
        print(f"{kind:<24} {named[kind]} of {options.faults} named")
    print(f"named {named.total()} of {options.faults * len(series.KINDS)}")
    print(f"findings about other checkpoints: {len(extra)}", *extra[:10], sep="\n  ")
    average, most = 100 * np.mean(shares), 100 * np.max(shares)
    print(f"bytes read: {average:.2f} % on average, {most:.2f} % at most")
    print(f"seconds per clean series: {np.mean(seconds):.3f}")


if __name__ == "__main__":
    main()
