"""The page of imported results: scores without rows, errors, intervals or a plan."""

import base64
import gzip
import json
import re
from pathlib import Path

import pytest

from amuro_jax.interchange.columns import import_csv
from amuro_jax.report import report

PERFECT = [f"m1,{step},0,qqp,acc,0.9999,0.0001" for step in (10, 1000, 4000)]
LINES = [
    "model,step,shots,task,metric,value,stderr",
    *(
        f"{model},{step},0,{task},acc,{0.3 + step / 1e4},{error}"
        for model in ("m1", "m2")
        for step in (0, 1000, 4000)
        for task, error in (("piqa", 0.01), ("sciq", ""))
    ),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    (folder / "table.csv").write_text("\n".join(LINES) + "\n")
    import_csv(folder / "table.csv", folder / "work")
    return Path(report.write_report(folder / "work", suite="m2")).read_text()


def test_what_is_unknown_is_null_and_nothing_else(page):
    packed = re.search(r'id="study">(.*?)</script>', page)[1]

    def refuse(name):
        raise AssertionError(f"{name} is no JSON: the page's script could not read it")

    text = gzip.decompress(base64.b64decode(packed))
    study = json.loads(text, parse_constant=refuse)
    assert study["name"] == "m2" and len(study["cells"]["key"]) == 6
    assert set(study["cells"]["n"]) == {None}
    low = dict(zip(map(str, study["cells"]["set"]), study["cells"]["low"], strict=True))
    assert sorted(value is None for value in low.values()) == [False, True]  # sciq has no error
    assert [one["step"] for one in study["checkpoints"]] == [0, 1000, 4000]


def test_the_page_says_where_the_numbers_come_from(page):
    assert "Imported results: standard errors are the source" in page
    assert "imported from" in page and "table.csv" in page
    assert 'id="rows-of-0"' not in page and "scored rows" not in page


def test_what_the_auditor_says_of_imported_scores_is_a_finding(tmp_path):
    (tmp_path / "table.csv").write_text("\n".join([LINES[0], *PERFECT]) + "\n")
    import_csv(tmp_path / "table.csv", tmp_path / "work")
    text = Path(report.write_report(tmp_path / "work")).read_text()
    assert "<b>What is an artefact</b>" in text
    assert re.search(r'id="flag-perfect_from_the_start".*?3 scores of [a-z_]+\.', text, re.DOTALL)
    assert re.search(r"<b>3</b> <span>scores with a grave flag", text)
