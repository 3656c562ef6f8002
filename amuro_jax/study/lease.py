"""One process at a time on one study folder: a lease file that names its holder and is taken over
when the holder is gone.
"""

import contextlib
import json
import os
import socket
import time
from pathlib import Path

from amuro_jax.errors import AmuroError

STALE = 600.0  # seconds without a sign of life after which another host's lease is taken over


@contextlib.contextmanager
def lease(workdir):
    """Holds `<workdir>/lease.json`; yields a function that renews it.

    Raises:
        AmuroError: another living process holds it.
    """
    path = Path(workdir) / "lease.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _take(path)
    try:
        yield lambda: os.utime(path)
    finally:
        with contextlib.suppress(OSError):
            if json.loads(path.read_text())["pid"] == os.getpid():
                path.unlink()


def _take(path):
    mine = json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "born": _born(os.getpid()),
            "since": time.time(),
        }
    )
    for _ in range(3):
        try:
            with path.open("x") as stream:
                stream.write(mine)
            return
        except FileExistsError:
            if (holder := _living_holder(path)) is not None:
                what = f"process {holder['pid']} on {holder['host']} is at work in this folder"
                raise AmuroError(what, where=path, hint="wait for it, or end it") from None
            path.unlink(missing_ok=True)
    raise AmuroError("the lease keeps changing hands", where=path)


def _living_holder(path):
    try:
        holder = json.loads(path.read_text())
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
    except ValueError:  # written just now, or cut off by a kill
        return {"pid": "?", "host": "?"} if time.time() - path.stat().st_mtime < 5 else None
    if holder["host"] == socket.gethostname():
        return holder if _born(holder["pid"]) == holder.get("born") is not None else None
    return holder if age < STALE else None


def _born(pid):
    """Start time of a process (Linux: clock ticks since boot), so that a reused number is not taken
    for it; None where it is gone.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
        return "alive"
    except OSError:
        return None
