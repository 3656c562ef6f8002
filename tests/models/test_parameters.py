"""One declaration gives names, shapes, axes and counts."""

import jax
import pytest

from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig
from amuro_jax.models.parameters import (
    abstract_params,
    flatten,
    init_params,
    logical_axes,
    unflatten,
)
from tests.models.test_layout import CONFIGS


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.family)
def test_axes_shapes_and_values_agree(config):
    shapes, axes, values = (
        flatten(abstract_params(config)),
        flatten(logical_axes(config)),
        flatten(init_params(config, 0)),
    )
    assert shapes.keys() == axes.keys() == values.keys()
    for name, leaf in shapes.items():
        assert len(axes[name]) == leaf.ndim and values[name].shape == leaf.shape
        assert name.startswith("layers/") == (axes[name][0] == "layers")
    assert sum(leaf.size for leaf in shapes.values()) == config.num_parameters


def test_olmo_1b_has_its_published_size():
    config = ModelConfig("olmo", 50304, 2048, 16, 16, 16, 128, 8192, 2048)
    assert (
        config.num_parameters
        == sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))
        == 1_176_764_416
    )


def test_flat_names_round_trip():
    tree = abstract_params(CONFIGS[0])
    assert unflatten(flatten(tree)) == tree and "layers/attention/query/kernel" in flatten(tree)


def test_config_round_trips_through_json():
    for config in CONFIGS:
        assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "change",
    [{"num_kv_heads": 3}, {"sliding_layers": (True,)}, {"sliding_layers": (True, False, True)}],
    ids=["heads", "layer count", "no window"],
)
def test_impossible_configs_are_refused(change):
    with pytest.raises(CheckpointError):
        ModelConfig.from_json({**CONFIGS[0].to_json(), **change})


def test_unknown_config_field_is_refused():
    with pytest.raises(CheckpointError, match="not a model configuration"):
        ModelConfig.from_json({**CONFIGS[0].to_json(), "surprise": 1})
