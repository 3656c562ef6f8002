"""The plan of a study and the YAML files of its own sets are in its folder."""

import dataclasses
import json

from amuro_jax.config import EvalSet, FineTune, Role, Scoring
from amuro_jax.data.protocols import STRICT
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import get_task
from amuro_jax.evals.prepare import prompt_hash
from amuro_jax.report import making
from amuro_jax.report.prompts import Prompts
from amuro_jax.results.plan import task_files, write_task_files
from amuro_jax.storage import Storage
from amuro_jax.study import grid
from tests.results.made import score
from tests.study import synthetic

OWN = """name: mood
kind: classification
folder: mood
fields: {text: text}
gold: label
labels: [good, bad]
templates: {default: "Text: {text}\\nMood:"}
"""


def test_a_study_keeps_its_own_sets_so_that_it_is_reported_without_their_files(
    storage_url, tmp_path
):
    path = tmp_path / "any_name.yaml"
    path.write_text(OWN)
    config = dataclasses.replace(
        synthetic.config(tmp_path),
        fine_tunes=(FineTune(str(path)), FineTune("lab_nli")),
        evals=(EvalSet(str(path), Role.IN_DOMAIN, (str(path),)), EvalSet("lab_nli")),
    )
    storage = Storage.open(storage_url)
    write_task_files(storage, grid.task_files(config))
    path.unlink()
    own = task_files(storage)
    assert list(own) == ["mood"] and get_task(own["mood"]).labels == ("good", "bad")
    (tmp_path / "data/mood").mkdir(parents=True)
    for split in ("train", "test"):
        lines = [json.dumps({"text": f"{split} {i}", "label": "good"}) for i in range(3)]
        (tmp_path / f"data/mood/{split}.jsonl").write_text("\n".join(lines))
    record = dataclasses.replace(
        score("a" * 16, 0.5, 1), task="mood", shots=1, protocol="strict", scoring=Scoring()
    )
    data_root = str(tmp_path / "data")
    (first, *_) = build_queries(get_task(own["mood"]), "default", 1, STRICT, data_root=data_root)
    prompts = Prompts(data_root, own).of(record, {0: prompt_hash(first.context)})
    assert prompts[0].text == first.context and prompts[0].text.endswith("Text: test 0\nMood:")
    assert f"--config.tasks={own['mood']}" in making.score_flags(record, data_root, own["mood"])
    assert Prompts(data_root).of(record, {0: prompt_hash(first.context)}) == {}
