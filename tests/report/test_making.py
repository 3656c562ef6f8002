"""The flags that make a number again are read back as what made it."""

import pytest
from absl import flags
from absl.testing import flagsaver

from amuro_jax.cli import configure
from amuro_jax.config import Dtype, ProtocolName, Recipe, ScoreConfig, Scoring, TrainConfig
from amuro_jax.report import making
from tests.results import made


def read(kind, given):
    """The configuration that a verb makes of flags."""
    if "config" not in flags.FLAGS:
        configure.define_config()
    with flagsaver.flagsaver():
        configure.parse_flags(["amuro", *given])
        return configure.config_from_flags(kind, kind())


@pytest.mark.parametrize(
    "scoring",
    [
        Scoring(),
        Scoring(rows=150, max_new_tokens=24, shot_seed=3),
        Scoring(ProtocolName.PAPER, ("+no_stop", "-no_fitting"), dtype=Dtype.BFLOAT16),
    ],
)
def test_score_flags_are_the_score(scoring):
    record = made.score(task="mnli_matched", format="io", shots=4, scoring=scoring)
    config = read(ScoreConfig, making.score_flags(record, "data"))
    assert config.scoring == scoring and config.data_root == "data"
    assert (config.tasks, config.formats, config.shots) == (("mnli_matched",), ("io",), (4,))


def test_train_flags_are_the_recipe():
    recipe = Recipe(task="paws", rows=None, epochs=2, learning_rate=5e-4, lora_targets=("query",))
    record = made.training()
    record = type(record)(**{**vars(record), "recipe": recipe})
    (found,) = making.train_flags([record]).values()
    assert read(TrainConfig, found).recipe == recipe


def test_an_imported_score_says_where_it_comes_from():
    assert making.key_parts(made.score(imported="table.csv"))["imported from"].startswith(
        "table.csv"
    )
