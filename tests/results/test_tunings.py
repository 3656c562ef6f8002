"""Rate and steps of each way of tuning, from finished trainings."""

import dataclasses

from amuro_jax.results.store import Store
from amuro_jax.results.tunings import COLUMNS, tunings_of
from tests.results.made import training


def test_ways_at_one_rate_are_listed_once(tmp_path):
    store = Store.open(str(tmp_path))

    def add(key, variant, rate, step=1, steps=7, **recipe):
        one = training(key * 16)
        store.commit(
            dataclasses.replace(
                one,
                model=dataclasses.replace(one.model, variant=variant, checkpoint=f"step{step}"),
                recipe=dataclasses.replace(one.recipe, learning_rate=rate, **recipe),
                metrics={"loss": 0.5, "steps": steps},
            )
        )

    assert tunings_of(store).empty and list(tunings_of(store)) == COLUMNS
    add("0", "", 1e-3)
    add("1", "", 1e-3, step=2)
    add("2", "", 1e-3, seed=43)
    add("3", "fast", 1e-2, steps=9)
    add("4", "chosen", 1e-3)  # a rate for each checkpoint
    add("5", "chosen", 2e-3, step=2)
    add("6", "adapter", 1e-3, lora_rank=4)
    add("7", "average of 3", 1e-3)
    lines = tunings_of(store).sort_values("variant").to_dict("records")
    assert lines == [
        dict(zip(COLUMNS, ("lab_nli", "", 1e-3, 7), strict=True)),
        dict(zip(COLUMNS, ("lab_nli", "fast", 1e-2, 9), strict=True)),
    ]
