"""The public names: there, documented, and doing what the command line does."""

import subprocess
import sys

import amuro_jax
from amuro_jax.config import Dtype
from amuro_jax.evals import run as score_run
from amuro_jax.train import run as train_run
from tests.study.conftest import series  # noqa: F401


def test_every_public_name_has_a_docstring():
    for name in amuro_jax.__all__:
        assert name == "__version__" or getattr(amuro_jax, name).__doc__, name


def test_importing_the_package_imports_no_jax():
    script = "import amuro_jax, sys; amuro_jax.Recipe(); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_train_and_score_have_the_identity_and_key_of_the_verbs(series, tmp_path):  # noqa: F811
    """The same model and number, whichever way they are asked for."""
    name = str(series.checkpoints / "step10-tokens10K")
    recipe = amuro_jax.Recipe(
        task="lab_nli", rows=8, epochs=1, batch_size=4, max_length=128, dtype=Dtype.FLOAT32
    )
    scoring, root = amuro_jax.Scoring(rows=4, bootstrap=20), str(series.data)
    record = amuro_jax.fine_tune(
        amuro_jax.open_checkpoint(name), recipe, tmp_path / "api", data_root=root
    )
    config = train_run.TrainConfig(name, str(tmp_path / "verb"), root, recipe)
    folder = train_run.run(config)
    model = amuro_jax.load_model(tmp_path / "api/model")
    assert model.checkpoint.identity == record.key
    assert amuro_jax.open_checkpoint(folder).identity == record.key
    number, rows = amuro_jax.score(model, "lab_nli", shots=1, scoring=scoring, data_root=root)
    (verb,) = score_run.run(
        score_run.ScoreConfig(
            str(folder), str(tmp_path / "scores"), root, ("lab_nli",), shots=(1,), scoring=scoring
        )
    )
    assert verb.key == number.key and verb.metrics == number.metrics and len(rows) == 4
