"""The manifests of launch/gke, filled in, keep to Kubernetes' published schemas.

The schemas are those that kubernetes-validate carries. It has none of custom resources: what these
hold of Kubernetes' own (jobs, pods) is checked as such.
"""

import os
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

VERSION = "1.33"
SLICE = {"CHIPS": "4", "HOSTS": "4", "TPU_ACCELERATOR": "tpu-v5-lite-podslice"}
FULL = SLICE | {
    "TPU_TOPOLOGY": "4x4",
    "QUEUE": "team",
    "NAMESPACE": "lm",
    "SERVICE_ACCOUNT": "amuro",
    "SPOT": "true",
}
COMMANDS = {
    "tpu_slice": ["train", '--config.note="quoted" $HOME', "--config=a b.py"],
    "study_shards": ["study", "--shard=auto"],
    "ray_job": ["study", "--config=a b.py"],
    "ray_cluster": ["up"],
}


def render(root, manifest, *command, **variables):
    """The manifest as `submit.sh --dry_run` prints it, and what it printed behind it."""
    given = {"PATH": os.environ["PATH"], "NAME": "one", "IMAGE": "registry/amuro:tpu"} | variables
    words = ["bash", root / "launch/gke/submit.sh", "--dry_run", manifest, *command]
    done = subprocess.run(words, capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stderr
    text, _, call = done.stdout.strip().rpartition("\n")
    assert call.strip() == "kubectl apply --filename=-"
    return yaml.safe_load(text)


def check(kind, api, spec):
    made = {"apiVersion": api, "kind": kind, "metadata": {"name": "one"}, "spec": spec}
    kubernetes_validate.validate(made, VERSION, strict=True)


def jobs_and_pods(made) -> list:
    """(kind, API, spec) of what a manifest holds of Kubernetes' own."""
    spec = made["spec"]
    if made["kind"] == "Job":
        return [("Job", "batch/v1", spec)]
    if made["kind"] == "JobSet":
        return [("Job", "batch/v1", one["template"]["spec"]) for one in spec["replicatedJobs"]]
    cluster = spec.get("rayClusterSpec", spec)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [("Pod", "v1", group["template"]["spec"]) for group in groups]


@pytest.mark.parametrize("variables", [{}, SLICE, FULL], ids=["least", "slice", "full"])
@pytest.mark.parametrize("manifest", COMMANDS)
def test_manifests_keep_to_the_schemas(root, manifest, variables):
    made = render(root, manifest, *COMMANDS[manifest], **variables)
    for kind, api, spec in jobs_and_pods(made):
        check(kind, api, spec)
    assert made["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") == variables.get("QUEUE")


def test_the_schemas_see_a_wrong_field(root):
    (_, _, spec) = jobs_and_pods(render(root, "study_shards", "study"))[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        check("Job", "batch/v1", spec | {"completionsMode": "Indexed"})


def test_a_slice_is_one_job_over_its_hosts(root):
    made = render(root, "tpu_slice", *COMMANDS["tpu_slice"], **FULL)
    job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert job["completions"] == job["parallelism"] == 4 and job["backoffLimit"] == 0
    assert pod["containers"][0]["args"] == COMMANDS["tpu_slice"]
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert pod["securityContext"]["runAsNonRoot"]


def test_each_index_of_a_job_is_told_how_many_there_are(root):
    """As `--shard=auto` reads it; what was stopped is not counted as a failure."""
    made = render(root, "study_shards", *COMMANDS["study_shards"], SHARDS="12", GPUS="1")
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert made["spec"]["completions"] == 12
    assert container["env"] == [{"name": "JOB_COMPLETIONS", "value": "12"}]
    ignored = [
        rule["onExitCodes"]["values"]
        for rule in made["spec"]["podFailurePolicy"]["rules"]
        if rule["action"] == "Ignore" and "onExitCodes" in rule
    ]
    assert ignored == [[75, 143]]


def test_a_ray_job_brings_its_cluster(root):
    made = render(root, "ray_job", *COMMANDS["ray_job"], **FULL)
    alone = render(root, "ray_cluster", "up", **FULL)
    assert made["spec"]["rayClusterSpec"] == alone["spec"]
    assert made["spec"]["entrypoint"] == "amuro study '--config=a b.py'"
    pins = (root / "constraints.txt").read_text()
    assert f"ray=={alone['spec']['rayVersion']}\n" in pins


@pytest.mark.parametrize("variables,words", [({"IMAGE": "x"}, "NAME"), ({"HOSTS": "two"}, "HOSTS")])
def test_a_variable_that_is_missing_or_wrong_is_named(root, variables, words):
    given = {"PATH": os.environ["PATH"]} | variables
    if words != "NAME":
        given |= {"NAME": "one", "IMAGE": "x"}
    script = [sys.executable, root / "launch/gke/render.py", "tpu_slice", "train"]
    done = subprocess.run(script, capture_output=True, text=True, env=given)
    assert done.returncode == 1 and words in done.stderr and done.stdout == ""
