"""Rows from files and (through `datasets`) from a Hub-like folder.

Every fault named by file and line.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amuro_jax.data import sources
from amuro_jax.data.protocols import PAPER, STRICT
from amuro_jax.data.registry import TASKS, get_task
from amuro_jax.data.task import DataSource, Task
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.storage import Storage

from .worlds import nli_rows, pair_rows, write_rows

MNLI = get_task("mnli_matched")


def load(root, task=MNLI, split="validation_matched"):
    return sources.load_examples(task, sources.find_split(task, (split,), str(root)))


def test_jsonl_parquet_and_arrow_hold_the_same_examples(tmp_path):
    rows = nli_rows(5)
    write_rows(tmp_path / "a", "glue_mnli", "validation_matched", rows)
    for name in ("b", "c", "d"):
        (tmp_path / name / "glue_mnli").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(rows), tmp_path / "b" / "glue_mnli" / "validation_matched.parquet"
    )
    with pa.OSFile(str(tmp_path / "c" / "glue_mnli" / "validation_matched.arrow"), "wb") as sink:
        with pa.ipc.new_stream(sink, pa.Table.from_pylist(rows).schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows))
    (tmp_path / "d" / "glue_mnli" / "validation_matched.json").write_text(json.dumps(rows))
    examples = [load(tmp_path / name) for name in "abcd"]
    assert examples[0] == examples[1] == examples[2] == examples[3]
    assert (
        examples[0][4].completion == "neutral"
        and examples[0][4].row == 4
        and examples[0][4].doc_id == "4"
    )


FAULTS = [
    ('{"premise": "p"', "not JSON"),
    ("[1, 2]", "expected a JSON object, got list"),
    (json.dumps({"premise": "p", "label": 0}), "column 'hypothesis' is missing"),
    (json.dumps({"premise": "p", "hypothesis": "h", "label": -1}), "unlabelled"),
    (json.dumps({"premise": "p", "hypothesis": "h", "label": 3}), "label 3 is not one of 0 … 2"),
    (json.dumps({"premise": 7, "hypothesis": "h", "label": 0}), "must be text, got int"),
    (json.dumps({"premise": "p", "hypothesis": "h", "label": True}), "label True"),
]


@pytest.mark.parametrize("line,message", FAULTS, ids=[message[:20] for _, message in FAULTS])
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, message):
    path = write_rows(tmp_path, "glue_mnli", "validation_matched", nli_rows(3))
    path.write_text(
        path.read_text() + "\n" + line + "\n"
    )  # after a blank line: rows and lines are counted apart
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert caught.value.where == f"{path}:5"


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(DataError, match="looked for glue_mnli/validation_matched"):
        load(tmp_path)
    write_rows(tmp_path, "glue_mnli", "validation_matched", [])
    with pytest.raises(DataError, match="has no rows"):
        load(tmp_path)
    with pytest.raises(DataError, match="local set"):
        sources.test_split(get_task("lab_nli"), sources.STRICT, "")
    with pytest.raises(DataError, match="trained on, not scored"):
        sources.test_split(get_task("tulu"), sources.STRICT, str(tmp_path))


def test_a_damaged_parquet_file(tmp_path):
    path = tmp_path / "glue_mnli" / "validation_matched.parquet"
    path.parent.mkdir()
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path)


def test_the_checksum_follows_the_rows(tmp_path):
    write_rows(tmp_path / "a", "glue_mnli", "train", nli_rows(5))
    write_rows(tmp_path / "b", "glue_mnli", "train", nli_rows(6))
    first, second = (
        sources.dataset_checksum(MNLI, sources.train_split(MNLI, str(tmp_path / name)))
        for name in "ab"
    )
    assert first != second and len(first) == 64


def test_rows_through_the_datasets_library(tmp_path):
    write_rows(tmp_path, "hub", "train", nli_rows(4))
    task = Task(
        "far",
        "classification",
        "nli",
        "mnli",
        DataSource(str(tmp_path / "hub"), "far", test=("train",)),
        MNLI.columns,
        MNLI.labels,
    )
    split = sources.find_split(task, ("train",), "")
    assert split.path is None and [
        example.gold for example in sources.load_examples(task, split)
    ] == [0, 1, 2, 0]
    assert len(sources.dataset_checksum(task, split)) == 64


def cuts(path):
    """Lengths at which an Arrow file can be cut without its reader noticing, and one in the middle
    of a block.
    """
    with pa.memory_map(str(path)) as stream:
        reader = pa.ipc.MessageReader.open_stream(stream)
        ends = [stream.tell() for _ in iter(reader.read_next_message, None)]
    return [0, *ends[:-1], ends[-1] // 2]


def test_a_cache_that_lost_its_end_or_some_bytes_is_fetched_again(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_rows(tmp_path, "hub", "train", nli_rows(1500))  # more than one block
    good = sources.hub_cache.load(str(tmp_path / "hub"), split="train")
    path = Path(
        datasets.load_dataset(str(tmp_path / "hub"), split="train").cache_files[0]["filename"]
    )
    whole = path.read_bytes()
    flipped = whole.replace(good[77]["premise"].encode(), good[77]["premise"].encode()[::-1])
    assert len(good) == 1500 and len(flipped) == len(whole) and flipped != whole
    for damaged in [flipped, *(whole[:length] for length in cuts(path))]:
        path.write_bytes(damaged)
        assert sources.hub_cache.load(str(tmp_path / "hub"), split="train") == good, len(damaged)
        assert path.read_bytes() == whole


def test_a_set_published_as_a_script_comes_from_its_parquet_mirror(monkeypatch):
    import datasets

    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        if "revision" not in options:
            raise RuntimeError("Dataset scripts are no longer supported, but found xlsum.py")
        return datasets.Dataset.from_list([{"text": "long text", "summary": "short"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = get_task("xlsum")
    assert (
        sources.load_examples(task, sources.find_split(task, ("test",), ""))[0].completion
        == "short"
    )
    found = {
        "data_files": {"test": "english/*test/*.parquet"},
        "revision": "refs/convert/parquet",
        "split": "test",
    }
    assert asked[1] == (("csebuetnlp/xlsum",), found)


def test_rows_in_an_object_store_are_those_on_a_disk(tmp_path, storage_url):
    rows, table = nli_rows(6), pa.Table.from_pylist(nli_rows(6))
    folder = tmp_path / "glue_mnli"
    write_rows(tmp_path, "glue_mnli", "a", rows)
    pq.write_table(table, folder / "b.parquet")
    with pa.OSFile(str(folder / "c.arrow"), "wb") as sink:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    (folder / "d.json").write_text(json.dumps(rows))
    Storage.open(storage_url).upload(tmp_path)
    for split in "abcd":
        near, far = (
            sources.find_split(MNLI, (split,), str(root)) for root in (tmp_path, storage_url)
        )
        assert far.path.startswith(storage_url + "/glue_mnli/")
        assert load(storage_url, split=split) == load(tmp_path, split=split) != []
        assert sources.dataset_checksum(MNLI, far) == sources.dataset_checksum(MNLI, near)
    Storage.open(storage_url).replace("glue_mnli/a.jsonl", json.dumps(rows[0]) + "\n")
    assert len(load(storage_url, split="a")) == 1  # read anew
    with pytest.raises(DataError, match="no rows of mnli_matched"):
        load(storage_url)


@pytest.fixture
def world(tmp_path):
    write_rows(tmp_path, "glue_mnli", "train", nli_rows(90))
    write_rows(tmp_path, "glue_mnli", "validation_matched", nli_rows(90))
    write_rows(tmp_path, "paws_labeled_final", "train", pair_rows(9))
    qqp = [{"question1": "a", "question2": "b", "label": -1}] * 9
    write_rows(tmp_path, "glue_qqp", "test", qqp)
    write_rows(tmp_path, "glue_qqp", "validation", qqp)
    return tmp_path


def faults(name, root, protocol=STRICT, **options):
    found = sources.check(get_task(name), protocol, str(root), **options)
    assert all(problem.is_fault for problem in found)
    return [f"{problem.where}: {problem.what}" for problem in found]


def test_a_check_before_a_run_is_silent_where_all_is_there(world):
    assert faults("mnli_matched", world, shots=4) == faults("mnli_matched", world, train=True) == []
    assert faults("qqp", world, PAPER, shots=4) == []  # unlabelled rows are the published ones


def test_a_check_names_folders_splits_columns_and_labels(world):
    (said,) = faults("rte", world)
    assert str(world) in said and "looked for glue_rte/validation" in said
    (said,) = faults("gpt3nli", world, train=True)
    assert "no training split" in said
    (said,) = faults("qqp", world, shots=4)
    assert "glue_qqp/validation.jsonl:1" in said and "unlabelled" in said
    write_rows(world, "glue_mnli", "train", [{"premise": "p", "label": 0}])
    (said,) = faults("mnli_matched", world, shots=4)
    assert "glue_mnli/train.jsonl:1" in said and "column 'hypothesis' is missing" in said
    write_rows(world, "glue_mnli", "train", [])
    (said,) = faults("mnli_matched", world, train=True)
    assert "has no rows" in said
    (said,) = faults("lab_nli", "")
    assert "is a local set" in said


def test_a_check_reads_the_first_rows_only(world):
    path = world / "glue_mnli" / "train.jsonl"
    path.write_text(path.read_text() + "no JSON\n")
    assert faults("mnli_matched", world, train=True) == []
    with pytest.raises(DataError, match="not JSON"):
        load(world, split="train")


def test_a_check_says_what_would_be_downloaded():
    found = sources.check(get_task("qqp"), STRICT, "", shots=4)
    assert [problem.is_fault for problem in found] == [False, False]
    assert "nyu-mll/glue qqp, split validation" in found[0].what
    assert "google-research-datasets/paws labeled_final, split train" in found[1].what


def test_the_registry_is_whole():
    study = "xsum xlsum cnn socialiqa sciq tweetqa mnli_matched mnli_mismatched rte gpt3nli"
    study += " paws qqp stsb tulu arc_easy arc_challenge openbookqa"
    study += " hellaswag boolq sciq_choice llmbar mmlu gsm8k truthfulqa"
    assert set(study.split()) <= set(TASKS)
    for name, task in TASKS.items():
        assert (
            task.name == name
            and task.roles
            and hasattr(sources.readers, task.reader)
            and task.licence
        )
        assert not task.source.shots_from or task.source.shots_from in TASKS
    with pytest.raises(ConfigError, match="unknown task"):
        get_task("nothing")


def test_every_local_set_can_be_read(shared):
    read = {}
    for name, task in TASKS.items():
        for split in dict.fromkeys((task.source.train, *task.source.test)):
            if split and (path := sources.split_path(task, split, str(shared))):
                read[name, split] = len(sources.load_examples(task, sources.Split(split, path)))
    assert (
        len({name for name, _ in read}) >= 20
        and read["rte", "validation"] == 277
        and read["socialiqa", "train"] == 6000
    )
