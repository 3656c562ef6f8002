"""Shared fixtures. Eight virtual CPU devices, set before jax is imported; no network."""

import os
from pathlib import Path

# Most of the suite's time is compiling: LLVM's optimisations would double it. Tests of the command
# line, of kills and of several processes
# run with XLA's own settings.
FLAGS = ["--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"]
given = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join(
    [given, *(flag for flag in FLAGS if flag.partition("=")[0] not in given)]
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "TPU_SKIP_MDS_QUERY", "1"
)  # the TPU compiler must not look for a metadata server
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data beside the checkout; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("AMURO_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
