"""libtpu, which the test extra installs, is quiet on a machine without a TPU."""

import os
import subprocess
import sys

import pytest

from amuro_jax.cli import main
from amuro_jax.libtpu import GOOGLE, NO_TPU, quiet_without_tpu

# A profile is what ends a process in which libtpu was tried in vain.
DEVICES = """
import tempfile, jax
print(jax.devices()[0].platform)
with tempfile.TemporaryDirectory() as folder, jax.profiler.trace(folder):
    pass
"""


def machine(folder, vendor=None, device=None):
    """A root folder of a machine with one PCI device and one file under dev/."""
    if vendor:
        (folder / "sys/bus/pci/devices/0").mkdir(parents=True)
        (folder / "sys/bus/pci/devices/0/vendor").write_text(f"{vendor}\n")
    if device:
        (folder / "dev" / device).parent.mkdir(parents=True)
        (folder / "dev" / device).touch()
    return str(folder)


@pytest.mark.parametrize(
    "environment,parts,quiet",
    [
        ({}, {}, True),
        ({"JAX_PLATFORMS": "cuda,cpu"}, {"vendor": "0x10de"}, True),
        ({}, {"vendor": GOOGLE}, False),
        ({}, {"device": "accel0"}, False),
        ({}, {"device": "vfio/0"}, False),
        ({"JAX_PLATFORMS": "tpu,cpu"}, {}, False),
        ({"JAX_FORCE_TPU_INIT": "1"}, {}, False),
    ],
)
def test_only_a_machine_without_a_tpu_is_changed(environment, parts, quiet, tmp_path):
    changed = dict(environment)
    quiet_without_tpu(changed, machine(tmp_path, **parts), find={}.get)
    assert changed == (environment | NO_TPU if quiet else environment)


@pytest.mark.parametrize(
    "installed,platforms",
    [(["libtpu"], "cpu"), ([], None), (["libtpu", "jax_plugins"], None)],
)
def test_platforms_where_libtpu_is_the_only_plugin(installed, platforms, tmp_path):
    changed = {}
    quiet_without_tpu(changed, machine(tmp_path), dict.fromkeys(installed, "a spec").get)
    assert changed.get("JAX_PLATFORMS") == platforms


def test_what_is_set_stays(tmp_path):
    changed = {"TPU_WORKER_HOSTNAMES": "one,two"}
    quiet_without_tpu(changed, machine(tmp_path))
    assert changed["TPU_WORKER_HOSTNAMES"] == "one,two"


def test_the_command_line_says_nothing_of_tpus(root, monkeypatch):
    """A verb in this process sets the environment; a new one finds devices in it without a word."""
    for name in (*NO_TPU, "JAX_PLATFORMS", "XLA_FLAGS"):
        monkeypatch.setenv(name, "")  # so that it is what it was after the test
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main.run(["amuro", "tasks", "--help"])
    done = subprocess.run(
        [sys.executable, "-c", DEVICES],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ},
    )
    assert done.returncode == 0 and "tpu" not in done.stderr.lower(), done.stderr
