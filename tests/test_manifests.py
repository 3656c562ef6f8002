"""The manifests of launch/gke, filled in, keep to the published schemas.

Those of Kubernetes are what kubernetes-validate carries, those of JobSet, KubeRay and Kueue what
third_party/schemas has. A field that a schema does not have is refused: the API server would drop
it without a word. Its rules in CEL (x-kubernetes-validations) are not evaluated here.
"""

import copy
import functools
import gzip
import json
import os
import subprocess
import sys

import jsonschema
import kubernetes_validate
import pytest
import yaml

VERSION = "1.33"
UNKNOWN = "x-kubernetes-preserve-unknown-fields"
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

CUSTOM = {
    "JobSet": "tpu_slice",
    "RayJob": "ray_job",
    "RayCluster": "ray_cluster",
}  # kind → manifest


@functools.cache
def schema(root, name: str) -> dict:
    """A schema of third_party/schemas that refuses what it does not name."""
    return strict(json.loads(gzip.decompress((root / f"third_party/schemas/{name}").read_bytes())))


def strict(schema):
    """The schema, which has nothing beside its properties, but where it says so."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(one) for name, one in schema.items()}
    if isinstance(made.get("properties"), dict):
        made.setdefault("additionalProperties", bool(made.get(UNKNOWN)))
    return made


def check_custom(root, made):
    """Holds a JobSet, RayJob or RayCluster against the schema of its kind and version."""
    name = f"{made['kind'].lower()}.json.gz"
    listed = json.loads((root / "third_party/manifest.json").read_text())["schemas"]
    versions = {one["file"]: one["version"] for one in listed}
    assert made["apiVersion"].rpartition("/")[2] == versions[f"schemas/{name}"]
    body = {key: value for key, value in made.items() if key != "metadata"}
    jsonschema.Draft202012Validator(schema(root, name)).validate(body)


def render(root, manifest, *command, **variables):
    """The manifest as `submit.sh --dry_run` prints it, and what it printed behind it."""
    given = {"PATH": os.environ["PATH"], "NAME": "one", "IMAGE": "registry/amuro:tpu"} | variables
    words = ["bash", root / "launch/gke/submit.sh", "--dry_run", manifest, *command]
    done = subprocess.run(words, capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stderr
    text, _, call = done.stdout.strip().rpartition("\n")
    assert call.strip() == "kubectl apply --filename=-"
    return yaml.safe_load(text)


def check(kind, api, spec, metadata=None):
    made = {"apiVersion": api, "kind": kind, "metadata": metadata or {"name": "one"}, "spec": spec}
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
        check(kind, api, spec, made["metadata"])
    if made["kind"] in CUSTOM:
        check_custom(root, made)
    assert made["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") == variables.get("QUEUE")


def test_the_schemas_see_a_wrong_field(root):
    (_, _, spec) = jobs_and_pods(render(root, "study_shards", "study"))[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        check("Job", "batch/v1", spec | {"completionsMode": "Indexed"})


def at(made, path):
    """The object that holds the last name of a path, and that name."""
    *parents, last = path.split(".")
    for name in parents:
        made = made[int(name) if name.isdigit() else name]
    return made, last


REPLICATED = "spec.replicatedJobs.0"
WORKERS = "workerGroupSpecs.0"
CONTAINER = "template.spec.containers.0"
FAULTS = [  # kind, where, another name for it, a value of a wrong type
    ("JobSet", "spec.failurePolicy.maxRestarts", "maxRestart", "ten"),
    ("JobSet", "spec.failurePolicy.rules.0.action", "actions", "GiveUp"),
    ("JobSet", f"{REPLICATED}.replicas", "replica", "1"),
    ("JobSet", f"{REPLICATED}.template.spec.completions", "completion", [4]),
    ("JobSet", f"{REPLICATED}.template.spec.{CONTAINER}.args", "arg", "train"),
    ("JobSet", f"{REPLICATED}.template.spec.{CONTAINER}.resources.limits", "limit", {"cpu": 1.5}),
    ("RayCluster", "spec.rayVersion", "rayversion", 2),
    ("RayCluster", "spec.headGroupSpec.rayStartParams", "startParams", {"num-cpus": 0}),
    ("RayCluster", f"spec.{WORKERS}.numOfHosts", "numHosts", "4"),
    ("RayCluster", f"spec.{WORKERS}.{CONTAINER}.image", "images", 7),
    ("RayJob", "spec.shutdownAfterJobFinishes", "shutdownAfterFinish", "true"),
    ("RayJob", "spec.backoffLimit", "backoff", "10"),
    ("RayJob", f"spec.rayClusterSpec.{WORKERS}.maxReplicas", "maxReplica", "4"),
    ("RayJob", f"spec.rayClusterSpec.{WORKERS}.template.spec.nodeSelector", "selector", "tpu"),
]


@pytest.mark.parametrize("kind,path,misspelt,wrong", FAULTS)
def test_the_schemas_of_others_see_a_fault(root, kind, path, misspelt, wrong):
    """A misspelt name and a wrong type, of their own fields and of the pods inside."""
    manifest = CUSTOM[kind]
    made = once(root, manifest)
    check_custom(root, made)
    for name, value in ((misspelt, None), (None, wrong)):
        spoilt = copy.deepcopy(made)
        holder, field = at(spoilt, path)
        kept = holder.pop(field)
        holder[name or field] = kept if name else value
        with pytest.raises(jsonschema.ValidationError):
            check_custom(root, spoilt)


@functools.cache
def once(root, manifest):
    return render(root, manifest, *COMMANDS[manifest], **FULL)


def test_a_quantity_is_a_number_or_a_text(root):
    made = copy.deepcopy(once(root, "tpu_slice"))
    job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    limits = job["template"]["spec"]["containers"][0]["resources"]["limits"]
    for value in (4, "4", "500m"):
        limits["cpu"] = value
        check_custom(root, made)
    for value in (True, "four", None):
        limits["cpu"] = value
        with pytest.raises(jsonschema.ValidationError):
            check_custom(root, made)


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


QUEUES = {
    "team": True,
    "team-a.lm": True,
    "Team": False,
    "team_a": False,
    "-a": False,
    "a..b": False,
}


@pytest.mark.parametrize("queue,good", QUEUES.items())
def test_a_queue_has_a_name_that_kueue_takes(root, queue, good):
    """The same names as its schema, in which the label becomes a workload's queueName."""
    spec = schema(root, "workload.json.gz")["properties"]["spec"]["properties"]
    rule = jsonschema.Draft202012Validator(spec["queueName"])
    assert rule.is_valid(queue) == good
    given = {"PATH": os.environ["PATH"], "NAME": "one", "IMAGE": "x", "QUEUE": queue}
    script = [sys.executable, root / "launch/gke/render.py", "tpu_slice", "train"]
    done = subprocess.run(script, capture_output=True, text=True, env=given)
    assert (done.returncode == 0) == good and ("QUEUE" in done.stderr) == (not good)
    if good:
        label = yaml.safe_load(done.stdout)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
        assert rule.is_valid(label)


@pytest.mark.parametrize("variables,words", [({"IMAGE": "x"}, "NAME"), ({"HOSTS": "two"}, "HOSTS")])
def test_a_variable_that_is_missing_or_wrong_is_named(root, variables, words):
    given = {"PATH": os.environ["PATH"]} | variables
    if words != "NAME":
        given |= {"NAME": "one", "IMAGE": "x"}
    script = [sys.executable, root / "launch/gke/render.py", "tpu_slice", "train"]
    done = subprocess.run(script, capture_output=True, text=True, env=given)
    assert done.returncode == 1 and words in done.stderr and done.stdout == ""
