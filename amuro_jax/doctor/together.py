"""The processes of a run with each other: collectives, clocks, and one list of what all found."""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from amuro_jax import processes, sharding
from amuro_jax.doctor.finding import Finding
from amuro_jax.doctor.outside import judge_clock

SENT_BYTES = 16 << 20  # of each device, in one all-reduce
RUNS = 3  # of which the fastest counts
CLOCKS = "clocks"  # of all processes against each other
FINDINGS_BYTES = 1 << 16  # of one process's findings, as text


def collectives() -> Finding:
    """Whether a sum over all devices is right, and how fast it is.

    Bandwidth is that of the bus of an all-reduce: 2 (n - 1) / n × bytes / seconds for n devices.
    """
    count, numbers = jax.device_count(), SENT_BYTES // 4
    if count == 1:
        return Finding("collectives", True, "one device: nothing to send")
    mesh = sharding.make_mesh("data:-1")
    by_device = NamedSharding(mesh, PartitionSpec("data"))

    def make():
        rows = jnp.arange(1.0, count + 1.0, dtype=jnp.float32)
        return jnp.broadcast_to(rows[:, None], (count, numbers))

    values = jax.jit(make, out_shardings=by_device)()
    add = jax.jit(lambda x: x.sum(0), out_shardings=sharding.replicated(mesh))
    total = add(values).block_until_ready()
    seconds = []
    for _ in range(RUNS):
        processes.meet("doctor")
        start = time.perf_counter()
        total = add(values).block_until_ready()
        seconds.append(time.perf_counter() - start)
    got = np.unique(np.asarray(total.addressable_data(0)))
    expected = count * (count + 1) / 2
    if got.tolist() != [expected]:
        text = f"a sum over {count} devices gave {got[:3]} instead of {expected}"
        return Finding("collectives", False, text, "a device or the network between them is faulty")
    speed = 2 * (count - 1) / count * SENT_BYTES / min(seconds) / 1e9
    text = f"all-reduce of {SENT_BYTES >> 20} MiB over {count} devices"
    if not processes.alone():
        text += f" of {jax.process_count()} processes"
    text += f": {speed:.2f} GB/s"
    return Finding("collectives", True, text, values={"gb_per_s": round(speed, 3)})


def merged(own: list[Finding]) -> list[Finding]:
    """What all processes found, the same list on each: one line where all are well, else one for
    each process with a fault; and how far apart the clocks are.
    """
    if processes.alone():
        return own
    for _ in range(2):  # the first time the barrier itself is compiled
        processes.meet("clocks of the doctor")
    now = Finding(CLOCKS, True, "", values={"now": time.time()})
    return merge(_all([*own, now]))


def merge(of_processes: list[list[Finding]]) -> list[Finding]:
    """See `merged`; the processes' findings have the same names in the same order."""
    together = []
    for number, finding in enumerate(of_processes[0]):
        same = [findings[number] for findings in of_processes]
        faults = [
            dataclasses.replace(one, text=f"process {process}: {one.text}")
            for process, one in enumerate(same)
            if not one.ok
        ]
        if finding.name == CLOCKS:
            together.append(_clocks([one.values["now"] for one in same]))
        else:
            together += faults or [finding]
    return together


def _clocks(now):
    """A finding about the times that all processes have when they leave a barrier."""
    first, last = int(np.argmin(now)), len(now) - 1 - int(np.argmax(now[::-1]))
    found = judge_clock(now[last] - now[first], f"that of process {last}", f"process {first}'s")
    return dataclasses.replace(found, name=CLOCKS)


def _all(own):
    from jax.experimental import multihost_utils

    text = json.dumps([dataclasses.asdict(one) for one in own]).encode()
    sent = np.frombuffer(text.ljust(FINDINGS_BYTES), np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(sent), np.uint8)
    return [[Finding(**one) for one in json.loads(row.tobytes())] for row in rows]
