"""Sums over devices, what several processes found as one list, and the verb."""

import json
import os
import socket
import subprocess
import sys

import jax.numpy as jnp

from amuro_jax.doctor import together
from amuro_jax.doctor.finding import Finding


def test_a_sum_over_all_devices_has_a_speed(monkeypatch):
    monkeypatch.setattr(together, "SENT_BYTES", 1 << 16)
    finding = together.collectives()
    assert finding.ok and finding.values["gb_per_s"] > 0 and "8 devices" in finding.text
    wrong = jnp.arange
    monkeypatch.setattr(together.jnp, "arange", lambda *given, **kinds: wrong(*given, **kinds) + 1)
    finding = together.collectives()
    assert not finding.ok and "instead of 36" in finding.text


def test_of_several_processes_only_faults_are_named():
    well, other = Finding("disk", True, "65 GB"), Finding("disk", True, "70 GB")
    full = Finding("disk", False, "1 GB", "make room")
    assert together.merge([[well], [other]]) == [well]
    merged = together.merge([[well], [full], [full]])
    assert [one.text for one in merged] == ["process 1: 1 GB", "process 2: 1 GB"]
    assert not any(one.ok for one in merged)


def test_clocks_are_compared_with_each_other():
    """Each may be near the storage's, and they still be far apart."""

    def merged(*times):
        clocks = [[Finding("clocks", True, "", values={"now": now})] for now in times]
        (found,) = together.merge(clocks)
        return found

    found = merged(1e9 - 50.0, 1e9, 1e9 + 50.0)
    assert not found.ok and found.name == "clocks"
    assert "process 2 is 100.0 s ahead of process 0's" in found.text
    assert merged(1e9 - 5.0, 1e9 + 5.0).ok
    assert "process 1 is 0.0 s behind process 0's" in merged(1e9, 1e9).text


def start(root, *arguments, devices=2):
    """`amuro doctor`, without a network."""
    environment = {**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "amuro_jax", "doctor", "--disk_gb=0.001", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def test_the_verb_ends_with_1_where_something_is_not_ok(root, tmp_path):
    process = start(root, f"--workdir={tmp_path}", "--mesh=data:3")
    out, errors = process.communicate(timeout=120)
    names = ["versions", "devices", "memory", "disk", "collectives", "mesh", "hub", "storage"]
    said = [line[7:].split()[0] for line in out.splitlines() if "to do: " not in line]
    assert said == [*names, "clock", "programs"], errors
    assert process.returncode == 1 and "NOT OK mesh" in out and "to do: use -1" in out
    assert list(tmp_path.iterdir()) == []


def test_two_processes_measure_what_is_between_them(root, tmp_path):
    """The same command on both; the first one prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    both = [
        start(root, "--json", f"--workdir={tmp_path}", f"--cluster={address},2,{number}")
        for number in range(2)
    ]
    (first, errors), (second, _) = (process.communicate(timeout=120) for process in both)
    found = {}
    for one in json.loads(first[first.index("[\n") :]):  # behind lines of Gloo's
        found.setdefault(one["name"], []).append(one)
    assert "{" not in second and len(found["clock"]) == len(found["clocks"]) == 1, errors
    assert abs(found["clocks"][0]["values"]["ahead_seconds"]) < 60  # it is one clock
    assert "4 devices of 2 processes" in found["collectives"][0]["text"]
    not_ok = {name for name, all_of in found.items() for one in all_of if not one["ok"]}
    assert not_ok <= {"versions", "memory"}  # those are this machine's
    assert [process.returncode for process in both] == [int(bool(not_ok))] * 2
