"""Two real processes with two devices each score together: the same results on both, and those of
one process alone.
"""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from amuro_jax import processes
from amuro_jax.errors import ConfigError
from amuro_jax.results.store import Store
from amuro_jax.scoring.generation import Sampling
from amuro_jax.scoring.scorer import Scorer
from tests.evals import tiny
from tests.study.conftest import series  # noqa: F401

EOS = 3
DRAWN = Sampling(1.0, 0.9, 5)
SCRIPT = """
import dataclasses, json, sys
from amuro_jax import processes, sharding
processes.join(sys.argv[1])
import jax, numpy as np
from amuro_jax.scoring.generation import Sampling
from amuro_jax.results.store import Store
from amuro_jax.scoring.scorer import Scorer
from tests import test_processes as t
from tests.evals import tiny

assert (jax.process_count(), jax.device_count(), len(jax.local_devices())) == (2, 4, 2)
params = jax.tree.map(np.asarray, tiny.params_of())
out = {"least": processes.least((3 + processes.is_writer()) << 20)}
scorer = Scorer(tiny.CONFIG, sharding.make_mesh("data:4"), batch_tokens=256)
scored = scorer.loglikelihoods(params, t.requests())
out["scored"] = [[one.logprob.tolist(), one.is_greedy.tolist()] for one in scored]
scorer = Scorer(tiny.CONFIG, sharding.make_mesh("data:2,tensor:2"))
for name, sampling in (("greedy", Sampling()), ("drawn", t.DRAWN)):
    made = scorer.generate(params, t.generations(), eos=t.EOS, sampling=sampling)
    out[name] = [[one.tokens, one.ended] for one in made]
print(json.dumps(out))
"""


def requests():
    """More than one batch, with a shared prefix, in an uneven number."""
    return tiny.random_requests(np.random.default_rng(0), 21, prefixes=((), tuple(range(40))))


def generations():
    """Five texts of several lengths."""
    return [
        tiny.Request(request.context[:20], max_new_tokens=4 + place)
        for place, request in enumerate(requests()[:5])
    ]


def start(root, *arguments, count=2, devices=2, **environment):
    """Processes that run the same command; `CLUSTER` in it is replaced by the flag's value."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **environment,
    }
    return [
        subprocess.Popen(
            [
                sys.executable,
                *(
                    text.replace("CLUSTER", f"127.0.0.1:{port},{count},{number}")
                    for text in arguments
                ),
            ],
            env=environment,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def finish(started):
    """(exit status, standard output, standard error) of each process, once all have ended."""
    try:
        ended = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, ended, strict=True)]


def together(root, *arguments, **options):
    """Standard output of processes that run the same command (see `start`) and succeed."""
    ended = finish(start(root, *arguments, **options))
    for status, _, error in ended:
        assert status == 0, error[-3000:]
    return [output for _, output, _ in ended]


@pytest.mark.slow
def test_two_processes_give_the_results_of_the_plain_path_in_order(root):
    first, second = (
        json.loads(output.splitlines()[-1]) for output in together(root, "-c", SCRIPT, "CLUSTER")
    )
    assert first == second and first.pop("least") == 3 << 20
    params = tiny.params_of()
    expected = [tiny.plain_likelihoods(params, request) for request in requests()]
    for (values, greedy), pairs in zip(first["scored"], expected, strict=True):
        np.testing.assert_allclose(values, [value for value, _ in pairs], atol=1e-4)
        assert greedy == [hit for _, hit in pairs]
    drawn = [
        (made.tokens, made.ended)
        for made in Scorer(tiny.CONFIG).generate(params, generations(), eos=EOS, sampling=DRAWN)
    ]
    for name, texts in (
        ("greedy", [tiny.plain_generation(params, one, EOS) for one in generations()]),
        ("drawn", drawn),
    ):
        assert first[name] == [[list(tokens), ended] for tokens, ended in texts]


@pytest.mark.slow
def test_the_command_line_over_two_processes(root, series, tmp_path):  # noqa: F811
    def command(name):
        fields = {
            "checkpoint": f"{series.checkpoints}@step10-tokens10K",
            "data_root": series.data,
            "workdir": tmp_path / name,
        }
        fields |= {"tasks": "lab_nli,lab_summary", "shots": 1}
        fields |= {"scoring.rows": 9, "scoring.bootstrap": 20}
        return [
            "-m",
            "amuro_jax",
            "score",
            *(f"--config.{field}={value}" for field, value in fields.items()),
        ]

    environment = {"AMURO_CACHE": str(tmp_path / "cache")}
    first, second = together(root, *command("two"), "--cluster=CLUSTER", **environment)
    assert "lab_nli" in first and "lab_nli" not in second
    alone = {**os.environ, **environment, "PYTHONPATH": str(root), "XLA_FLAGS": ""}
    subprocess.run(
        [sys.executable, *command("one")], env=alone, cwd=root, check=True, capture_output=True
    )
    stores = [Store.open(tmp_path / name) for name in ("one", "two")]
    assert stores[0].keys() == stores[1].keys() and len(stores[0].keys()) == 2
    for key in stores[0].keys():
        one, two = (store.rows(key) for store in stores)
        assert (
            one.prediction.tolist() == two.prediction.tolist()
            and one.score.tolist() == two.score.tolist()
        )
        if stores[0].read(key).task == "lab_nli":
            np.testing.assert_allclose(
                np.stack(one.choice_logprobs), np.stack(two.choice_logprobs), atol=1e-4
            )
        values = [store.read(key).metrics["value"] for store in stores]
        assert values[0] == values[1]


@pytest.mark.parametrize("text", ["here", "host:1,2", "host:1,2,2", "host,2,0", "a b:1,2,0"])
def test_a_cluster_that_cannot_be_meant(text):
    with pytest.raises(ConfigError, match="HOST:PORT,COUNT,NUMBER"):
        processes.join(text)


def test_no_cluster_is_found_where_there_is_none():
    script = "from amuro_jax import processes; processes.join('auto')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "no cluster found" in done.stderr and "ConfigError" in done.stderr


@pytest.mark.parametrize(
    "environment,endpoints,several",
    [
        ({}, None, False),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "node[1-4]"}, None, True),
        ({"SLURM_NTASKS": "4"}, None, False),  # a shell within the job
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "node1"}, None, False),  # of an array
        ({"OMPI_COMM_WORLD_SIZE": "2"}, None, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, None, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, "a,b", False),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, None, True),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, None, True),
        ({}, "a:0:10.0.0.1,b:1:10.0.0.2", True),
        ({}, "10.0.0.1", False),
        ({"TPU_SKIP_MDS_QUERY": "1"}, "a,b", False),
    ],
)
def test_the_environment_says_whether_there_are_others(environment, endpoints, several):
    asked = None if endpoints is None else lambda: endpoints
    assert processes.announced(environment, asked) is several


@pytest.mark.parametrize("number", [0, 1])
def test_others_that_do_not_come_are_an_error_in_the_time_asked_for(root, number):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    script = f"from amuro_jax import processes; processes.join('{address},2,{number}', 3)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.returncode == 2 and time.monotonic() - began < 30  # jax's import is in it
    said = done.stderr
    assert f"waiting for 2 processes at {address} (timeout 3 s)" in said
    assert "they did not come" in said and "--cluster_timeout" in said
