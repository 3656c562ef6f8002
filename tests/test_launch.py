"""The launchers: shellcheck finds nothing, dry runs print the commands, and what they do in the end
they do with stand-ins for gcloud and Slurm, which note how they are called.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
SCRIPTS = sorted(
    path for path in LAUNCH.rglob("*") if path.suffix in (".sh", ".sbatch", ".example")
)
SLICE = {"TPU_NAME": "n", "TPU_ZONE": "z", "TPU_TYPE": "v5litepod-16", "TMPDIR": "/tmp"}


def run(script, *arguments, path=None, **variables):
    """A launcher's run; `path` is a folder of commands that are found first."""
    kept = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    if path is not None:
        kept["PATH"] = f"{path}{os.pathsep}{kept['PATH']}"
    command = ["bash", str(LAUNCH / script), *arguments]
    return subprocess.run(command, env=kept | variables, capture_output=True, text=True)


def commands(result) -> list[list[str]]:
    """Words of each command that a dry run printed."""
    assert result.returncode == 0, result.stderr
    return [shlex.split(line, comments=True) for line in result.stdout.splitlines()]


def put(folder, name, text):
    """An executable of this name; returns its folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return folder


def test_shellcheck_finds_nothing():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    command = [shellcheck, "-x", "--shell=bash", *SCRIPTS]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert len(SCRIPTS) >= 8


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_lines_fit(script):
    assert [line for line in script.read_text().splitlines() if len(line) > 100] == []


def test_the_image_copies_what_is_there_and_runs_as_a_user(root):
    """Each target installs the wheel with an extra of its name; docker itself is not needed."""
    _, *stages = re.split(r"^FROM ", (LAUNCH / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages = {re.match(r"\S+ AS (\w+)", stage)[1]: stage for stage in stages}
    assert list(stages) == ["wheel", "base", "cpu", "cuda", "tpu"]
    for name in ("cpu", "cuda", "tpu"):
        lines = stages[name].splitlines()
        assert f"[{name},${{EXTRAS}}]" in lines[1]
        assert lines.index("USER amuro") < lines.index('ENTRYPOINT ["amuro"]')
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", "\n".join(stages.values()), re.MULTILINE):
        assert all((root / source).exists() for source in line.split())


class TestImageSteps:
    """launch/image_steps.sh"""

    def test_it_builds_from_what_the_image_copies(self, tmp_path):
        """Every source of the Dockerfile's wheel stage, then a wheel, then its extras."""
        run_it = ("image_steps.sh", "--dry_run", str(tmp_path / "new"), "tpu")
        lines = commands(run(*run_it, EXTRAS="gcs,ray", PYTHON="python3.12"))
        copied = {Path(words[2]).name for words in lines if words[0] == "cp"}
        assert {"setup.py", "README.md", "configs", "amuro_jax"} <= copied
        assert any(words[:3] == ["python3.12", "-m", "venv"] for words in lines)
        assert lines[-1][-1].endswith(".whl[tpu,gcs,ray]") and "-c" in lines[-1]
        assert not (tmp_path / "new").exists()

    def test_a_folder_that_is_there_or_an_unknown_target_is_refused(self, tmp_path):
        result = run("image_steps.sh", str(tmp_path))
        assert result.returncode == 2 and "is there already" in result.stderr
        assert run("image_steps.sh", str(tmp_path / "new"), "gpu").returncode == 2


class TestLocal:
    """launch/local.sh"""

    def test_a_dry_run_prints_one_command(self, tmp_path):
        log = tmp_path / "a/b.log"
        result = run("local.sh", "--dry_run", str(log), "study", "--config=configs/x y.py")
        (words,) = commands(result)
        assert words[0] == "nohup" and words[2:4] == ["study", "--config=configs/x y.py"]
        assert words[-3:] == [f">>{log}", "2>&1", "&"] and not log.parent.exists()

    def test_processes_meet_each_with_its_devices(self):
        made = {"PROCESSES": "2", "DEVICES": "4", "PORT": "9", "AMURO": "amuro"}
        lines = commands(run("local.sh", "--dry_run", "log", "train", "--a", **made))
        devices = "XLA_FLAGS=--xla_force_host_platform_device_count=4"
        for number, words in enumerate(lines):
            start = ["nohup", "env", "JAX_PLATFORMS=cpu", devices, "amuro", "train", "--a"]
            cluster = f"--cluster=127.0.0.1:9,2,{number}"
            assert words == [*start, cluster, f">>log.{number}", "2>&1", "&"]
        assert len(lines) == 2

    def test_processes_of_a_study_take_a_checkpoint_each(self):
        lines = commands(run("local.sh", "--dry_run", "log", "study", PROCESSES="3"))
        assert len(lines) == 3 and not any("--cluster" in " ".join(words) for words in lines)

    def test_it_runs_detached_and_logs(self, tmp_path):
        amuro = '#!/bin/sh\necho ran "$@"\n'
        fake = put(tmp_path / "bin", "amuro", amuro) / "amuro"
        log = tmp_path / "deep/log"
        script = (
            f"AMURO={fake} {LAUNCH}/local.sh {log} lab --flag && "
            f"for i in $(seq 50); do [ -s {log} ] && break; sleep 0.1; done"
        )
        subprocess.run(["bash", "-c", script], check=True, capture_output=True)
        assert "ran lab --flag" in log.read_text()


class TestTpuVm:
    """launch/tpu_vm.sh"""

    def test_create(self):
        (words,) = commands(run("tpu_vm.sh", "--dry_run", "create", **SLICE))
        made = ["--zone=z", "--accelerator-type=v5litepod-16", "--version=v2-alpha-tpuv5-lite"]
        assert words == ["gcloud", "compute", "tpus", "tpu-vm", "create", "n", *made]
        (words,) = commands(
            run("tpu_vm.sh", "--dry_run", "create", **SLICE, PROJECT="p", TPU_SPOT="1")
        )
        assert "--project=p" in words and words[-1] == "--spot"

    def test_setup_copies_to_every_host_and_installs(self):
        archive, copy, install = commands(run("tpu_vm.sh", "--dry_run", "setup", **SLICE))
        assert archive[0] == "git" and f"--output={copy[5]}" in archive
        assert "--worker=all" in copy and "--worker=all" in install
        assert "-e '.[tpu,gcs]'" in install[-1]

    @pytest.mark.parametrize("verb", ["train", "study", "score"])
    def test_run_starts_the_verb_on_every_host(self, verb, tmp_path):
        """What the hosts' shell would run is run here, by this machine's."""
        result = run("tpu_vm.sh", "--dry_run", "run", verb, "--a=b c", "--d=e'f", **SLICE)
        (words,) = commands(result)
        assert words[4:6] == ["ssh", "n"] and "--worker=all" in words
        (remote,) = (word for word in words if word.startswith("--command="))
        put(tmp_path / "amuro_jax", "x", "")
        amuro = "#!/bin/sh\nprintf '<%s>' \"$@\"\nexit 143\n"
        (tmp_path / "amuro_jax/.venv/bin").mkdir(parents=True)
        put(tmp_path / "amuro_jax/.venv/bin", "amuro", amuro)
        script = f"{remote.removeprefix('--command=')}\nwait"
        subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
        assert (tmp_path / "amuro.log").read_text() == f"<{verb}><--a=b c><--d=e'f>"
        assert (tmp_path / "amuro.exit").read_text() == "143\n"
        remote = commands(run("tpu_vm.sh", "--dry_run", "status", **SLICE))[1][-1]
        script = ["bash", "-c", remote.removeprefix("--command=")]
        said = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert said.stdout.startswith("amuro: exit 143\n")

    def test_logs_and_delete(self):
        (words,) = commands(run("tpu_vm.sh", "--dry_run", "logs", "3", **SLICE))
        assert "--worker=3" in words and words[-1].startswith("--command=tail")
        (words,) = commands(run("tpu_vm.sh", "--dry_run", "delete", **SLICE))
        assert words[4:] == ["delete", "n", "--zone=z", "--quiet"]

    def test_what_is_missing_or_unknown_is_said(self):
        result = run("tpu_vm.sh", "--dry_run", "create", TPU_NAME="n")
        assert result.returncode == 2 and "TPU_ZONE is not set" in result.stderr
        result = run("tpu_vm.sh", "--dry_run", "create", **SLICE | {"TPU_TYPE": "v1-8"})
        assert result.returncode == 2 and "v1-8" in result.stderr
        result = run("tpu_vm.sh")
        assert result.returncode == 2 and "launch/tpu_vm.sh [--dry_run] create" in result.stderr


# A Cloud of one slice: each look at the request takes the next of `states`, each look at the run
# the next of `runs`; it notes what it is told.
GCLOUD = """#!/usr/bin/env python3
import pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with open(here / "called", "a") as log:
    log.write(" ".join(words[2:5] if words[2] == "queued-resources" else words[2:4]) + "\\n")
def following(name):
    first, *rest = (here / name).read_text().split("\\n")
    (here / name).write_text("\\n".join(rest or [first]))
    return first
if words[2:4] == ["queued-resources", "describe"]:
    state = following("states")
    if state == "NONE":
        sys.exit("ERROR: NOT_FOUND")
    print(state)
elif words[3] == "ssh" and "amuro: running" in words[-1]:
    print("amuro: " + following("runs") + "\\nsome line of the log")
"""


def test_a_spot_slice_that_is_taken_away_is_asked_for_again(tmp_path):
    path = put(tmp_path / "bin", "gcloud", GCLOUD)
    states = ["NONE", "WAITING_FOR_RESOURCES", "ACTIVE", "ACTIVE", "SUSPENDED", "NONE", "ACTIVE"]
    (path / "states").write_text("\n".join([*states, "ACTIVE"]))
    (path / "runs").write_text("\n".join(["none", "running", "none", "exit 143", "exit 0"]))
    made = SLICE | {"POLL_SECONDS": "0", "TMPDIR": str(tmp_path)}
    result = run("queued_resource.sh", "train", "--a", path=path, **made)
    assert result.returncode == 0, result.stdout + result.stderr
    called = [line.split() for line in (path / "called").read_text().splitlines()]
    done = [words[-1] if len(words) == 2 else f"queue {words[1]}" for words in called]
    done = [one for one in done if one not in ("queue describe", "describe")]
    # a status is one ssh; setup is scp and ssh; a start is ssh
    first = ["queue create", "ssh", "scp", "ssh", "ssh", "ssh", "queue delete"]
    again = ["queue create", "ssh", "scp", "ssh", "ssh", "ssh", "ssh", "ssh", "queue delete"]
    assert done == first + again
    ids = {words[2] for words in called if len(words) == 3 and words[1] in ("create", "delete")}
    assert ids == {"n-queued"}


def test_a_run_that_fails_ends_with_its_status(tmp_path):
    path = put(tmp_path / "bin", "gcloud", GCLOUD)
    (path / "states").write_text("ACTIVE")
    (path / "runs").write_text("exit 2")
    made = SLICE | {"POLL_SECONDS": "0"}
    result = run("queued_resource.sh", "train", path=path, **made)
    assert result.returncode == 2 and "some line of the log" in result.stdout
    assert (path / "called").read_text().splitlines()[-1] == "queued-resources delete n-queued"


def test_a_dry_run_of_a_queued_resource_prints_all_commands():
    lines = commands(run("queued_resource.sh", "--dry_run", "train", "--a", **SLICE))
    done = [words[4] if words[0] == "gcloud" else words[0] for words in lines]
    assert done == ["create", "describe", "git", "scp", "ssh", "ssh", "describe", "ssh", "delete"]
    assert lines[0][5:] == [
        "n-queued",
        "--zone=z",
        "--node-id=n",
        "--accelerator-type=v5litepod-16",
        "--runtime-version=v2-alpha-tpuv5-lite",
        "--spot",
    ]


ARRAY = {"SLURM_JOB_ID": "70", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.mark.parametrize(
    "script,verb,job", [("train", ["train"], "70"), ("study_array", [], "70_3")]
)
class TestSlurm:
    """launch/slurm"""

    def test_a_dry_run(self, script, verb, job):
        result = run(f"slurm/{script}.sbatch", "--dry_run", *verb, "--a=b c", **ARRAY)
        words, rest = commands(result)
        own = ["study", "--shard=auto"] if script == "study_array" else verb
        assert words[0] == "srun" and words[2:] == ["amuro", *own, "--a=b c"] and rest == []
        assert f"scontrol requeue {job}" in result.stdout and "143" in result.stdout

    @pytest.mark.parametrize("status,queued", [(0, 0), (2, 0), (75, 1), (143, 1)])
    def test_what_is_stopped_is_queued_again(self, script, verb, job, status, queued, tmp_path):
        path = put(tmp_path / "bin", "srun", f"#!/bin/sh\nexit {status}\n")
        put(path, "scontrol", f'#!/bin/sh\necho "$@" >>{path}/queued\n')
        result = run(f"slurm/{script}.sbatch", *verb, path=path, **ARRAY)
        assert result.returncode == (0 if queued else status)
        assert (path / "queued").exists() == bool(queued)
        if queued:
            assert (path / "queued").read_text() == f"requeue {job}\n"
