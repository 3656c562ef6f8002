"""One converted tiny OLMo for the tests that need just some checkpoint."""

import pytest

from amuro_jax import convert


@pytest.fixture(scope="session")
def olmo_hf(tmp_path_factory):
    """An HF folder of a tiny OLMo."""
    from tests.convert import builders

    return builders.save("olmo", tmp_path_factory.mktemp("hf") / "olmo")


@pytest.fixture(scope="session")
def olmo_converted(olmo_hf, tmp_path_factory):
    """The same, converted."""
    return convert.open_checkpoint(olmo_hf, tmp_path_factory.mktemp("cache"))
