"""A checkpoint that is the average of several: a kind of its own, which no folder holds."""

import dataclasses
from collections.abc import Sequence

import jax

from amuro_jax import keys
from amuro_jax.errors import CheckpointError
from amuro_jax.models.derived import average
from amuro_jax.opened import Checkpoint
from amuro_jax.records import Provenance


@dataclasses.dataclass(frozen=True)
class AveragedCheckpoint(Checkpoint):
    """The mean of the parameters of `parts`, in fp32. Folder and provenance are the last part's."""

    parts: tuple[Checkpoint, ...] = ()

    def load_params(self, mesh=None, dtype=None, merge: bool = False) -> dict:
        """The average, sharded onto `mesh`; of parts with adapters that of the products."""
        trees = (part.load_params(mesh, merge=True) for part in self.parts)
        params = average(trees, len(self.parts))
        return params if dtype is None else jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    def provenance(self, data: dict[str, str], run: dict) -> Provenance:
        """That of the last part, with the identities of all."""
        last = super().provenance(data, run)
        parts = {"average_of": [part.identity for part in self.parts]}
        return dataclasses.replace(last, checkpoint=last.checkpoint | parts)


def averaged(parts: Sequence[Checkpoint]) -> Checkpoint:
    """The average of checkpoints; of one the checkpoint itself.

    Raises:
        CheckpointError: models of two shapes, or with two tokenizers.
    """
    first, last = parts[0], parts[-1]
    for part in parts:
        for what, one, other in (
            ("model.json", first.config, part.config),
            ("tokenizer", first.tokenizer.fingerprint, part.tokenizer.fingerprint),
        ):
            if one != other:
                raise CheckpointError(
                    f"no average of two different models: {what} is {one} there and {other} here",
                    where=f"{first.folder}, {part.folder}",
                    hint="average checkpoints of one series",
                )
    if len(parts) == 1:
        return last
    identity = keys.average_key([part.identity for part in parts])
    return AveragedCheckpoint(
        last.folder, identity, last.config, last.tokenizer, last.source, tuple(parts)
    )
