"""Score one model, base or fine-tuned, on some sets, 4 shots, by token probability.

  amuro score --config=configs/score/default.py \\
    --config.checkpoint=allenai/OLMo-1B-hf@step1000-tokens4B \\
    --config.tasks=mnli_matched,paws --config.data_root=path/to/data --config.workdir=work/score

Expect a table with one line per set and format, and in the work folder `cells/<key>/cell.json` and
`rows.parquet`. Classification sets are ranked by label probability, multiple choice by
log-likelihood, the others are generated and compared by ROUGE-L.
"""

from amuro_jax.config import ScoreConfig


def get_config() -> ScoreConfig:
    """The default scoring run."""
    return ScoreConfig()
