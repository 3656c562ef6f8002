"""The one training loop: steps, metrics one step late, saved states, resume, preemption.

Fine-tuning and the laboratory's pre-training both run through `run_training`.
"""

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable

import jax
import numpy as np

from amuro_jax import checkpoint
from amuro_jax.errors import TrainingError
from amuro_jax.logs import MetricsWriter, progress_bar, read_metrics
from amuro_jax.storage import Storage
from amuro_jax.train.batches import BatchSource
from amuro_jax.train.step import State, Step

PREEMPTED = 143  # 128 + SIGTERM, what a shell and the schedulers report for it


class Preempted(SystemExit):
    """SIGTERM came while training: the state was saved, and the process is to end.

    Not an AmuroError: a study that goes on after a failed cell must not go on after this.
    """

    def __init__(self, step: int, saved: bool):
        super().__init__(PREEMPTED)
        self.step, self.saved = step, saved


@dataclasses.dataclass(frozen=True)
class SavePolicy:
    """When resumable states are written.

    Attributes:
        every: optimiser steps between states; None: at the end of each epoch.
        at: further steps, the last one too if it is wanted: a finished run needs no state.
        keep: how many of the newest states stay.
    """

    every: int | None = None
    at: frozenset[int] = frozenset()
    keep: int = 2


@dataclasses.dataclass(frozen=True)
class Trained:
    """Result of one run.

    Attributes:
        params: the tuned model's tree where `fine_tune` made it, else the trained tree.
        trained: trained tree, on the devices: all parameters, or an adapter.
        steps: optimiser steps of the whole run.
        loss: of the last step.
        tokens: real tokens of the whole run, those before a restart too.
        seconds: of this process.
    """

    params: dict
    trained: dict
    steps: int
    loss: float
    tokens: int
    seconds: float


def run_training(
    step: Step,
    batches: BatchSource,
    schedule: Callable[[int], float],
    params: dict | Callable[[], dict],
    *,
    workdir=None,
    save: SavePolicy = SavePolicy(),
    log_every: int = 10,
    on_step: Callable[[int, State], None] | None = None,
    on_log: Callable[[int, dict], None] | None = None,
    seed: int = 0,
    description: str = "train",
) -> Trained:
    """Runs all steps of `batches`, or those that are left after the newest good state.

    Killed anywhere and called again, it ends with the same parameters bit for bit (on the same
    mesh): batches, learning rate and state depend on the step alone.

    Args:
        schedule: step (from 0) → learning rate.
        params: the model's parameters before the first step, or a function that gives them where
            they are needed; left as they were. A trainable with frozen parameters always asks.
        workdir: folder of `metrics.jsonl`, `tensorboard/` and `state/`; None keeps nothing, and a
            killed run starts again.
        on_step: called with (steps done, state) after each step, before that step's state is saved.
            Reading the state makes the device wait.
        on_log: called with (steps done, metrics) for each step that is logged, one step late.
        seed: draws trained parameters that the model does not have (see `Trainable.split`).

    Raises:
        TrainingError: a loss or gradient is not finite; names step, rows and the last good state.
        Preempted: SIGTERM came (in the main thread); the state is saved. Exit status 143.
    """
    given = params if callable(params) else lambda: params
    states = (
        checkpoint.TrainingStates(Storage.open(workdir).epath() / "state", save.keep)
        if workdir
        else None
    )
    with contextlib.ExitStack() as stack:
        if states:
            stack.enter_context(contextlib.closing(states))
        terminated = stack.enter_context(_catch_sigterm())
        found = (
            states.restore_newest(step.abstract_state(), step.state_shardings) if states else None
        )
        state, start = (step.init(given(), seed), 0) if found is None else found
        frozen = step.frozen(given()) if step.trainable.has_frozen else {}
        run = _Run(batches, schedule, states, start, workdir, log_every, on_log, description)
        stack.enter_context(contextlib.closing(run))
        every = save.every or batches.per_epoch
        for number in range(start, batches.total):
            arrays, done = batches.arrays(number), number + 1
            state, metrics = step(state, arrays, schedule(number), frozen)
            run.queue(done, metrics, arrays)
            if on_step:
                on_step(done, state)
            due = (done % every == 0 and done < batches.total) or done in save.at
            if states and (due or terminated.is_set()):
                run.flush()  # a state behind a loss that is not finite is not worth keeping
                states.save(done, state)
            if terminated.is_set() and done < batches.total:
                if states:
                    states.wait()
                _say_preempted(done, workdir)
                raise Preempted(done, saved=bool(states))
        run.flush()
        jax.block_until_ready(state.params)
        return run.result(state)


@contextlib.contextmanager
def _catch_sigterm():
    """An event that the first SIGTERM sets; a second one ends the process as it would without us.

    Other threads than the main one cannot catch signals: there the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGTERM)

    def caught(*_):
        event.set()
        signal.signal(signal.SIGTERM, before)

    signal.signal(signal.SIGTERM, caught)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_preempted(step, workdir):
    what = f"state of step {step} saved in {workdir}" if workdir else "no workdir, nothing saved"
    print(f"SIGTERM while training: {what}; exit status {PREEMPTED}", file=sys.stderr, flush=True)


class _Run:
    """What happens around the steps of one run: metrics, progress, the check of every loss.

    Metrics of a step are read after the next one is dispatched, so that the device never waits.
    """

    def __init__(self, batches, schedule, states, start, workdir, log_every, on_log, description):
        self.batches, self.schedule, self.states, self.start = batches, schedule, states, start
        self.log_every, self.on_log, self.pending = log_every, on_log, None
        self.writer = MetricsWriter(workdir, start) if workdir else None
        self.bar = progress_bar(
            batches.total, description, initial=start, leave=workdir is not None
        )
        rows = read_metrics(f"{Storage.open(workdir)}/metrics.jsonl") if workdir and start else []
        self.loss = rows[-1]["loss"] if rows else float("nan")
        self.tokens, self.began = 0, time.perf_counter()

    def queue(self, number, metrics, arrays):
        """Takes the metrics of step `number`, and reads those of the step before."""
        before, self.pending = self.pending, (number, metrics, arrays["enter"])
        if before:
            self._read(*before)

    def flush(self):
        """Waits for the last step's metrics and reads them."""
        before, self.pending = self.pending, None
        if before:
            self._read(*before)

    def _read(self, number, metrics, enter):
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self._check(number, values)
        self.loss, real = values["loss"], int((enter >= 0).sum())
        self.tokens += real
        self.bar.update(1)
        if number % self.log_every and number != self.batches.total:
            return
        speed = self.tokens / (time.perf_counter() - self.began)
        self.bar.set_postfix_str(f"loss {self.loss:.3f}, {speed:,.0f} tokens/s")
        values |= {
            "learning_rate": self.schedule(number - 1),
            "epoch": number / self.batches.per_epoch,
            "padding": 1 - real / enter.size,
            "tokens_per_second": speed,
        }
        if self.writer:
            self.writer.write(number, **values)
        if self.on_log:
            self.on_log(number, values)

    def _check(self, number, values):
        bad = next((name for name in ("loss", "grad_norm") if not np.isfinite(values[name])), None)
        if bad is None:
            return
        rows = ", ".join(map(str, self.batches.rows(number - 1)))
        good = self.states.newest() if self.states else None
        raise TrainingError(
            f"{bad} is {values[bad]} at step {number}, on rows {rows}",
            where="training",
            hint="look at these rows, lower the learning rate, or clip gradients; "
            + ("no state was saved" if good is None else f"the last good state is step {good}"),
        )

    def result(self, state):
        tokens = self.batches.tokens_before(self.start) + self.tokens
        seconds = time.perf_counter() - self.began
        return Trained(state.params, state.params, self.batches.total, self.loss, tokens, seconds)

    def close(self):
        self.bar.close()
        if self.writer:
            self.writer.close()
