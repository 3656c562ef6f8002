"""Shared fixtures. Eight virtual CPU devices, set before jax is imported; no network."""

import atexit
import gc
import importlib.metadata
import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

# Most of the suite's time is compiling: LLVM's optimisations would double it, and the emitters of
# fused loops, which make an MLIR context for each, would triple it. Tests of the command line and
# of several processes run with XLA's own settings.
# jaxlib 0.11 has no such flag, and ends a process that sets it.
KNOWN = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11)
NO_EMITTERS = "--xla_cpu_use_fusion_emitters=false" if KNOWN else ""
QUICK = ["--xla_backend_optimization_level=0", *filter(None, [NO_EMITTERS])]
FLAGS = ["--xla_force_host_platform_device_count=8", *QUICK]
given = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join(
    [given, *(flag for flag in FLAGS if flag.partition("=")[0] not in given)]
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "TPU_SKIP_MDS_QUERY", "1"
)  # the TPU compiler must not look for a metadata server
# Without chips, two processes that compile for TPUs share nothing that they must not.
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Conversions of the tests are no part of the user's cache, nor found there.
if "AMURO_CACHE" not in os.environ:  # the first process of the run
    os.environ["AMURO_CACHE"] = tempfile.mkdtemp(prefix="amuro-tests-")
    atexit.register(shutil.rmtree, os.environ["AMURO_CACHE"], ignore_errors=True)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Many tests compile the same program; those of a run share what took long, across its processes.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.environ["AMURO_CACHE"] + "/programs")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]

# Beginnings of the reasons for which a test may be skipped under `--strict-skips` (`make test`).
# A package that is missing is none of them: `make test` installs what its tests need.
ALLOWED_SKIPS = (
    "no real data at",  # the folder of the `shared` fixture
    "no published tables at",  # a part of that folder
    "no browser on this machine",  # the page is made and checked without one too
    "no TPU compiler",  # libtpu is installed, but does not run on this machine
)


def pytest_addoption(parser):
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail if a test is skipped for a reason that is not in ALLOWED_SKIPS",
    )


def pytest_collection_modifyitems(items):
    """Tests that use the folder of real data get the marker `real_data`, those of modules that
    import torch `torch`.
    """
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("real_data")
        if hasattr(getattr(item, "module", None), "torch"):
            item.add_marker("torch")


def pytest_collection_finish():
    """The CPU's backend reads XLA_FLAGS, once. The TPU compiler, which a test may load later, reads
    them too, and ends the process for a flag that it does not know.

    The collector of garbage need not go through all that was imported, again and again.
    """
    if "jax" in sys.modules:
        sys.modules["jax"].devices()
    os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace(NO_EMITTERS, "").strip()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def refused_skips(config) -> list[str]:
    """`file:line: reason` of each skip that is not allowed; empty without `--strict-skips`."""
    if not config.getoption("--strict-skips"):
        return []
    reports = config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", ())
    refused = set()
    for report in reports:
        if hasattr(report, "wasxfail"):
            continue
        path, line, reason = report.longrepr
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED_SKIPS):
            refused.add(f"{path}:{line}: {reason}")
    return sorted(refused)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    # Under pytest-xdist the workers' reports, of skipped modules too, arrive at the controller.
    if not hasattr(session.config, "workerinput") and refused_skips(session.config):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    for line in refused_skips(config):
        terminalreporter.write_line(f"SKIP NOT ALLOWED {line}", red=True)


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


@pytest.fixture(params=["folder", "objects"])
def storage_url(request, tmp_path):
    """Where a test may keep things: a folder on the disk, then an object store that can neither
    rename nor append.
    """
    if request.param == "folder":
        return str(tmp_path / "kept")
    from tests import object_store

    object_store.register()
    return f"{object_store.SCHEME}://bucket/{uuid.uuid4().hex}"
