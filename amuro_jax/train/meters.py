"""What is measured around the steps of a run: metrics one step late, progress, the check of every
loss.
"""

import contextlib
import dataclasses
import time

import jax
import numpy as np
from absl import logging

from amuro_jax import processes
from amuro_jax.chips import chip_of
from amuro_jax.errors import TrainingError
from amuro_jax.logs import MetricsWriter, memory_in_use, progress_bar
from amuro_jax.models.cost import Amount, training_flops
from amuro_jax.storage import Storage


@dataclasses.dataclass(frozen=True)
class Logging:
    """What a run tells of itself.

    Attributes:
        every: steps between lines of metrics.
        wandb: project of Weights & Biases that gets them too.
        profile: steps that are traced, `"10:12"` or `"10"` (see `config.checks.profile_steps`).
    """

    every: int = 10
    wandb: str | None = None
    profile: str | None = None


class Late:
    """Metrics of a step are read after the next one is dispatched, so that the device never waits.

    Subclasses have `_read(number, metrics as numbers, part)`.
    """

    pending = None

    def queue(self, number, metrics, part, waited=0.0):
        """Takes the metrics of step `number`, and reads those of the step before.

        Args:
            part: the step's `batches.Part`.
            waited: seconds for which the loop waited for it.
        """
        before, self.pending = self.pending, (number, metrics, part, waited)
        if before:
            self._read(before[0], jax.device_get(before[1]), *before[2:])

    def flush(self):
        """Waits for the last step's metrics and reads them."""
        before, self.pending = self.pending, None
        if before:
            self._read(before[0], jax.device_get(before[1]), *before[2:])


class Meter(Late):
    """The metrics of one run. Only the first process of several writes and shows them.

    Attributes:
        tokens: real tokens of the run so far, those before a restart too.
        loss, values: loss and all metrics of the newest step that was read.
    """

    def __init__(self, run, states, start, progress, workdir, log, on_log, description, name=None):
        """
        Args:
            run: (batches, schedule, step).
            log: a `Logging`.
            progress: what `progress()` gave when the state was saved that the run goes on from.
        """
        (self.batches, self.schedule, self.step), self.states = run, states
        self.log_every, self.on_log, self.name = log.every, on_log, name
        writes = processes.is_writer()
        self.writer = None
        if workdir and writes:
            self.writer = MetricsWriter(workdir, start, wandb=log.wandb)
        self.bar = None
        if description and writes:
            self.bar = progress_bar(
                self.batches.total, description, initial=start, leave=workdir is not None
            )
        self.loss = progress.get("loss", float("nan"))
        self.tokens, self.began = progress.get("tokens", 0), time.perf_counter()
        self._restart_line()

    def _restart_line(self):
        """A line of metrics begins: what is summed over its steps."""
        self._line_began, self._line_size = time.perf_counter(), 0
        self._line_amount, self._line_waited = Amount(0, 0, 0), 0.0

    def progress(self) -> dict:
        """What a saved state keeps of this: for `Meter(progress=...)`."""
        return {"tokens": self.tokens, "loss": self.loss}

    def _read(self, number, metrics, part, waited):
        values = {name: float(value) for name, value in metrics.items()}
        self._check(number, values)
        self.values = dict(values)
        self.loss = values["loss"]
        self.tokens += part.amount.tokens
        self._line_amount += part.amount
        self._line_size += part.size
        self._line_waited += waited
        if self.bar is not None:
            self.bar.update(1)
        if number % self.log_every and number != self.batches.total:
            return
        values |= self._derived(number)
        if self.bar is not None:
            speed = values["tokens_per_second"]
            self.bar.set_postfix_str(f"loss {self.loss:.3f}, {speed:,.0f} tokens/s")
        if self.writer:
            self.writer.write(number, **values)
        if self.on_log:
            self.on_log(number, values)
        self._restart_line()

    def _derived(self, number):
        seconds = time.perf_counter() - self._line_began
        return {
            "learning_rate": float(self.schedule(number - 1)),
            "epoch": number / self.batches.per_epoch,
            "padding": 1 - self._line_amount.tokens / self._line_size,
            "tokens": self.tokens,
            "tokens_per_second": self._line_amount.tokens / seconds,
            "data_wait": self._line_waited / seconds,
            **self._arithmetic(seconds),
            **memory_in_use(),
        }

    def _arithmetic(self, seconds):
        """FLOP/s of the model (models/cost.py), and their share of the datasheet's bf16 figure
        (chips.py) of all devices, where the chip is in the table.
        """
        flops = training_flops(self.step.config, self._line_amount, self.step.trainable.has_frozen)
        values = {"model_flops_per_second": flops / seconds}
        devices = jax.devices() if self.step.mesh is None else list(self.step.mesh.devices.flat)
        count = 1 if self.step.mesh is None else len(devices)
        if chip := chip_of(devices[0].device_kind):
            values["mfu"] = flops / seconds / (count * chip.flops)
        return values

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

    def close(self):
        """Closes files and bar."""
        if self.bar is not None:
            self.bar.close()
        if self.writer:
            self.writer.close()


class GroupMeter(Late):
    """The meters of a stacked step: each member reads its own numbers, and fails alone."""

    def __init__(self, meters: dict[str, Meter]):
        self.meters, self.failures = meters, {}

    @classmethod
    @contextlib.contextmanager
    def of(cls, names, schedules, run, states, start, progress, workdir, log, description):
        """The meters of these members, closed at the end; the first one shows the progress.

        Args:
            run: (batches, step).
        """
        (batches, step), shown = run, f"{description} × {len(names)}"
        with contextlib.ExitStack() as stack:
            meters = {}
            for name, schedule in zip(names, schedules, strict=True):
                folder = Storage.open(workdir).child(name) if workdir else None
                own = (batches, schedule, step)
                meters[name] = Meter(
                    own, states, start, progress.get(name, {}), folder, log, None, shown, name
                )
                shown = None
                stack.enter_context(contextlib.closing(meters[name]))
            yield cls(meters)

    def progress(self) -> dict:
        """Of each member."""
        return {name: meter.progress() for name, meter in self.meters.items()}

    def _read(self, number, metrics, part, waited):
        for index, (name, meter) in enumerate(self.meters.items()):
            if name in self.failures:
                continue
            own = {key: value[index] for key, value in metrics.items()}
            try:
                meter._read(number, own, part, waited)
            except TrainingError as error:
                self.failures[name] = error
                logging.warning("%s is given up, the others go on: %s", name, error)
        if len(self.failures) == len(self.meters):
            raise next(iter(self.failures.values()))

    def flush(self):
        """Of the group and of each member."""
        super().flush()
        for meter in self.meters.values():
            meter.flush()
