"""A laboratory for tests: every stage in seconds; its model learns next to nothing.

amuro lab --config=configs/lab/tiny.py --config.out=/tmp/lab
"""

from amuro_jax.config import LabConfig, LabModel


def get_config() -> LabConfig:
    """Two narrow layers, 64 steps, small sets."""
    return LabConfig(
        model=LabModel(
            hidden_size=32, num_layers=2, num_heads=2, mlp_size=64, vocab_size=512, max_length=512
        ),
        creatures=8,
        corpus_documents=1500,
        train_rows=64,
        test_rows=24,
        steps=64,
        first_checkpoint=1,
        batch_size=8,
        sequence_length=64,
        warmup_steps=8,
        save_every=16,
    )
