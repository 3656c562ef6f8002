"""A store with known answers: tables, plotted data, page and findings must give them back."""

import html.parser
import pathlib

import numpy as np
import pytest

from amuro_jax.analyses.registry import tables_of
from amuro_jax.report import page, report
from amuro_jax.results import loading
from tests.study import synthetic

STEPS, ROWS = (16, 160, 1600), 80
CHECKPOINTS = [f"step{step}" for step in STEPS]
TRUTH = {  # set, fine-tuning set: score at each checkpoint
    ("lab_nli", ""): (0.35, 0.35, 0.35),
    ("lab_nli", "lab_nli"): (0.35, 0.60, 0.90),
    ("lab_nli", "lab_summary"): (0.35, 0.30, 0.20),
    ("lab_nli_ood", ""): (0.35, 0.35, 0.35),
    ("lab_nli_ood", "lab_nli"): (0.30, 0.20, 0.15),
    ("lab_summary", ""): (0.10, 0.20, 0.30),
    ("lab_summary", "lab_summary"): (0.35, 0.55, 0.85),
    ("lab_summary", "lab_nli"): (0.10, 0.15, 0.20),
    ("lab_attributes", ""): (0.25, 0.55, 0.85),
    ("lab_attributes", "lab_nli"): (0.25, 0.50, 0.75),
    ("lab_attributes", "lab_summary"): (0.25, 0.50, 0.75),
}


def truth(task, tuned_on, progress):
    return TRUTH[task, tuned_on][round(2 * progress)]


def score(task, tuned_on, place, io=False):
    """What the store holds: the share of right rows, or the mean of the texts' scores."""
    value, draws = TRUTH[task, tuned_on][place] - 0.05 * io, (np.arange(ROWS) + 0.5) / ROWS
    if task == "lab_summary":
        return np.clip(value + 0.2 * (draws - 0.5), 0, 1).mean()
    return (draws < value).mean()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("golden")
    synthetic.make_store(made, rows=ROWS, steps=STEPS, truth=truth, noise=0.0)
    return made


@pytest.fixture(scope="module")
def tables(folder):
    return tables_of(loading.load(folder))


@pytest.fixture(scope="module")
def text(folder):
    return pathlib.Path(report.write_report(folder)).read_text()


def curve(task, tuned_on):
    return pytest.approx([score(task, tuned_on, place) for place in range(3)])


def test_plotted_curves_are_the_scores(tables):
    spec = report.draw(tables)["scores"]
    panels = {panel.title: panel for panel in spec.panels}
    for task, own in [("lab_nli", "lab_nli"), ("lab_summary", "lab_summary")]:
        base, tuned = panels[task].series
        assert (base.label, base.color, list(base.y)) == ("base", "base", curve(task, ""))
        assert (tuned.label, tuned.color, list(tuned.y)) == (
            "fine-tuned",
            "tuned",
            curve(task, own),
        )
        assert list(base.names) == CHECKPOINTS and list(base.x) == sorted(base.x)
        assert all(
            low <= y <= high for low, y, high in zip(base.low, base.y, base.high, strict=True)
        )


def test_curves_in_the_page_are_the_scores(text):
    svg = text[text.index('id="scores"') :]
    panel = svg[svg.index("<h4>lab_nli</h4>") :]
    for place, step in enumerate(CHECKPOINTS):
        for label, tuned_on in (("base", ""), ("fine-tuned", "lab_nli")):
            title = f"<title>{label}, {step}: {score('lab_nli', tuned_on, place):.3f} ("
            assert title in panel[: panel.index("</svg>")]


class Rows(html.parser.HTMLParser):
    """Texts of the table cells of a page, by line."""

    def __init__(self):
        super().__init__()
        self.lines, self.inside = [], False

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.lines.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.lines[-1].append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.lines[-1][-1] += data


def test_the_score_table_has_base_and_fine_tuned_scores(text):
    parser = Rows()
    start = text.index('id="score-table"')
    parser.feed(text[start : text.index("</table>", start)])
    lines = {line[0]: [cell.split(" ")[0] for cell in line[1:]] for line in parser.lines[1:]}
    assert lines["lab_nlibase, accuracy"] == ["0.350", "0.350", "0.350"]
    place = list(lines).index("lab_nlibase, accuracy")
    assert list(lines)[place + 1] == "after lab_nli"
    order = [[cell.split(" ")[0] for cell in line[1:]] for line in parser.lines[1:]]
    assert order[place + 1] == ["0.350", "0.600", "0.900"]
    half = parser.lines[1 + place + 1][3].split("±")[1]
    assert float(half) == pytest.approx(1.96 * np.sqrt(0.9 * 0.1 / ROWS), abs=0.01)


def test_changes_by_hand(tables):
    def value(name, **at):
        table = tables[name]
        for column, wanted in at.items():
            table = table[table[column] == wanted]
        return table["change"].item()

    gain = score("lab_nli", "lab_nli", 2) - score("lab_nli", "", 2)
    at = {"task": "lab_nli", "tuned_on": "lab_nli", "checkpoint": "step1600", "format": "default"}
    assert value("gains", **at) == pytest.approx(gain) and gain == pytest.approx(0.55)
    outside = [score("lab_nli_ood", "lab_nli", i) - score("lab_nli_ood", "", i) for i in range(3)]
    assert value("ood_change", task="lab_nli_ood") == pytest.approx(np.mean(outside))
    lost = [score("lab_summary", "lab_nli", i) - score("lab_summary", "", i) for i in range(3)]
    at = {"task": "lab_summary", "tuned_on": "lab_nli"}
    assert value("task_transfer", **at) == pytest.approx(np.mean(lost)) and np.mean(lost) < -0.04
    pre = np.mean(
        [
            score("lab_attributes", name, 2) - score("lab_attributes", "", 2)
            for name in ("lab_nli", "lab_summary")
        ]
    )
    found = value("gain_by_group", group="learned in pre-training", checkpoint="step1600")
    assert found == pytest.approx(pre) and pre < -0.09


def test_groups_and_turning_points_by_hand(tables):
    groups = tables["learned"].set_index("task")
    assert groups["group"].to_dict() == {
        "lab_nli": "learned in fine-tuning",
        "lab_summary": "learned in fine-tuning",
        "lab_attributes": "learned in pre-training",
    }
    assert groups.loc["lab_attributes", "rise"] == pytest.approx(0.6, abs=0.01)
    points = tables["turning_point"].set_index(["task", "tuned_on"])
    assert points.loc[("lab_nli", "lab_nli"), "reached"] == "step1600"
    assert not points.loc[("lab_nli", ""), "above_baseline"]
    assert points.loc[("lab_nli", ""), "reached"] == ""


def test_questions_are_ordered_by_their_clearest_finding(tables):
    questions = page.findings(tables)
    leading = [one["first"] for one in questions if one["first"]]
    assert 0 < len(leading) <= page.FIRST_FINDINGS
    effects = [one["effect"] for one in leading]
    assert effects == sorted(effects, reverse=True) and all(one["clear"] for one in leading)
    for question in questions:
        texts = [one["text"] for one in question["sentences"]]
        assert question["first"] is None or question["first"]["text"] in texts
        assert question["counted"].startswith(str(len(texts)))


def test_the_findings_word_by_word(tables):
    said = [one["text"] for question in page.findings(tables) for one in question["sentences"]]
    assert sorted(said) == sorted(FINDINGS)


FINDINGS = [
    "lab_nli_ood tuned on lab_nli gets worse with more pre-training: 0.300 at step16, 0.150 at the "
    "end (fall at least 0.062; the best checkpoint lies between step16 and step16).",
    "No fall of the fine-tuned score with more pre-training can be seen in 4 other curves "
    "(Holm's correction included; the widest 95 % "
    "interval, of lab_nli, excludes falls of more than 0.000).",
    "Multiple choice at step1600 is clearly worse after fine-tuning in 2 of 2 scores; lowest "
    "change −0.100 (95 % interval −0.163 to −0.037), on lab_attributes after lab_nli.",
    "Base, last − first: of 2 effects that are clear over test rows, 2 (100%) stay clear when rows "
    "and format are counted.",
    "Gain at the last checkpoint: of 4 effects that are clear over test rows, 4 (100%) stay clear "
    "when rows and format are counted.",
    "Fine-tuned, last − first: of 4 effects that are clear over test rows, 4 (100%) stay clear "
    "when rows and format are counted.",
    (
        "Learned in pre-training: lab_attributes (default: +0.600 ± 0.106); in that format "
        "the last base model lies clearly above the first one and above the baseline."
    ),
    (
        "Learned only in fine-tuning, the last checkpoint against its fine-tuned version: "
        "lab_nli (in default, 2 of 2 formats: +0.550 ± 0.112) and lab_summary (in default, 2 "
        "of 2 formats: +0.550 ± 0.000). In no format is the base model clearly above the "
        "baseline and its start."
    ),
    (
        "Sets learned in pre-training (lab_attributes): fine-tuning step1600 changes the mean"
        " score by −0.100 (95 % interval −0.163 to −0.037); a gain is clear at 0 and a loss "
        "at 1 of 3 checkpoints (Holm)."
    ),
    (
        "Sets learned in fine-tuning (lab_nli and lab_summary): fine-tuning step1600 changes "
        "the mean score by +0.550 (95 % interval +0.494 to +0.606); a gain is clear at 3 and "
        "a loss at 0 of 3 checkpoints (Holm)."
    ),
    (
        "More pre-training makes for a better fine-tuned model, first to last checkpoint: "
        "lab_nli (0.350 → 0.900) and lab_summary (0.350 → 0.850)."
    ),
    (
        "The fine-tuned model of the last checkpoint is clearly better than every earlier "
        "one: lab_nli and lab_summary."
    ),
    (
        "Too few rows to tell the last checkpoint from the one at half of pre-training: "
        "lab_nli_ood (80 rows, 150 needed)."
    ),
    (
        "Out of domain, fine-tuning on lab_nli changes lab_nli_ood by −0.133 (95 % interval "
        "−0.196 to −0.071); in domain +0.267 ± 0.060, in the same format (default); mean over"
        " checkpoints."
    ),
    (
        "Task transfer, classification → generation: mean change −0.050 (95 % interval −0.050"
        " to −0.050) over 3 pairs."
    ),
    (
        "Task transfer, generation → classification: mean change −0.067 (95 % interval −0.108"
        " to −0.029) over 3 pairs."
    ),
    (
        "Formats, last checkpoint, lab_nli: accuracy differs by 0.050 between best and worst "
        "format of the base model (best default, worst io; 0.019 expected from chance) and by"
        " 0.050 after fine-tuning (chance 0.019); the two are not distinguishable."
    ),
    (
        "Formats, last checkpoint, lab_summary: ROUGE-L differs by 0.050 between best and "
        "worst format of the base model (best default, worst io; 0.000 expected from chance) "
        "and by 0.050 after fine-tuning (chance 0.000); the two are not distinguishable."
    ),
    (
        "The base model's margin on an example says whether its fine-tuned model gets it right in "
        "15 of 15 comparisons (median agreement 0.95; 0.50 is chance)."
    ),
]
