"""Tables with one score per line, whole and malformed."""

import csv
import gzip
import io
import math
import random

import pytest

from amuro_jax.analyses.registry import tables_of
from amuro_jax.errors import AmuroError, ConfigError, DataError
from amuro_jax.interchange import columns
from amuro_jax.results import loading
from amuro_jax.results.store import Store

HEADER = "model,step,shots,task,metric,value,stderr"
LINES = [
    f"m{size},{step},0,{task},{metric},{0.1 * size + step / 9000 + place / 50:.4f},0.01"
    for size in (1, 2)
    for step in (0, 1000, 4000)
    for place, (task, metric) in enumerate([("piqa", "acc"), ("piqa", "acc_norm"), ("odd", "acc")])
]


def table(tmp_path, lines=LINES, header=HEADER, name="t.csv", end="\n"):
    path = tmp_path / name
    path.write_text(header + "\n" + end.join(lines) + end)
    return path


def test_a_table_is_imported_with_provenance_and_series(tmp_path):
    done = columns.import_csv(table(tmp_path), tmp_path / "w", tokens_per_step=100)
    assert (done.cells, done.new, done.repeated, done.empty) == (18, 18, 0, 0)
    found = loading.load(tmp_path / "w", 200)
    assert list(found.suites) == ["m1", "m2"] and found.suite == "m1"
    assert found.checkpoints == ["step0", "step1000", "step4000"]
    assert len(found.cells) == 6 and len(found.measurements) == 18  # the headline metric, and all
    cell = found.find("step1000", "", "piqa")
    assert cell["value"] == 0.2111 and cell["chance"] == 0.5 and cell["tokens"] == 100_000
    store = Store.open(tmp_path / "w")
    record = store.read(cell["key"])
    assert record.imported == "t.csv" and record.provenance.checkpoint["line"] == 5
    assert len(record.provenance.checkpoint["source_sha256"]) == 64 and record.scoring is None
    with pytest.raises(DataError, match="imported, it has no rows"):
        store.rows(cell["key"])


def test_tokens_that_are_out_of_range_are_refused(tmp_path):
    path = table(tmp_path, [*LINES, "m1,9000000000000,0,piqa,acc,0.7,0.01"])
    columns.import_csv(path, tmp_path / "w", tokens_per_step=10**6)
    with pytest.raises(DataError, match="line 20, column step: × 2000000 tokens a step is out of"):
        columns.import_csv(path, tmp_path / "w", tokens_per_step=2 * 10**6)


def test_the_same_file_again_changes_nothing_and_another_value_is_a_conflict(tmp_path):
    columns.import_csv(table(tmp_path), tmp_path / "w")
    again = columns.import_csv(table(tmp_path), tmp_path / "w")
    assert again.cells == 18 and len(Store.open(tmp_path / "w").frame()) == 18
    other = table(tmp_path, [LINES[0].replace("0.1000", "0.1500"), *LINES[1:4]], name="u.csv")
    with pytest.raises(DataError, match=r"0.15 in line 2, and 0.1 in t.csv line 2"):
        columns.import_csv(other, tmp_path / "w")
    columns.import_csv(other, tmp_path / "w", replace=True)
    frame = Store.open(tmp_path / "w").frame()
    assert len(frame) == 18 and sorted(frame["value"])[0] == 0.12 and 0.15 in set(frame["value"])


def test_two_lines_of_one_score_agree_or_are_an_error(tmp_path):
    assert columns.import_csv(table(tmp_path, [*LINES, LINES[3]]), tmp_path / "w").repeated == 1
    with pytest.raises(DataError, match=r"line 20, column value.*0.9.*line 5"):
        columns.import_csv(table(tmp_path, [*LINES, "m1,1000,0,piqa,acc,0.9,0.01"]), tmp_path / "v")


def test_columns_are_named_and_constant(tmp_path):
    path = table(tmp_path, ["1000,a,.5", "2000,a,"], "when\twhich\tresult".replace("\t", ","))
    done = columns.import_csv(
        path,
        tmp_path / "w",
        {"step": "when", "task": "which", "value": "result"},
        {"suite": "own", "shots": "5"},
    )
    assert (done.cells, done.empty) == (1, 1)
    (line,) = Store.open(tmp_path / "w").frame().to_dict("records")
    assert (line["suite"], line["shots"], line["value"]) == ("own", 5, 0.5)
    with pytest.raises(ConfigError, match=r"no column 'whic'[\s\S]*when, which, result"):
        columns.import_csv(path, tmp_path / "w", {"task": "whic"})
    with pytest.raises(ConfigError, match="unknown part of a score 'stp'"):
        columns.import_csv(path, tmp_path / "w", {"stp": "when"})
    with pytest.raises(ConfigError, match="no column says the task"):
        columns.import_csv(path, tmp_path / "w", {"step": "when", "value": "result"})
    named = {"step": "when", "value": "result"}, {"task": "a"}
    with pytest.raises(ConfigError, match="not known what column 'which' says"):
        columns.import_csv(path, tmp_path / "w", *named)
    assert columns.import_csv(path, tmp_path / "v", *named, ignore=["which"]).cells == 1


@pytest.mark.parametrize(
    "line,why",
    [
        ("m1,5000,0,piqa,acc,71.2,0.01", "line 20, column value: accuracy 71.2 is not between"),
        ("m1,5000,0,piqa,acc,0.7l,0.01", "line 20, column value: '0.7l' is not a finite number"),
        ("m1,5000,0,piqa,acc,inf,0.01", "line 20, column value: 'inf' is not a finite"),
        ("m1,5000,0,piqa,acc,1e999,0.01", "line 20, column value"),
        ("m1,5000,0,piqa,acc,0.7,1.2", "line 20, column stderr: standard error of accuracy 1.2 is"),
        ("m1,5000,0,odd,rougeL,45.2,0.8", "line 20, column value: rougeL 45.2 is not between"),
        ("m1,5000,0,piqa,acc,0.7,-0.01", "line 20, column stderr: -0.01 is not at least 0"),
        ("m1,5e3,0,piqa,acc,0.7,0.01", "line 20, column step: '5e3' is not a whole number"),
        ("m1,5000,,piqa,acc,0.7,0.01", "line 20, column shots: is empty"),
        ("m1,,0,piqa,acc,0.7,0.01", "line 20, column step: is empty"),
        (",5000,0,piqa,acc,0.7,0.01", "line 20, column model: is empty"),
        ("m1,5000,0,piqa,acc,0.7", "line 20: 6 fields, the header has 7"),
        ("m1,5000,0,piqa,acc,0.7,0.01,", "line 20: 8 fields"),
        ('m1,5000,0,"piqa,acc,0.7,0.01', "line 20, column task: a quote is not closed"),
    ],
)
def test_a_bad_field_is_named_by_line_and_column(tmp_path, line, why):
    with pytest.raises(DataError) as caught:
        columns.import_csv(table(tmp_path, [*LINES, line]), tmp_path / "w")
    assert why in caught.value.what and "t.csv:20" in str(caught.value.where)
    assert len(Store.open(tmp_path / "w").frame()) == 0  # nothing of the file came in


@pytest.mark.parametrize(
    "data,why",
    [
        (b"", "empty"),
        (b"a,b\n", "no rows"),
        (b"a,a\n1,2\n", "two columns are called 'a'"),
        (b"\x1f\x8b\x08\x00junk", "damaged"),
        (gzip.compress(b"task,step,value\na,1,.5\n", mtime=0)[:-6], "damaged"),
        (b"task,step,value\na\xff,1,.5\n", "line 2, column task: byte 0xff is not UTF-8"),
        (b'task,step,value\n"a\nb",1,.5\n', "a quote is not closed"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, data, why):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=why):
        columns.import_csv(tmp_path / "t.csv", tmp_path / "w")


def expected(data: bytes):
    """What a table says, by Python's own reader; None where it cannot be meant."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
        rows = [row for row in rows]
        header = [name.strip() for name in rows[0]]
        at = [header.index(name) for name in HEADER.split(",")]
        said = {}
        for row in rows[1:]:
            if len(row) != len(header):
                return None
            model, step, shots, task, metric, value, stderr = (row[place].strip() for place in at)
            identity = model, int(step), int(shots), task, metric
            number = (float(value or "nan"), float(stderr or "nan"))
            if number[0] == number[0] and said.setdefault(identity, number) != number:
                return None
        return said
    except (ValueError, IndexError, csv.Error):
        return None


def mutate(rng, data: bytes) -> bytes:
    """One fault as hands and programs make them."""
    lines = data.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    at = rng.randrange(len(data))
    kind = rng.randrange(11)
    if kind == 0:
        return data[:at] + data[at + 1 :]
    if kind == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return (
            data[:at] + rng.choice([b",", b'"', b"\n", b"\r", b";", b" ", b"-", b"e"]) + data[at:]
        )
    if kind == 3:
        return b"".join(lines[:place] + lines[place + 1 :])
    if kind == 4:
        return b"".join(lines[: place + 1] + lines[place:])
    if kind == 5:
        return data[:at]
    fields = lines[place].rstrip(b"\n").split(b",")
    one, two = rng.randrange(len(fields)), rng.randrange(len(fields))
    if kind == 6:
        fields[one] = b""
    elif kind == 7:
        fields[one], fields[two] = fields[two], fields[one]
    elif kind == 8:
        fields.pop(one)
    elif kind == 9:
        fields[one] = rng.choice(
            [b"nan", b"inf", b"-1", b"1e400", b"0x10", b"1_000", b"1,5", b"True"]
        )
    else:
        fields[one] = fields[one] * 2
    lines[place] = b",".join(fields) + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize("seed", range(150))
def test_a_malformed_table_is_an_error_with_its_place_or_the_right_answer(tmp_path, seed):
    """150 mutations: never another number than the file says."""
    data = mutate(random.Random(seed), (HEADER + "\n" + "\n".join(LINES) + "\n").encode())
    (tmp_path / "t.csv").write_bytes(data)
    try:
        columns.import_csv(tmp_path / "t.csv", tmp_path / "w")
    except AmuroError as error:
        assert "t.csv" in str(error.where), error
        assert "line" in error.what or ":1" in str(error.where) or "rows" in error.what, error
        return
    said = expected(data)
    assert said is not None, f"imported, but cannot be meant: {data!r}"
    frame = Store.open(tmp_path / "w").frame()
    names = {"accuracy": "acc"}
    got = {
        (row.suite, row.step, row.shots, row.task, names.get(row.metric, row.metric)): (
            row.value,
            row.stderr,
        )
        for row in frame.itertuples()
    }
    present = {key: value for key, value in said.items() if not math.isnan(value[0])}
    assert got.keys() == present.keys()
    for key, (value, stderr) in present.items():
        assert got[key][0] == value
        assert got[key][1] == stderr or (math.isnan(got[key][1]) and math.isnan(stderr))


def test_the_published_series_are_imported(shared, tmp_path):
    """Pythia's evaluations: 18 models; the ladder's 394,598 lines are in benchmarks/findings.py."""
    path = shared / "pythia_evals.csv.gz"
    if not path.is_file():
        pytest.skip(f"no real data at {path}")
    done = columns.import_csv(path, tmp_path, tokens_per_step=2_097_152)
    assert done.cells == 9814
    found = loading.load(tmp_path, 50)
    assert len(found.suites) == 18 and len(found.suites["pythia-12b"].checkpoints) == 27
    cell = found.suites["pythia-70m"].find("step143000", "", "lambada_openai")
    assert round(cell["value"], 3) == 0.185 and cell["imported"] == "pythia_evals.csv.gz"


def test_a_table_is_over_every_series_and_a_series_can_be_chosen(tmp_path):
    columns.import_csv(table(tmp_path), tmp_path / "w")
    tables = tables_of(loading.load(tmp_path / "w", 50, "m2"))
    assert set(tables["scores"]["checkpoint"]) == {"step0", "step1000", "step4000"}
    across = tables.across("scores")
    assert list(across.columns)[0] == "suite" and len(across) == 2 * len(tables["scores"])
    at = across.set_index(["suite", "task", "checkpoint"])["base"]
    assert (at["m1", "piqa", "step1000"], at["m2", "piqa", "step1000"]) == (0.2111, 0.3111)
    with pytest.raises(AmuroError, match=r"no series 'm3'[\s\S]*m1, m2"):
        loading.load(tmp_path / "w", 50, "m3")


def test_scores_without_standard_errors_are_never_called_clear(tmp_path):
    lines = [f"m,{step},piqa,0.{step}" for step in (5, 6, 7, 8)]
    columns.import_csv(table(tmp_path, lines, "model,step,task,value"), tmp_path / "w")
    tables = tables_of(loading.load(tmp_path / "w", 50))
    (line,) = tables["learned"].to_dict("records")
    assert line["group"] == "unknown (no standard errors)" and math.isnan(line["rise_low"])
    assert line["rise"] == pytest.approx(0.3)
    said = list(tables.analyses["learned"].sentences(tables.results, tables))
    assert said == [] and not tables["turning_point"]["above_baseline"].any()
    shown = tables.analyses["turning_point"].shown(tables["turning_point"])
    assert list(shown["reached at"]) == ["not tested: no standard errors"]


def test_an_imported_file_that_is_damaged_is_named(tmp_path):
    columns.import_csv(table(tmp_path), tmp_path / "w")
    (path,) = (tmp_path / "w" / "imported").iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="damaged") as caught:
        Store.open(tmp_path / "w").frame()
    assert path.name in str(caught.value.where)
