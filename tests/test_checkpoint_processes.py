"""Two processes save a model from a mesh over both, and load it again: each writes and checks its
own part.
"""

import json

import numpy as np
import pytest

from amuro_jax import array_store, checkpoint
from amuro_jax.errors import CheckpointError
from amuro_jax.models.parameters import flatten, init_params
from tests.test_checkpoint import CONFIG
from tests.test_processes import together

pytestmark = pytest.mark.slow
SCRIPT = """
import json, sys
from amuro_jax import processes
processes.join(sys.argv[1])
import jax, numpy as np
from amuro_jax import checkpoint, sharding
from amuro_jax.models.parameters import flatten, init_params, logical_axes
from tests.test_checkpoint import CONFIG

mesh = sharding.make_mesh("fsdp:4")
host = jax.tree.map(np.asarray, init_params(CONFIG, 0))
places = sharding.shardings(logical_axes(CONFIG), host, mesh)
params = jax.tree.map(
    lambda leaf, place: jax.make_array_from_callback(leaf.shape, place, lambda i: leaf[i]),
    host, places,
)
checkpoint.save_model(sys.argv[2], params, CONFIG, sys.argv[3], {}, identity="key")
again = flatten(checkpoint.load_params(sys.argv[2], mesh=mesh))
same = all(
    np.array_equal(np.asarray(shard.data), flatten(host)[name][shard.index])
    for name, leaf in again.items() for shard in leaf.addressable_shards
)
print(json.dumps([same, checkpoint.read_identity(sys.argv[2]).key]))
"""


def test_two_processes_save_and_load_one_model(root, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    folder = tmp_path / "model"
    outputs = together(root, "-c", SCRIPT, "CLUSTER", str(folder), str(tmp_path / "tokenizer"))
    assert [json.loads(text.splitlines()[-1]) for text in outputs] == [[True, "key"]] * 2
    params = flatten(init_params(CONFIG, 0))
    for name, leaf in flatten(checkpoint.load_params(folder)).items():
        # Two compilations of the random numbers may round otherwise.
        np.testing.assert_allclose(leaf, params[name], atol=1e-6, err_msg=name)
    parts = sorted((folder / "params").glob("checksums.*.json"))
    assert len(parts) == 2
    parts[1].unlink()  # half of the chunks are not vouched for
    with pytest.raises(CheckpointError, match="is not what was written"):
        checkpoint.load_params(folder)
    assert array_store.read_checksums(folder / "params")
