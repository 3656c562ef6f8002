"""Publishes a checkpoint as a Hugging Face folder with the exporter that `amuro export` uses."""

from etils import epath

from amuro_jax import checkpoint, files
from amuro_jax.convert.exporter import export
from amuro_jax.models.config import ModelConfig

RECORD = "training.json"  # beside the weights: step, tokens, held-out loss


def publish(out, name: str, params: dict, model: ModelConfig, record: dict) -> None:
    """Writes `out`/checkpoints/`name`: config, weights, tokenizer, and the record of the training
    so far; complete or absent.
    """
    out = epath.Path(out)
    scratch = out / "pretraining" / "converted"
    checkpoint.save_model(
        scratch,
        params,
        model,
        out / "tokenizer",
        {"source": "amuro lab", "revision": name, **record},
    )
    with files.atomic_folder(out / "checkpoints" / name) as folder:
        export(scratch, folder)
        files.write_json(folder / RECORD, record)
    checkpoint.remove(scratch)


def read_record(folder) -> dict:
    """What `publish` recorded beside a checkpoint."""
    return files.read_json(epath.Path(folder) / RECORD)
