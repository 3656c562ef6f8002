"""The resumable states of a training run, written by orbax in the background and checked when they
are read.
"""

import warnings

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from amuro_jax.checkpoint import CHUNK_BYTES, absolute, named_leaves, placed
from amuro_jax.errors import CheckpointError


class TrainingStates:
    """The newest resumable states of a training run, in one folder; written in the background.

    A state that a kill cut off is never seen. One whose bytes changed on disk is skipped with a
    warning, and the one before it is used.
    """

    def __init__(self, folder, keep: int = 2):
        """`keep`: how many of the newest states stay."""
        self.folder = epath.Path(folder)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, step_prefix="step", cleanup_tmp_directories=True
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "contents": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(
            absolute(folder), options=options, item_handlers=handlers
        )

    def newest(self) -> int | None:
        """Step of the newest state, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, tree) -> None:
        """Writes a state: returns when its arrays are read from the devices."""
        save_args = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree, save_args),
                contents=ocp.args.JsonSave(contents_of(tree)),
            ),
            force=True,
        )

    def restore_newest(self, target, placement=None):
        """(tree, step) of the newest state that holds what was written, None where there is none.

        Newer ones that do not are deleted: the run is about to write their steps again.

        Args:
            target, placement: as in `restore_tree`.

        Raises:
            CheckpointError: the newest state is of another tree than `target`.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                contents = self._read(step, "contents", ocp.args.JsonRestore())
                self._check_same(step, contents, target)
                tree = self._read(
                    step, "state", ocp.args.StandardRestore(placed(target, placement))
                )
                if contents_of(tree) != contents:
                    raise DamagedState("its bytes are not those that were written")
            except DamagedState as fault:
                warnings.warn(
                    f"the state of step {step} in {self.folder} is skipped: {fault}", stacklevel=2
                )
                self._manager.delete(step)
                continue
            return tree, step
        return None

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
