"""Huge pages for what programs on a CPU allocate anew at each call. Imports no jax.

XLA's temporary arrays come from malloc at each execution and go back behind it: a training step of
152 M parameters touches 1.7 GB of them, 420,000 pages of 4 kB that the kernel has to clear one by
one. glibc asks for pages of 2 MB where a tunable says so, which a process reads when it starts
(docs/benchmarks.md has what it gains).
"""

import os
import sys
from pathlib import Path

TUNABLES, ASKED = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages(environment=os.environ, setting: Path = SETTING) -> dict | None:
    """The environment in which a process has them; None where it has them already, where they were
    decided on, or where this machine gives none for the asking.

    Args:
        setting: the kernel's file, like `always [madvise] never`.
    """
    said = environment.get(TUNABLES, "")
    if ASKED in said or not _is_glibc() or not setting.exists():
        return None
    if "[madvise]" not in setting.read_text():
        return None
    return {**environment, TUNABLES: ":".join(filter(None, (said, f"{ASKED}=1")))}


def start_again(setting: Path = SETTING) -> None:
    """Puts the same command in this process's place, with huge pages; or does nothing. For the
    first lines of a program: what it has opened or begun is lost.
    """
    environment = with_huge_pages(setting=setting)
    if environment is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _is_glibc():
    try:
        return "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (AttributeError, ValueError):  # another system, or another library
        return False
