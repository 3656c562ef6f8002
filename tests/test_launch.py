"""Dry runs of the launchers print the commands they would run, and refuse what they cannot do."""

import subprocess
import sys

import pytest


def run(root, *args):
    return subprocess.run(["bash", *args], cwd=root, capture_output=True, text=True)


def test_local_dry_run_prints_one_command(root):
    result = run(
        root, "launch/local.sh", "--dry_run", "a/b.log", "study", "--config=configs/x y.py"
    )
    assert (
        result.returncode == 0
        and "nohup" in result.stdout
        and "x\\ y.py" in result.stdout
        and not (root / "a").exists()
    )


def test_local_runs_detached_and_logs(root, tmp_path):
    fake = tmp_path / "amuro"
    fake.write_text(f"#!{sys.executable}\nimport sys; print('ran', sys.argv[1:])\n")
    fake.chmod(0o755)
    log = tmp_path / "deep" / "log"
    script = (
        f"AMURO={fake} launch/local.sh {log} lab --flag && wait; "
        f"for i in $(seq 50); do [ -s {log} ] && break; sleep 0.1; done"
    )
    subprocess.run(["bash", "-c", script], cwd=root, check=True, capture_output=True)
    assert "ran ['lab', '--flag']" in log.read_text()


def test_tpu_dry_run_creates_copies_installs_runs(root):
    result = run(
        root,
        "launch/tpu_vm.sh",
        "--dry_run",
        "n",
        "z",
        "v5litepod-8",
        "train",
        "--config.run.mesh=fsdp:8",
    )
    words = [line.split()[4] for line in result.stdout.splitlines() if line.startswith("gcloud")]
    assert (
        result.returncode == 0 and words == ["create", "scp", "ssh"] and "fsdp:8" in result.stdout
    )


@pytest.mark.parametrize("kind", ["v5litepod-16", "v3-8"])
def test_tpu_refuses_what_one_host_cannot_hold(root, kind):
    result = run(root, "launch/tpu_vm.sh", "--dry_run", "n", "z", kind, "train")
    assert result.returncode == 2 and kind in result.stderr


def test_scoring_runs_on_all_hosts_of_a_slice(root):
    result = run(
        root,
        "launch/tpu_vm.sh",
        "--dry_run",
        "n",
        "z",
        "v5litepod-16",
        "score",
        "--config.run.mesh=data:-1",
    )
    lines = {
        line.split()[4]: line for line in result.stdout.splitlines() if line.startswith("gcloud")
    }
    assert all(
        "--worker=all" in lines[name] for name in ("scp", "ssh")
    ) and "--cluster=auto" in lines["ssh"].replace("\\", "")
    assert "--worker" not in lines["create"]
    assert (
        "--cluster"
        not in run(root, "launch/tpu_vm.sh", "--dry_run", "n", "z", "v6e-8", "score").stdout
    )
