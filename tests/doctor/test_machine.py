"""What `amuro doctor` says of a machine: packages, devices, mesh, memory, disk."""

import importlib.metadata

import jax
import pytest

from amuro_jax.doctor import machine
from amuro_jax.doctor.finding import look
from amuro_jax.errors import AmuroError, ConfigError


def installed(**versions):
    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    return version


@pytest.mark.parametrize(
    "found,wrong",
    [
        ({"flax": "0.12.9"}, None),
        ({"flax": "0.13.0"}, "flax 0.13.0 is not <0.13,>=0.12.8"),
        ({}, "flax is missing"),
        ({"flax": "0.12.9", "ray": "2.1"}, "ray 2.1 is not >=2.50"),
        # Of every fresh environment of Python 3.11; nobody asked for the extra.
        ({"flax": "0.12.9", "setuptools": "65.5"}, None),
        ({"flax": "0.12.9", "setuptools": "65.5", "pytest": "8"}, "setuptools 65.5 is not >=77"),
    ],
)
def test_versions_outside_the_ranges_are_named(found, wrong):
    ranges = ["flax>=0.12.8,<0.13", 'ray>=2.50; extra == "ray"', 'never; python_version < "3"']
    ranges += ['setuptools>=77; extra == "test"', 'pytest>=8; extra == "test"']
    finding = machine.versions(ranges, installed(jax="1", jaxlib="1", **found))
    assert finding.ok == (wrong is None) and "jax 1" in finding.text
    if wrong:
        assert wrong in finding.text and "pip install" in finding.hint


def test_a_device_that_jax_leaves_alone_is_named(tmp_path):
    assert machine.accelerators(str(tmp_path)) == set()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    shown = machine.accelerators(str(tmp_path))
    finding = machine.device_kinds(shown)
    assert not finding.ok and "amuro_jax[cuda]" in finding.hint
    finding = machine.device_kinds(set())
    assert finding.ok and finding.values["count"] == jax.device_count()


def test_a_mesh_has_to_fit():
    assert machine.mesh("data:-1,tensor:2").text == "data:4,fsdp:1,tensor:2"
    with pytest.raises(ConfigError, match="does not fill 8 devices"):
        machine.mesh("data:3")


def test_memory_and_disk_have_least_sizes(tmp_path):
    assert machine.memory(0.001).ok and not machine.memory(1e6).ok
    folders = {"workdir": tmp_path / "not/yet/there"}
    assert machine.disk(folders, 0.001).ok
    finding = machine.disk(folders, 1e9)
    assert not finding.ok and "workdir" in finding.hint


def test_a_fault_is_a_finding():
    def fault(error):
        raise error

    finding = look("x", fault, AmuroError("broken", where="there", hint="mend"))
    assert (finding.ok, finding.text, finding.hint) == (False, "broken (there)", "mend")
    finding = look("x", fault, RuntimeError("odd\nfault"))
    assert not finding.ok and finding.text == "RuntimeError: odd fault" and finding.hint
    assert "NOT OK x" in finding.line() and "to do: " in finding.line()
