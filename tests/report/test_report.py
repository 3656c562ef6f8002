"""The report of a made-up store: what must stand in it."""

import dataclasses
import html.parser
import pathlib
import re
import shutil

import pandas as pd
import pytest

from amuro_jax.errors import AmuroError
from amuro_jax.report import report
from amuro_jax.results import loading, plan
from amuro_jax.results.store import Store
from tests.study import synthetic

STEPS = (16, 160, 1600)
LOST = ("step160", "lab_nli", "", None, "lab_nli", "default", 4)
PARTS = """findings questions scores score-table learned learned_by_format gain_by_group
turning_point
ood_change
task_transfer transfer_by_kind transfer_by_checkpoint mrc_by_kind format_sensitivity format_spread
flags missing provenance tables"""
VOID = {"input", "meta", "path", "use", "rect", "circle", "line", "br", "link", "img"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    synthetic.make_store(folder, leave_out={LOST}, rows=60, steps=STEPS)
    report.write_report(folder)
    return folder


@pytest.fixture(scope="module")
def text(study):
    return (study / "report/index.html").read_text()


class Tags(html.parser.HTMLParser):
    """Collects ids and checks that elements close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src", "xlink:href") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_page_is_sound_and_self_contained(text, study):
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert len(tags.ids) == len(set(tags.ids))
    for link in tags.links:
        if link.startswith("#"):
            assert link[1:] in tags.ids
        else:
            assert link.startswith(("data:text/csv", "data:application/vnd.apache.parquet"))
    assert not re.search(r"url\((?!#)|@import|<script src", text)
    assert text.count("<script>") == 1 and "script-src 'sha256-" in text
    assert "connect-src" not in text  # it may ask for nothing, of its own folder neither


def test_every_part_is_there(text):
    for part in PARTS.split():
        assert f'id="{part}"' in text, part
    assert "not distinguishable" in text
    assert "prefers-color-scheme: dark" in text and "var(--c-base)" in text


def test_missing_cell_is_named_with_its_reason(text, study):
    assert "step160 + lab_nli: lab_nli default 4-shot" in text and "not computed yet" in text
    found = pd.read_csv(study / "report/tables/missing_cells.csv")
    assert len(found) == 1 and found["checkpoint"].iloc[0] == "step160"


def test_tables_and_figures_are_written(study):
    cells = pd.read_csv(study / "report/tables/cells.csv")
    asked = plan.read_plan(Store.open(study).storage)
    assert len(cells) == len(asked.cells) - 1
    for name in ("cells", "learned", "dictionary"):
        as_csv = pd.read_csv(study / f"report/tables/{name}.csv")
        as_parquet = pd.read_parquet(study / f"report/tables/{name}.parquet")
        assert list(as_csv.columns) == list(as_parquet.columns) and len(as_csv) == len(as_parquet)
    assert {path.stem for path in (study / "report/figures").glob("*.png")} == {
        path.stem for path in (study / "report/figures").glob("*.svg")
    }
    assert (study / "report/figures/scores.png").stat().st_size > 10_000


def test_auditor_speaks_of_the_cells_it_means(text):
    assert 'class="dot warning"' in text and "near majority" in text


def test_summary_has_scores_with_errors(study):
    lines = report.summary(study).splitlines()
    assert re.search(
        r"lab_nli +step1600 +0\.\d{3} ± 0\.\d{3} +0\.\d{3} ± 0\.\d{3}", "\n".join(lines)
    )
    assert any("step160 " in line and "–" in line for line in lines)
    assert lines[-1].startswith("missing: 1 cells")


def test_the_summary_has_no_line_of_a_checkpoint_without_scores(tmp_path):
    """An adaptive study leaves most of them without one."""
    synthetic.make_store(tmp_path, rows=20, steps=(16, 160, 1600))
    store = Store.open(tmp_path)
    for cell in plan.read_plan(store.storage).cells:
        if cell.model.checkpoint == "step160" and cell.task == "lab_nli":
            shutil.rmtree(tmp_path / "cells" / cell.key)
    lines = [line for line in report.summary(tmp_path).splitlines() if "step160 " in line]
    assert lines and not any(line.startswith("lab_nli ") for line in lines)


def test_cells_of_another_configuration_stay_out(study, tmp_path):
    """A workdir keeps what earlier configurations computed; a report is of the last one only."""
    synthetic.make_store(tmp_path, rows=40, steps=(16, 1600))
    store = Store.open(tmp_path)
    foreign = dataclasses.replace(store.records()[0], key="f" * 16)
    store.commit(foreign, [{"row": 0, "score": 1.0}])
    assert "f" * 16 not in set(loading.load(tmp_path, 50).cells["key"])


def test_no_study_is_a_readable_error(tmp_path):
    with pytest.raises(AmuroError, match="no results here"):
        report.write_report(tmp_path)


def test_damaged_cells_are_missing_by_name(tmp_path):
    synthetic.make_store(tmp_path, rows=20, steps=(16, 1600))
    ways = [
        (name, content)
        for name in ("rows.parquet", "cell.json")
        for content in (b"", b"PAR1 cut", b"{}")
    ]
    damaged = plan.read_plan(Store.open(tmp_path).storage).cells[: len(ways)]
    for cell, (name, content) in zip(damaged, ways, strict=True):
        (tmp_path / "cells" / cell.key / name).write_bytes(content)
    text = pathlib.Path(report.write_report(tmp_path)).read_text()
    for cell in damaged:
        assert f"{cell.label()} – damaged, run the study again" in text
    missing = loading.load(tmp_path, 50).missing
    assert set(missing["key"]) == {cell.key for cell in damaged}
    assert missing["why"].str.startswith("damaged").all()


def test_an_emptied_folder_of_a_cell_is_a_missing_cell(tmp_path):
    synthetic.make_store(tmp_path, rows=20, steps=(16, 1600))
    cell = plan.read_plan(Store.open(tmp_path).storage).cells[0]
    for path in (tmp_path / "cells" / cell.key).iterdir():
        path.unlink()
    assert list(loading.load(tmp_path, 50).missing["key"]) == [cell.key]
