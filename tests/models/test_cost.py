"""FLOPs of a model by its architecture."""

from amuro_jax.models.config import ModelConfig
from amuro_jax.models.cost import Amount, causal_row, forward_flops, training_flops
from amuro_jax.models.parameters import abstract_params, flatten

CONFIG = ModelConfig("olmo", 64, 32, 2, 4, 4, 8, 48, 64)


def test_products_are_two_for_each_weight():
    kernels = [leaf for name, leaf in flatten(abstract_params(CONFIG)).items() if "kernel" in name]
    assert forward_flops(CONFIG, Amount(5, 0, 0)) == 2 * 5 * sum(leaf.size for leaf in kernels)
    assert forward_flops(CONFIG, Amount(0, 0, 3)) == 2 * 3 * 64 * 32


def test_a_token_attends_to_itself_and_those_before_it():
    row = causal_row(10, 2)
    assert row.pairs == sum(range(1, 11))
    # scores and their mixture: two products of each pair's channels, in each layer
    assert forward_flops(CONFIG, Amount(0, row.pairs, 0)) == 2 * 2 * 2 * 32 * 55


def test_frozen_weights_need_no_gradient():
    row = causal_row(10, 2)
    attention = forward_flops(CONFIG, Amount(0, row.pairs, 0))
    assert training_flops(CONFIG, row) == 3 * forward_flops(CONFIG, row)
    products = forward_flops(CONFIG, row) - attention
    assert training_flops(CONFIG, row, adapter=True) == 2 * products + 3 * attention
