"""What a study's process has in hand: the store, the claim under which it writes, what it logs, and
what failed.
"""

import traceback

from amuro_jax import checkpoint, compiles, logs, peers, processes
from amuro_jax.claims import Claim
from amuro_jax.config import StudyConfig
from amuro_jax.errors import AmuroError
from amuro_jax.results.store import Store
from amuro_jax.storage import Storage
from amuro_jax.study.together import NoStore


class Work:
    """The work of one process on a study: every record, log line and failure goes through here.

    Attributes:
        config: the study.
        storage, store: its folder; the store of a process that only follows writes nothing.
        writes: whether this process does.
        claim: of the checkpoint that is worked on; None before the first one.
        failures: a line for each job that failed.
        bar: counts cells, from `begin` on.
        report: gets lines for people.
    """

    def __init__(self, config: StudyConfig, watch: compiles.Watch, report):
        """`watch` counts what is compiled (`compiles.watch`)."""
        self.config, self.report = config, report
        self.storage = Storage.open(config.workdir)
        self.writes = processes.is_writer()
        self.store = Store(self.storage) if self.writes else NoStore()
        self.claim: Claim | None = None
        self.failures: list[str] = []
        self._watch = watch
        self._before = watch.total  # what was compiled before the newest job

    def begin(self, total: int) -> None:
        """Shows how far the study is; `total` is its number of cells."""
        self.bar = logs.progress_bar(total, self.config.name, unit="cell", shown=self.writes)

    def start(self, key: str, label: str) -> None:
        """Logs that a job begins.

        Raises:
            ClaimLostError: another process has taken its checkpoint over.
        """
        self.claim.check()
        self.store.log("started", key, label)
        self.bar.set_postfix_str(label)
        self._before = self._watch.total

    def finish(self, record, label: str, rows=None) -> None:
        """Commits a job's record, and says what it took.

        Raises:
            ClaimLostError: another process has taken its checkpoint over; nothing is written.
        """
        self.store.commit(record, rows, claim=self.claim)
        spent = (self._watch.total - self._before).record()
        self._before = self._watch.total
        self.store.log("finished", record.key, label, seconds=record.seconds, compiles=spent)
        if self.writes:
            logs.note(f"{label}: {record.seconds:.1f} s")

    def end(self) -> None:
        """Says and logs what was compiled; a run with nothing left leaves the log as it was."""
        self.bar.close()
        if self._watch.total != compiles.Compiles():
            record = self._watch.total.record()
            self.store.log("compiled", "", self.config.name, **record)
        self.report(str(self._watch.total))

    def remove(self, folder: str) -> None:
        """Deletes a folder that no process reads any more."""
        processes.meet("removal of a folder")
        if self.writes:
            checkpoint.remove(folder)

    def guarded(self, label: str, function, *arguments, key: str = "") -> None:
        """Calls a function. One fault must not cost the other jobs; a lost claim ends the work on
        this checkpoint.

        A fault of some processes and not of others ends the run.
        """
        fault = trace = None
        try:
            function(*arguments)
        except AmuroError as error:
            fault = error
        except Exception as error:
            fault, trace = error, traceback.format_exc()
        peers.settle(label, fault and f"{type(fault).__name__}: {fault}")
        if fault is not None:
            self.claim.check()
            self.fail(label, fault, trace, key)

    def fail(self, label: str, error: Exception, trace: str | None = None, key: str = "") -> None:
        """Notes and logs that a job failed."""
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        kind = f"{type(error).__name__}: " if trace else ""
        self.failures.append(f"{label}: {kind}{first}")
        self.store.log("failed", key, label, error=str(error), trace=trace)
