"""Trainings that differ by their learning rate alone, among which one was chosen. No jax."""

import pandas as pd

from amuro_jax.config import StudyConfig, to_dict
from amuro_jax.results.store import Store
from amuro_jax.variants import average_of

COLUMNS = ["checkpoint", "step", "tuned_on", "seed", "lora_rank", "learning_rate", "held_out_loss"]


def rates_of(store: Store, config: StudyConfig) -> pd.DataFrame:
    """One line per training of a study whose sets name `learning_rates`: COLUMNS, `candidate`
    (whether the rate is one of these) and `best` (whether it was chosen).
    """
    chosen = {
        entry.task: entry.learning_rates for entry in config.fine_tunes if entry.learning_rates
    }
    lines, recipes = [], []
    for record in store.records("train") if chosen else ():
        recipe, model = to_dict(record.recipe), record.model
        if recipe["task"] not in chosen or "held_out_loss" not in record.metrics:
            continue
        if average_of(model.variant):  # it starts from another model
            continue
        lines.append({name: getattr(model, name, None) for name in COLUMNS})
        lines[-1] |= {name: recipe[name] for name in ("seed", "lora_rank", "learning_rate")}
        lines[-1]["held_out_loss"] = record.metrics["held_out_loss"]
        lines[-1]["candidate"] = recipe.pop("learning_rate") in chosen[recipe["task"]]
        recipes.append(f"{model.checkpoint} {model.tuned_on} {sorted(recipe.items())}")
    table = pd.DataFrame(lines, columns=[*COLUMNS, "candidate"])
    among = table["held_out_loss"].where(table["candidate"].astype(bool))
    table["best"] = among.notna() & (
        among == among.groupby(pd.Series(recipes, dtype=str)).transform("min")
    )
    order = ["tuned_on", "step", "seed", "learning_rate"]
    return table.sort_values(order, ignore_index=True)
