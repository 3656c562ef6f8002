"""The model of the best saved state, from the command's configuration to its folder."""

from amuro_jax import checkpoint, files
from amuro_jax.config import Dtype, Recipe, TrainConfig, TrainRun
from amuro_jax.train import run
from tests.study.conftest import series  # noqa: F401


def test_the_best_state_becomes_a_model_of_its_own(series, tmp_path):  # noqa: F811
    recipe = Recipe(
        task="lab_nli",
        rows=16,
        held_out_rows=4,
        epochs=2,
        batch_size=4,
        learning_rate=1.0,  # so high that the model only gets worse
        dtype=Dtype.FLOAT32,
        max_length=256,
    )
    config = TrainConfig(
        f"{series.checkpoints}@step10-tokens10K",
        str(tmp_path),
        str(series.data),
        recipe,
        TrainRun(save_every=1, keep_best="held_out_loss"),
    )
    model = run.run(config)
    last = files.read_json(tmp_path / "record.json")["metrics"]
    provenance = checkpoint.read_provenance(tmp_path / "best")
    best = provenance["training"]["metrics"]
    assert best["steps"] < last["steps"] == 6
    assert best["held_out_loss"] < last["held_out_loss"]
    assert checkpoint.model_hash(tmp_path / "best") != checkpoint.model_hash(model)
    assert not (tmp_path / "state").exists()
