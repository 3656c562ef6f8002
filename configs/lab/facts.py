"""A laboratory of which is known when each fact entered the corpus, for judging a search for when
something is learned (docs/lab.md).

  amuro lab --config=configs/lab/facts.py --config.out=work/facts/lab

Expect of the last checkpoint on `lab_late_facts`: 0.999 on creatures that entered, chance (0.25) on
those that never do. Five minutes of processor time.
"""

from amuro_jax.config import LabConfig, LabModel, Schedule, Spacing


def get_config() -> LabConfig:
    """200 creatures that enter at known steps and 200 that never do; 28 checkpoints."""
    return LabConfig(
        model=LabModel(hidden_size=64, num_layers=2, num_heads=4, mlp_size=192, vocab_size=2112),
        late_creatures=200,
        corpus_documents=60000,
        batch_size=16,
        learning_rate=5e-3,
        steps=3500,
        checkpoints=28,
        first_checkpoint=800,
        spacing=Spacing.LINEAR,
        schedule=Schedule.ANNEALED,
    )
