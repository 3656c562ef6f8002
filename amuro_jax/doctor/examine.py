"""All looks at a machine, in order."""

import jax

from amuro_jax.convert.resolver import default_cache
from amuro_jax.doctor import machine, outside, together
from amuro_jax.doctor.finding import Finding, look
from amuro_jax.storage import Storage


def examine(
    workdir: str = "",
    checkpoint: str = "",
    mesh: str = "",
    cache: str = "",
    disk_gb: float = 10.0,
    hub: bool = True,
) -> list[Finding]:
    """What is found on this machine, or, of several processes, on all of theirs.

    Args:
        workdir: whose storage is tried; empty: none.
        checkpoint: whose tokenizer is looked at; empty: none.
        mesh: that has to fit the devices; empty: none.
        cache: of downloads and conversions; empty: the default.
        disk_gb: wanted free, in GB.
        hub: ask the Hub.
    """
    place = Storage.open(workdir) if workdir else None
    folders = {"cache": cache or default_cache()}
    if place is not None and place.local is not None:
        folders["workdir"] = place.local
    number = jax.process_index()
    looks = [
        ("versions", machine.versions, ()),
        ("devices", machine.device_kinds, ()),
        ("memory", machine.memory, ()),
        ("disk", machine.disk, (folders, disk_gb)),
        ("collectives", together.collectives, ()),
    ]
    if mesh:
        looks.append(("mesh", machine.mesh, (mesh,)))
    if hub:
        looks.append(("hub", outside.hub_reach, ()))
    if checkpoint:
        looks.append(("tokenizer", outside.tokenizer, (checkpoint, cache or None)))
    if place is not None:
        looks += [
            ("storage", outside.storage, (place, number)),
            ("clock", outside.clock, (place, number)),
            ("programs", outside.program_cache, (place, number)),
        ]
    return together.merged([look(name, function, *given) for name, function, given in looks])
