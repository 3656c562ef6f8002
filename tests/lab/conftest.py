"""One tiny laboratory, built once, for the tests that read it."""

import pytest

from amuro_jax.config import LabConfig, LabModel


def tiny(folder, **changes) -> LabConfig:
    """Every stage in seconds, on any number of devices."""
    model = LabModel(
        hidden_size=16, num_layers=2, num_heads=2, mlp_size=32, vocab_size=400, max_length=512
    )
    sizes = {
        "creatures": 8,
        "corpus_documents": 400,
        "train_rows": 30,
        "test_rows": 12,
        "steps": 12,
        "batch_size": 8,
        "sequence_length": 32,
    }
    return LabConfig(
        **{
            "out": str(folder),
            "model": model,
            **sizes,
            "first_checkpoint": 1,
            "warmup_steps": 2,
            "save_every": 5,
            **changes,
        }
    )


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Folder of a finished tiny laboratory."""
    from amuro_jax.lab.build import build

    out = tmp_path_factory.mktemp("lab") / "built"
    build(tiny(out), say=lambda _: None)
    return out
