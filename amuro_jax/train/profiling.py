"""A trace of some steps, for TensorBoard's profiler or Perfetto."""

import tempfile

import jax

from amuro_jax.config.checks import profile_steps
from amuro_jax.storage import Storage

FOLDER = "profile"


class Profile:
    """Traces the steps of a run into `<workdir>/profile`. Each process writes its own files."""

    def __init__(self, steps: str | None, workdir):
        """`steps`: as `config.profile_steps` reads them; None, or no workdir: no trace."""
        self._storage, self._scratch = None, None
        if steps and workdir:
            self._first, self._last = profile_steps(steps, "profile")
            self._storage = Storage.open(workdir).child(FOLDER)

    def before(self, step: int) -> None:
        """Step `step` is about to be dispatched."""
        if self._storage is None or step != self._first:
            return
        if not self._storage.local:
            self._scratch = tempfile.TemporaryDirectory()
        jax.profiler.start_trace(self._scratch.name if self._scratch else str(self._storage))

    def after(self, step: int, state, is_last: bool) -> None:
        """Step `step` was dispatched; `state` is its result."""
        if self._storage is None or not (step == self._last or (is_last and step >= self._first)):
            return
        jax.block_until_ready(state)
        jax.profiler.stop_trace()
        if self._scratch:
            self._storage.upload(self._scratch.name)
            self._scratch.cleanup()
        self._storage = None
