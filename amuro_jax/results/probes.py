"""What a study's probes measured of its base models. No jax."""

import pandas as pd

from amuro_jax.config import StudyConfig
from amuro_jax.records import PROBE, PROBED
from amuro_jax.results.store import Store

COLUMNS = ("checkpoint", "step", "tokens", "tuned_on", "steps", *PROBED, "held_out_loss")


def probes_of(store: Store, config: StudyConfig) -> pd.DataFrame:
    """One line per checkpoint and fine-tuning set that was probed as the study asks: COLUMNS. Of
    several probes of a pair (the set's recipe was changed) the newest.
    """
    wanted, lines = config.probe, []
    for record in store.records(PROBE) if wanted.steps else ():
        recipe, metrics = record.recipe, record.metrics
        asked = (wanted.held_out_rows, wanted.lora_rank or recipe.lora_rank)
        rate = wanted.learning_rate or recipe.learning_rate
        if (recipe.held_out_rows, recipe.lora_rank) != asked or recipe.learning_rate != rate:
            continue
        if metrics["steps"] == wanted.steps:
            values = {name: getattr(record.model, name, None) for name in COLUMNS}
            values |= {name: metrics[name] for name in COLUMNS if name in metrics}
            lines.append((record.provenance.created, values))
    lines.sort(key=lambda line: line[0])
    table = pd.DataFrame([values for _, values in lines], columns=list(COLUMNS))
    table = table.drop_duplicates(["checkpoint", "tuned_on"], keep="last")
    return table.sort_values(["tuned_on", "step"], ignore_index=True)
