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
from amuro_jax.results.plan import Plan, task_files, write_task_files
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


@dataclasses.dataclass(frozen=True)
class LaterScoring(Scoring):
    """The scoring of a later version, which has one field more."""

    later: int = 0


def test_a_field_that_a_later_version_adds_leaves_what_is_known_of_checkpoints(tmp_path):
    def key(config):
        return Plan("study", config, (), ()).config_key

    config = dataclasses.replace(
        synthetic.config(tmp_path),
        scoring=Scoring(rows=7),
        evals=(EvalSet("lab_nli", Role.IN_DOMAIN, shots=(1,)),),
    )
    later = dataclasses.replace(config, scoring=LaterScoring(rows=7))
    assert key(later) == key(config) == key(dataclasses.replace(config, workdir="elsewhere"))
    others = {
        key(dataclasses.replace(config, scoring=LaterScoring(rows=7, later=1))),
        key(dataclasses.replace(config, scoring=Scoring(rows=8))),
        key(dataclasses.replace(config, evals=(EvalSet("lab_nli", Role.IN_DOMAIN),))),
        key(dataclasses.replace(config, evals=config.evals * 2)),
    }
    assert len(others - {key(config)}) == 4
