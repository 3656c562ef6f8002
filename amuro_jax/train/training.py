"""The one training loop: steps, metrics one step late, saved states, resume, preemption.

Fine-tuning and the laboratory's pre-training both run through `run_training`.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence

import jax

from amuro_jax import processes
from amuro_jax.config.checks import BEST
from amuro_jax.errors import TrainingError
from amuro_jax.preemption import PREEMPTED, Preempted, Stop, stopping
from amuro_jax.storage import Storage
from amuro_jax.train.batches import BatchSource
from amuro_jax.train.feed import feed
from amuro_jax.train.meters import GroupMeter, Late, Logging, Meter
from amuro_jax.train.profiling import Profile
from amuro_jax.train.states import TrainingStates
from amuro_jax.train.step import StackedStep, State, Step
from amuro_jax.watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class SavePolicy:
    """When resumable states are written.

    Attributes:
        every: optimiser steps between states; None: at the end of each epoch.
        at: further steps, the last one too if it is wanted: a finished run needs no state.
        keep: how many of the newest states stay.
        best: measure by which one more state stays, of `config.checks.BEST`; None: none does.
        value: its value of the trained tree; None: it is in the metrics.
        step_seconds: a run in which no step is finished for so long is ended; None: half an hour.
    """

    every: int | None = None
    at: frozenset[int] = frozenset()
    keep: int = 2
    best: str | None = None
    value: Callable[[dict], float] | None = None
    step_seconds: float | None = None


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
        best: the saved state with the best value, with the value as its loss; None: the last one
            is the best, or none was asked for.
    """

    params: dict
    trained: dict
    steps: int
    loss: float
    tokens: int
    seconds: float
    best: "Trained | None" = None


def run_training(
    step: Step,
    batches: BatchSource,
    schedule: Callable[[int], float],
    params: dict | Callable[[], dict],
    *,
    workdir=None,
    save: SavePolicy = SavePolicy(),
    log: Logging = Logging(),
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
    load = params if callable(params) else lambda: params
    with _opened(workdir, save, log) as run:
        state, start, progress = run.begin(step, lambda: step.init(load(), seed))
        frozen = step.frozen(load()) if step.trainable.has_frozen else {}
        meter = Meter(
            (batches, schedule, step),
            run.states,
            start,
            progress,
            workdir,
            log,
            on_log,
            description,
        )
        with contextlib.closing(meter):
            state = run.steps(
                batches,
                step,
                lambda state, arrays, number: step(state, arrays, schedule(number), frozen),
                state,
                start,
                meter,
                on_step,
            )
            done = _result(meter, state.params)
            return dataclasses.replace(done, best=run.best(step, batches.total))


def _result(meter: Meter, params) -> Trained:
    seconds = time.perf_counter() - meter.began
    return Trained(params, params, meter.batches.total, meter.loss, meter.tokens, seconds)


def run_stacked(
    step: StackedStep,
    batches: BatchSource,
    schedules: Sequence[Callable[[int], float]],
    members: dict[str, dict],
    *,
    workdir=None,
    save: SavePolicy = SavePolicy(),
    log: Logging = Logging(),
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
    with _opened(workdir, save, log) as run:
        trees = list(members.values())
        state, start, progress = run.begin(step, lambda: step.init(trees, seed))
        frozen = step.frozen(trees) if step.trainable.has_frozen else {}

        def update(state, arrays, number):
            return step(state, arrays, [schedule(number) for schedule in schedules], frozen)

        with GroupMeter.of(
            members,
            schedules,
            (batches, step.step),
            run.states,
            start,
            progress,
            workdir,
            log,
            description,
        ) as group:
            state = run.steps(batches, step, update, state, start, group)
            return {
                name: group.failures.get(name)
                or _result(meter, jax.tree.map(lambda leaf, index=index: leaf[index], state.params))
                for index, (name, meter) in enumerate(group.meters.items())
            }


@contextlib.contextmanager
def _opened(workdir, save, log):
    """The `_Run` of a workdir."""
    with contextlib.ExitStack() as stack:
        states = None
        if workdir:
            more = None if save.best is None else BEST[save.best]
            folder = Storage.open(workdir).epath() / "state"
            states = TrainingStates(folder, save.keep, more)
            stack.enter_context(contextlib.closing(states))
        watchdog = stack.enter_context(Watchdog(save.step_seconds))
        profile = Profile(log.profile, workdir)
        stop = stack.enter_context(stopping())
        yield _Run(workdir, save, states, stop, watchdog, profile)


@dataclasses.dataclass
class _Run:
    """What surrounds the steps of a run: its saved states, when it stops, and the watchdog."""

    workdir: object
    save: SavePolicy
    states: TrainingStates | None
    stop: Stop
    watchdog: Watchdog
    profile: Profile

    def begin(self, step, init):
        """(state, its number of steps, progress) to go on from."""
        saved = self.states and self.states.restore_newest(
            step.abstract_state(), step.state_shardings
        )
        return (saved.tree, saved.step, saved.progress) if saved else (init(), 0, {})

    def steps(self, batches, step, update, state, start, meter: Late, on_step=None):
        """Does all steps from `start` on; returns the last state, which is there."""
        self.stop.begin(start)
        mine = None if processes.alone() else step.mine
        for number, part, waited in feed(batches, start, mine):
            done = number + 1
            self.profile.before(done)
            state, metrics = update(state, step.place(part), number)
            self.profile.after(done, state, done == batches.total)
            meter.queue(done, metrics, part, waited)
            if on_step:
                on_step(done, state)
            self._save(done, state, batches, meter)
            self.watchdog.step(done)
        meter.flush()
        return jax.block_until_ready(state)

    def _value(self, state, meter):
        if self.save.best is None:
            return None
        return (
            meter.values[self.save.best]
            if self.save.value is None
            else self.save.value(state.params)
        )

    def best(self, step, total) -> Trained | None:
        """The saved state with the best value, unless it is the last one."""
        if self.states is None or self.save.best is None:
            return None
        found = self.states.restore_best(step.abstract_state(), step.state_shardings)
        if found is None or found[0].step == total:
            return None
        saved, value = found
        params, tokens = saved.tree.params, saved.progress["tokens"]
        return Trained(params, params, saved.step, value, tokens, 0.0)

    def _save(self, done, state, batches, meter):
        """Saves the state where that is due; after SIGTERM always, and ends the process."""
        last = done == batches.total
        due = (done % (self.save.every or batches.per_epoch) == 0 and not last) or (
            done in self.save.at
        )
        stops = self.stop.reached(done, last)
        if self.states and (due or stops):
            meter.flush()  # a state behind a loss that is not finite is not worth keeping
            self.states.save(done, state, meter.progress(), self._value(state, meter))
        if stops:
            if self.states:
                self.states.wait()
            _say_preempted(done, self.workdir)
            raise Preempted(done, saved=bool(self.states))


def _say_preempted(step, workdir):
    what = f"state of step {step} saved in {workdir}" if workdir else "no workdir, nothing saved"
    print(f"SIGTERM while training: {what}; exit status {PREEMPTED}", file=sys.stderr, flush=True)
