"""What work reaches for: the Hub, a checkpoint's tokenizer, the storage of the workdir."""

import time
import uuid

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from amuro_jax import compiles, opened
from amuro_jax.claims import STALE_SECONDS
from amuro_jax.convert import hub
from amuro_jax.doctor.finding import Finding
from amuro_jax.errors import AmuroError
from amuro_jax.scoring.scorer import keep_programs
from amuro_jax.storage import Storage

HUB_SECONDS = 10.0
# Of the time after which a silent owner's claim is taken over; clocks that differ by more than
# this part of it would make live owners look dead too early.
CLOCK_PART = 0.1


def hub_reach() -> Finding:
    """Whether the Hub answers, and whether it knows the token. The token is never shown."""
    if hub.is_offline():
        return Finding("hub", True, "not looked at: HF_HUB_OFFLINE is set")
    start = time.perf_counter()
    endpoint, user = hub.reach(HUB_SECONDS)
    seconds = time.perf_counter() - start
    who = f"the token is {user}'s" if user else "no token: public models only"
    values = {"seconds": round(seconds, 3), "token": user is not None}
    return Finding("hub", True, f"{endpoint} answers in {seconds:.1f} s; {who}", values=values)


def tokenizer(name: str, cache: str | None) -> Finding:
    """Whether a checkpoint opens, and its tokenizer's end of text is the model's."""
    checkpoint = opened.open_checkpoint(name, cache)
    own, text = checkpoint.tokenizer, "Ein Test, 1 + 1 = 2."
    if not own.encode(text):
        return Finding("tokenizer", False, "it makes no tokens of a text", "convert it again")
    stated = f"eos id {own.eos_id} is {own.token(own.eos_id)!r}"
    hint = ""
    if own.eos_id >= checkpoint.config.vocab_size:
        hint = f"the model has ids below {checkpoint.config.vocab_size} alone: another tokenizer"
    return Finding("tokenizer", not hint, f"{stated}, pad {own.pad_id}, bos {own.bos_id}", hint)


def storage(where: Storage, number: int) -> Finding:
    """Whether the storage does what stores of results rely on: a file is there once it is written,
    is replaced as a whole, is created by one process only, is listed, and is gone once deleted.

    Args:
        number: of this process: each tries files of its own.
    """
    folder = _probe(where, number)
    start, wrong = time.perf_counter(), []
    try:
        folder.replace("a/file", b"first")
        folder.replace("a/file", b"second")
        if folder.get("a/file") != b"second":
            wrong.append("a file that was replaced still has its old content")
        if not folder.write_once("once", b"1") or folder.write_once("once", b"2"):
            wrong.append("a file that exists could be created again")
        if (names := sorted(folder.names())) != ["a/file", "once"]:
            wrong.append(f"the listing shows {names} instead of a/file and once")
        folder.append("log", {"line": 1})
        folder.append("log", {"line": 2})
        if [record.get("line") for record in folder.read_log("log")] != [1, 2]:
            wrong.append("a log has lost lines")
    finally:
        folder.delete()
    if folder.names():
        wrong.append("deleted files are still listed")
    seconds = time.perf_counter() - start
    text = "; ".join(wrong) or f"written, replaced, listed, deleted in {seconds:.2f} s"
    hint = "claims and cells are not safe here: choose another workdir" if wrong else ""
    values = {"seconds": round(seconds, 3)}
    return Finding("storage", not wrong, f"{where.url}: {text}", hint, values)


def _probe(where, number):
    """A folder for what is written to try the storage; it is deleted behind."""
    return where.child(f"doctor-{number}-{uuid.uuid4().hex[:8]}")


def clock(where: Storage, number: int) -> Finding:
    """Seconds by which this machine's clock is ahead of the storage's, by a file's time."""
    folder = _probe(where, number)
    try:
        before = time.time()
        folder.replace("now", b"")
        written = folder.modified("now")
        after = time.time()
    finally:
        folder.delete()
    if written is None:
        return Finding("clock", True, f"{where.url} tells no times")
    # The file's time may lie anywhere between the two looks, and be cut to whole seconds.
    ahead = before - written if written < before else min(0.0, after - written)
    return judge_clock(ahead, "this machine's clock", "the storage's")


def judge_clock(ahead: float, whose: str, other: str) -> Finding:
    """A finding about two clocks.

    Args:
        ahead: seconds; negative where it is behind.
    """
    limit = CLOCK_PART * STALE_SECONDS
    side = "ahead of" if ahead > 0 else "behind"
    text = f"{whose} is {abs(ahead):.1f} s {side} {other}"
    hint = "" if abs(ahead) <= limit else "set the clocks (NTP): claims would be taken over early"
    return Finding("clock", not hint, text, hint, {"ahead_seconds": round(ahead, 3)})


def program_cache(where: Storage, number: int) -> Finding:
    """Whether a program that was compiled and dropped is read back from the workdir's storage.

    Of several processes jax has the first one alone write.
    """
    if number > 0:
        return Finding("programs", True, "process 0 writes them")
    folder, before = _probe(where, number), jax.config.jax_compilation_cache_dir
    folder.replace("written", b"")  # an error of ours where jax could not write there
    try:
        cache = folder.epath()
        keep_programs(cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        compilation_cache.reset_cache()
        seen = []
        for _ in range(2):
            with compiles.watch() as watch:
                jax.jit(lambda x: jnp.tanh(x) @ x)(jnp.ones((8, 8))).block_until_ready()
            seen.append(watch.total)
            jax.clear_caches()
    finally:
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", before)
        folder.delete()
    if not seen[1].cached:
        raise AmuroError(
            "a compiled program was not read back",
            where=where.url,
            hint="without it every process compiles everything; is the folder writable?",
        )
    return Finding("programs", True, f"compiled ones are read back from {where.url}")
