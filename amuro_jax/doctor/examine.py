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
    storage = Storage.open(workdir) if workdir else None
    folders = {"cache": cache or default_cache()}
    if storage is not None and storage.local is not None:
        folders["workdir"] = storage.local
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
    if storage is not None:
        looks += [
            ("storage", outside.storage, (storage, number)),
            ("clock", outside.clock, (storage, number)),
            ("programs", outside.program_cache, (storage, number)),
        ]
    return together.merged(
        [look(name, function, *arguments) for name, function, arguments in looks]
    )
