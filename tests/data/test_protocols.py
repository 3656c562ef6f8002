"""Names of protocols: from what is stored back to switches, and `each`."""

import pytest

from amuro_jax.data import protocols
from amuro_jax.errors import ConfigError


def test_a_stored_name_says_its_switches():
    for name in ("strict", "paper", "strict+no_stop", "paper-no_fitting"):
        assert protocols.resolve(*protocols.named(name)).name == name
    with pytest.raises(ConfigError, match="unknown quirk '\\+no_stpo'"):
        protocols.named("strict+no_stpo")


def test_each_is_both_protocols_and_every_quirk_of_scoring_both_ways():
    names = protocols.expanded(("each", "strict+no_stop"))
    assert names[:2] == ["strict", "paper"] and len(names) == len(set(names)) == 2 + 2 * 11
    assert {"strict+no_stop", "paper-no_stop"} < set(names)
    assert not any("loss_mean" in name or "warmup" in name for name in names)
