"""The table of accelerators: jax's names for its devices find their line."""

import pytest

from amuro_jax.chips import CHIPS, chip_of


@pytest.mark.parametrize(
    "kind,name",
    [
        ("TPU v4", "v4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5e", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v5p", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
    ],
)
def test_a_device_finds_its_chip(kind, name):
    assert chip_of(kind) is CHIPS[name]


def test_a_device_that_is_not_in_the_table():
    assert chip_of("cpu") is None and chip_of("NVIDIA L4") is None
