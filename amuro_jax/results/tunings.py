"""How a study tunes on each set: rate and number of steps, from its finished trainings. No jax."""

import pandas as pd

from amuro_jax.results.store import Store
from amuro_jax.variants import is_derived

COLUMNS = ["tuned_on", "variant", "learning_rate", "steps"]


def tunings_of(store: Store) -> pd.DataFrame:
    """One line per set and way of tuning all parameters on it at one rate: COLUMNS. Ways whose rate
    or steps differ between checkpoints are left out, and so are adapters and averages.
    """
    lines = [
        (one.model.tuned_on, one.model.variant, one.recipe.learning_rate, one.metrics["steps"])
        for one in store.records("train")
        if one.recipe.lora_rank is None
        and not is_derived(one.model.variant)
        and "steps" in one.metrics
    ]
    table = pd.DataFrame(lines, columns=COLUMNS).drop_duplicates(ignore_index=True)
    return table[~table.duplicated(["tuned_on", "variant"], keep=False)].reset_index(drop=True)
