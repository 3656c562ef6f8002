"""How programs are laid out on each kind of device."""

import dataclasses

import pytest

from amuro_jax import sharding
from amuro_jax.scoring.strategy import MOST_TOKENS_CPU, VOCAB_CHUNK, choose_strategy
from tests.evals import tiny

LAYERS = 3
CONFIG = dataclasses.replace(tiny.CONFIG, num_layers=LAYERS)


def test_one_cpu_has_unstacked_layers_in_decoding_steps_only():
    alone = choose_strategy(CONFIG, None, "float32")
    assert alone.attention.name == "blocked" and alone.most_tokens == MOST_TOKENS_CPU
    assert alone.stacks == (LAYERS - 1, 1) and alone.step_stacks == (1,) * LAYERS
    assert choose_strategy(CONFIG, None, "float32", "xla").step_stacks == alone.stacks


@pytest.mark.parametrize(
    "text,name,chunk", [("data:8", "blocked", VOCAB_CHUNK), ("tensor:8", "xla", 0)]
)
def test_a_mesh_has_one_layout_and_its_vocabulary_in_one_piece_where_it_is_split(text, name, chunk):
    strategy = choose_strategy(CONFIG, sharding.make_mesh(text), "float32")
    assert strategy.attention.name == name and strategy.vocab_chunk == chunk
    assert strategy.stacks == strategy.step_stacks == (LAYERS - 1, 1)
