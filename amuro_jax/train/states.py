"""The resumable states of a training run, written by orbax in the background and checked when they
are read.
"""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from amuro_jax import processes
from amuro_jax.checkpoint import CHUNK_BYTES, absolute, named_leaves, placed
from amuro_jax.errors import CheckpointError


class TrainingStates:
    """The newest resumable states of a training run, in one folder; written in the background.

    A state that a kill cut off is never seen. One whose bytes changed on disk is skipped with a
    warning, and the one before it is used.
    """

    def __init__(self, folder, keep: int = 2, more_is_better: bool | None = None):
        """
        Args:
            keep: how many of the newest states stay.
            more_is_better: the one with the best value stays too; None: states have none.
        """
        self.folder = epath.Path(folder)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, step_prefix="step", cleanup_tmp_directories=True
        )
        if more_is_better is not None:
            policies = ocp.checkpoint_managers
            best = policies.BestN(get_metric_fn=_value_of, reverse=not more_is_better, n=1)
            options = ocp.CheckpointManagerOptions(
                step_prefix="step",
                cleanup_tmp_directories=True,
                best_fn=_value_of,
                best_mode="max" if more_is_better else "min",
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "contents": ocp.JsonCheckpointHandler(),
            "progress": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(
            absolute(folder), options=options, item_handlers=handlers
        )

    def newest(self) -> int | None:
        """Step of the newest state, None where there is none."""
        return self._manager.latest_step()

    def save(
        self, step: int, tree, progress: dict | None = None, value: float | None = None
    ) -> None:
        """Writes a state: returns when its arrays are read from the devices.

        Args:
            progress: plain values that belong to it.
            value: by which it may be the best.
        """
        save_args = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree, save_args),
                contents=ocp.args.JsonSave(contents_of(tree)),
                progress=ocp.args.JsonSave(progress or {}),
            ),
            metrics=None if value is None else {"value": value},
            force=True,
        )

    def restore_best(self, target, placement=None) -> "tuple[SavedState, float] | None":
        """The state with the best value, and that value; None where it is damaged, or none is."""
        self.wait()
        step = processes.decide(-1 if (best := self._manager.best_step()) is None else best)
        if step < 0:
            return None
        saved, fault = self._restore(step, target, placement)
        if not processes.everywhere(fault is None) or contents_of(saved.tree) != saved.contents:
            return None
        return saved, _value_of(self._manager.metrics(step))

    def restore_newest(self, target, placement=None) -> "SavedState | None":
        """The newest state that holds what was written, None where there is none.

        Newer ones that do not are deleted: the run is about to write their steps again. Of several
        processes the first one says which states there are, and a state is good where it is so on
        all.

        Args:
            target, placement: as in `checkpoint.restore_tree`.

        Raises:
            CheckpointError: the newest state is of another tree than `target`.
        """
        tried = None
        while True:
            older = [s for s in self._manager.all_steps() if tried is None or s < tried]
            tried = processes.decide(max(older, default=-1))
            if tried < 0:
                return None
            saved, fault = self._restore(tried, target, placement)
            if processes.everywhere(fault is None):
                if contents_of(saved.tree) == saved.contents:
                    return saved
                fault = "its bytes are not those that were written"
            fault = fault or "another process cannot read it"
            warnings.warn(
                f"the state of step {tried} in {self.folder} is skipped: {fault}", stacklevel=2
            )
            self._manager.delete(tried)

    def _restore(self, step, target, placement):
        """(state, None), or (None, what is wrong with it)."""
        try:
            contents = self._read(step, "contents", ocp.args.JsonRestore())
            self._check_same(step, contents, target)
            arguments = ocp.args.StandardRestore(placed(target, placement))
            tree = self._read(step, "state", arguments)
            progress = self._read(step, "progress", ocp.args.JsonRestore())
            return SavedState(tree, step, progress, contents), None
        except DamagedState as fault:
            return None, fault

    def _read(self, step, item, arguments):
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: arguments}))[item]
        except Exception as error:  # orbax raises bare exceptions for what tensorstore cannot read
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DamagedState(f"it cannot be read ({first})") from error

    def _check_same(self, step, contents, target):
        for name, leaf in named_leaves(target).items():
            stored, mine = contents.get(name, [])[:2], [list(leaf.shape), str(leaf.dtype)]
            if stored != mine:
                raise CheckpointError(
                    f"{name}: the run has {mine}, the state of step {step} has {stored or 'none'}",
                    where=self.folder,
                    hint="the folder holds another run; choose another workdir",
                )

    def wait(self) -> None:
        """Returns when all states are on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the states that are being written."""
        self._manager.close()


@dataclasses.dataclass(frozen=True)
class SavedState:
    """A state as it was saved.

    Attributes:
        tree: its arrays.
        step: number of steps done.
        progress: plain values that belong to it.
        contents: name → [shape, dtype, digest] of each array, as they were written.
    """

    tree: object
    step: int
    progress: dict
    contents: dict


def _value_of(metrics):
    return metrics["value"]


class DamagedState(Exception):
    """A state on disk that is not what was written; never leaves this module."""


def contents_of(tree) -> dict[str, list]:
    """Name → [shape, dtype, digest] of each array."""
    named = named_leaves(tree)
    digests = jax.device_get(_digests(list(named.values())))
    return {
        name: [list(leaf.shape), str(leaf.dtype), int(digest)]
        for (name, leaf), digest in zip(named.items(), digests, strict=True)
    }


@jax.jit
def _digests(leaves):
    """uint32 of each array: the sum of its words, each times an odd number that depends on its
    position.

    Computed where the array lies, exactly, on any mesh; a change within one word always shows,
    since a number that is not 0 stays so under a product with an odd one (modulo 2 ** 32).
    """

    def digest(leaf):
        size = leaf.dtype.itemsize * 8
        words = jax.lax.bitcast_convert_type(leaf, f"uint{size}").astype(jnp.uint32)
        position = jnp.zeros(leaf.shape, jnp.uint32)
        for axis, count in enumerate(leaf.shape):
            position = position * jnp.uint32(count) + jax.lax.broadcasted_iota(
                jnp.uint32, leaf.shape, axis
            )
        return jnp.sum(words * (2 * position + 1), dtype=jnp.uint32)

    return [digest(leaf) for leaf in leaves]
