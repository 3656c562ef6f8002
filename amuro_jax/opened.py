"""An opened checkpoint: where its parameters are, what it is, and its tokenizer."""

import dataclasses
import datetime

import jax
from etils import epath

from amuro_jax import __version__, checkpoint, convert
from amuro_jax.convert import adapters
from amuro_jax.data.tokenizer import Tokenizer, check_eos
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig
from amuro_jax.records import Provenance


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One converted or fine-tuned checkpoint.

    Attributes:
        folder: of the converted parameters.
        identity: content key of what it is, wherever it came from.
        config: of the model.
        tokenizer: of the checkpoint.
        source: its provenance record.
    """

    folder: epath.Path
    identity: str
    config: ModelConfig
    tokenizer: Tokenizer
    source: dict

    def load_params(self, mesh=None, dtype=None, merge: bool = False) -> dict:
        """Parameters, sharded onto `mesh` where there is one; `dtype` None keeps what is stored.

        Those of an adapter are its base's with the adapter beside them, or multiplied out where
        `merge` is set.
        """
        return adapters.load_params(self.folder, self.config, mesh, dtype, merge)

    def provenance(self, data: dict[str, str], run: dict) -> Provenance:
        """The provenance of a number that is computed now from this checkpoint."""
        named = ("source", "revision", "commit", "files")
        return Provenance(
            model=self.identity,
            checkpoint={name: self.source[name] for name in named if self.source.get(name)},
            tokenizer=self.tokenizer.fingerprint,
            data=data,
            code=__version__,
            jax=jax.__version__,
            devices=f"{jax.device_count()} × {jax.devices()[0].device_kind}",
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            run=run,
        )


def open_checkpoint(name, cache_dir=None, **options) -> Checkpoint:
    """Opens a checkpoint by any name: Hub `name[@revision]`, Hugging Face folder, native OLMo
    folder, or a folder that `amuro convert` or `amuro train` wrote; converts it first if needed.

    Args:
        cache_dir: folder of downloads and conversions.
        options: of `convert.open_checkpoint` (offline, token, tokenizer).

    Raises:
        CheckpointError: no such checkpoint, a damaged one, or a tokenizer that does not fit it.
    """
    return read_checkpoint(convert.open_checkpoint(name, cache_dir, **options))


def read_checkpoint(folder) -> Checkpoint:
    """Opens a folder of converted parameters.

    Raises:
        CheckpointError: a damaged folder, or a tokenizer whose end-of-text id is not the model's.
    """
    folder = epath.Path(folder)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    if warning := check_eos(tokenizer, where=folder):
        hint = (
            "a model trained on it would never stop: fix eos_token_id in the checkpoint's "
            "config.json"
        )
        raise CheckpointError(warning, where=folder, hint=hint)
    return Checkpoint(
        folder,
        checkpoint.read_identity(folder).key,
        checkpoint.read_config(folder),
        tokenizer,
        checkpoint.read_provenance(folder),
    )
