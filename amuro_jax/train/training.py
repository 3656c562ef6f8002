"""The one training loop: steps, metrics one step late, saved states, resume, preemption.

Fine-tuning and the laboratory's pre-training both run through `run_training`.
"""

import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import logging

from amuro_jax.errors import TrainingError
from amuro_jax.logs import MetricsWriter, progress_bar, read_metrics
from amuro_jax.storage import Storage
from amuro_jax.train.batches import BatchSource
from amuro_jax.train.states import TrainingStates
from amuro_jax.train.step import StackedStep, State, Step

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
    with _opened(workdir, save) as (states, terminated):
        state, start = _begin(step, states, lambda: step.init(given(), seed))
        frozen = step.frozen(given()) if step.trainable.has_frozen else {}
        run = _Run(batches, schedule, states, start, workdir, log_every, on_log, description)
        with contextlib.closing(run):
            for number in range(start, batches.total):
                arrays, done = batches.arrays(number), number + 1
                state, metrics = step(state, arrays, schedule(number), frozen)
                run.queue(done, metrics, arrays)
                if on_step:
                    on_step(done, state)
                _save(done, state, states, save, batches, run, terminated, workdir)
            run.flush()
            jax.block_until_ready(state.params)
            return run.result(state.params)


def run_stacked(
    step: StackedStep,
    batches: BatchSource,
    schedules: Sequence[Callable[[int], float]],
    members: dict[str, dict],
    *,
    workdir=None,
    save: SavePolicy = SavePolicy(),
    log_every: int = 10,
    seed: int = 0,
    description: str = "train",
) -> dict[str, Trained | TrainingError]:
    """Trains several models of one shape in one program, on the same batches in the same order.

    Each gives the parameters of its separate run to fp32 round-off. One whose loss is not finite is
    given up, the others go on.

    Args:
        schedules: step → learning rate, of each member.
        members: name → parameters before the first step.
        workdir: folder of the states of the whole group (`state/`), and of each member's metrics
            (`<name>/metrics.jsonl`).

    Returns:
        Name → result, or the error that ended the member's run.

    Raises:
        TrainingError: every member failed.
        Preempted: as in `run_training`.
    """
    with _opened(workdir, save) as (states, terminated):
        trees = list(members.values())
        state, start = _begin(step, states, lambda: step.init(trees, seed))
        frozen = step.frozen(trees) if step.trainable.has_frozen else {}
        with _Group.of(
            members, schedules, batches, states, start, workdir, log_every, description
        ) as group:
            for number in range(start, batches.total):
                arrays, done = batches.arrays(number), number + 1
                rates = [schedule(number) for schedule in schedules]
                state, metrics = step(state, arrays, rates, frozen)
                group.queue(done, metrics, arrays)
                _save(done, state, states, save, batches, group, terminated, workdir)
            group.flush()
            jax.block_until_ready(state.params)
            return group.results(state.params)


@contextlib.contextmanager
def _opened(workdir, save):
    """(saved states or None, event of SIGTERM) of a run."""
    with contextlib.ExitStack() as stack:
        states = None
        if workdir:
            states = TrainingStates(Storage.open(workdir).epath() / "state", save.keep)
            stack.enter_context(contextlib.closing(states))
        yield states, stack.enter_context(_catch_sigterm())


def _begin(step, states, init):
    found = states and states.restore_newest(step.abstract_state(), step.state_shardings)
    return found or (init(), 0)


def _save(done, state, states, save, batches, run, terminated, workdir):
    """Saves the state where that is due; after SIGTERM always, and ends the process."""
    due = (done % (save.every or batches.per_epoch) == 0 and done < batches.total) or (
        done in save.at
    )
    if states and (due or terminated.is_set()):
        run.flush()  # a state behind a loss that is not finite is not worth keeping
        states.save(done, state)
    if terminated.is_set():
        if states:
            states.wait()
        _say_preempted(done, workdir)
        raise Preempted(done, saved=bool(states))


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
    if event.is_set():  # it came after the last step: nobody has answered it yet
        signal.raise_signal(signal.SIGTERM)


def _say_preempted(step, workdir):
    what = f"state of step {step} saved in {workdir}" if workdir else "no workdir, nothing saved"
    print(f"SIGTERM while training: {what}; exit status {PREEMPTED}", file=sys.stderr, flush=True)


class _Late:
    """Metrics of a step are read after the next one is dispatched, so that the device never waits.

    Subclasses have `_read(number, metrics as numbers, enter)`.
    """

    pending = None

    def queue(self, number, metrics, arrays):
        """Takes the metrics of step `number`, and reads those of the step before."""
        before, self.pending = self.pending, (number, metrics, arrays["enter"])
        if before:
            self._read(before[0], jax.device_get(before[1]), before[2])

    def flush(self):
        """Waits for the last step's metrics and reads them."""
        before, self.pending = self.pending, None
        if before:
            self._read(before[0], jax.device_get(before[1]), before[2])


class _Run(_Late):
    """What happens around the steps of one run: metrics, progress, the check of every loss."""

    def __init__(
        self, batches, schedule, states, start, workdir, log_every, on_log, description, name=None
    ):
        self.batches, self.schedule, self.states, self.start = batches, schedule, states, start
        self.log_every, self.on_log, self.name = log_every, on_log, name
        self.writer = MetricsWriter(workdir, start) if workdir else None
        self.bar = description and progress_bar(
            batches.total, description, initial=start, leave=workdir is not None
        )
        rows = read_metrics(f"{Storage.open(workdir)}/metrics.jsonl") if workdir and start else []
        self.loss = rows[-1]["loss"] if rows else float("nan")
        self.tokens, self.began = 0, time.perf_counter()

    def _read(self, number, metrics, enter):
        values = {name: float(value) for name, value in metrics.items()}
        self._check(number, values)
        self.loss, real = values["loss"], int((enter >= 0).sum())
        self.tokens += real
        speed = self.tokens / (time.perf_counter() - self.began)
        if self.bar:
            self.bar.update(1)
        if number % self.log_every and number != self.batches.total:
            return
        if self.bar:
            self.bar.set_postfix_str(f"loss {self.loss:.3f}, {speed:,.0f} tokens/s")
        values |= {
            "learning_rate": float(self.schedule(number - 1)),
            "epoch": number / self.batches.per_epoch,
            "padding": 1 - real / enter.size,
            "tokens_per_second": speed,
        }
        if self.writer:
            self.writer.write(number, **values)
        if self.on_log:
            self.on_log(number, values)

    def flush(self):
        """Reads what waits, and writes it: lines before a saved state are not written again."""
        super().flush()
        if self.writer:
            self.writer.flush()

    def _check(self, number, values):
        bad = next((name for name in ("loss", "grad_norm") if not np.isfinite(values[name])), None)
        if bad is None:
            return
        rows = ", ".join(map(str, self.batches.rows(number - 1)))
        good = self.states.newest() if self.states else None
        raise TrainingError(
            f"{bad} is {values[bad]} at step {number}, on rows {rows}",
            where=f"training of {self.name}" if self.name else "training",
            hint="look at these rows, lower the learning rate, or clip gradients; "
            + ("no state was saved" if good is None else f"the last good state is step {good}"),
        )

    def result(self, params):
        """What the run gives back."""
        tokens = self.batches.tokens_before(self.start) + self.tokens
        seconds = time.perf_counter() - self.began
        return Trained(params, params, self.batches.total, self.loss, tokens, seconds)

    def close(self):
        """Closes files and bar."""
        if self.bar:
            self.bar.close()
        if self.writer:
            self.writer.close()


class _Group(_Late):
    """The runs of a stacked step: each reads its own numbers, and fails alone."""

    def __init__(self, runs):
        self.runs, self.failures = runs, {}

    @classmethod
    @contextlib.contextmanager
    def of(cls, members, schedules, batches, states, start, workdir, log_every, description):
        """The group of these members, closed at the end; the first one shows the progress."""
        with contextlib.ExitStack() as stack:
            runs = {}
            for name, schedule in zip(members, schedules, strict=True):
                folder = Storage.open(workdir).child(name) if workdir else None
                shown = None if runs else f"{description} × {len(members)}"
                runs[name] = _Run(
                    batches, schedule, states, start, folder, log_every, None, shown, name
                )
                stack.enter_context(contextlib.closing(runs[name]))
            yield cls(runs)

    def _read(self, number, metrics, enter):
        for place, (name, run) in enumerate(self.runs.items()):
            if name in self.failures:
                continue
            try:
                run._read(number, {key: value[place] for key, value in metrics.items()}, enter)
            except TrainingError as error:
                self.failures[name] = error
                logging.warning("%s is given up, the others go on: %s", name, error)
        if len(self.failures) == len(self.runs):
            raise next(iter(self.failures.values()))

    def flush(self):
        """Of the group and of each member."""
        super().flush()
        for run in self.runs.values():
            run.flush()

    def results(self, params):
        """Name → result or error."""
        return {
            name: self.failures.get(name)
            or run.result(jax.tree.map(lambda leaf, place=place: leaf[place], params))
            for place, (name, run) in enumerate(self.runs.items())
        }
