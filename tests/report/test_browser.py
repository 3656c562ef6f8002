"""The page in a real browser: filters, hovers, drills down, restores a shared view, asks the
network for nothing, and is accessible.
"""

import base64
import gzip
import json
import re
import shutil
import threading
from pathlib import Path

import pytest

from amuro_jax.report import report
from amuro_jax.report.serve import Server
from amuro_jax.results import plan
from amuro_jax.results.store import Store
from tests.study import synthetic

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(not BROWSER, reason="no browser on this machine")
HOSTILE = "</style><script>document.title = 'run'</script><b>bold"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a made-up study, one of whose generated texts is hostile."""
    folder = tmp_path_factory.mktemp("browser")
    synthetic.make_store(folder, rows=20, steps=(16, 160, 1600))
    store = Store.open(folder)
    cell = next(one for one in plan.read_plan(store.storage).cells if one.task == "lab_summary")
    rows = store.rows(cell.key)
    rows.loc[0, "prediction"] = HOSTILE
    store.commit(store.read(cell.key), rows)
    return Path(report.write_report(folder)), cell.key


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        made = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def visit(browser, page):
    """Opens the page with a fragment; every test ends with an empty console and no request for
    anything but the file.
    """
    opened = []

    def open_page(fragment="", width=1440, scheme="light", path=None):
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab.set_default_timeout(8_000)
        tab.said, tab.asked = [], []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.goto((path or page[0]).as_uri() + fragment)
        tab.wait_for_selector("body[data-ready=yes]")
        opened.append(tab)
        return tab

    yield open_page
    for tab in opened:
        assert not tab.said
        assert all(url.startswith(("file:", "blob:", "data:")) for url in tab.asked), tab.asked
        tab.close()


def shown(tab):
    """(set, kind of model) of the score table's rows."""
    rows = tab.locator("#score-rows tr").all()
    return [(row.get_attribute("data-task"), row.get_attribute("data-model")) for row in rows]


def fragment(tab):
    return tab.evaluate("location.hash")


def test_sets_models_and_formats_are_chosen_and_kept_in_the_address(visit):
    tab = visit()
    assert len(shown(tab)) == 9 and tab.locator(".panel").count() == 4
    tab.click("#menu-sets summary")
    tab.click("#menu-sets button:text('none')")
    tab.check("#menu-sets input[value=lab_nli]")
    assert shown(tab) == [("lab_nli", "base"), ("lab_nli", "fine-tuned")]
    assert fragment(tab) == "#sets=lab_nli"
    tab.keyboard.press("Escape")
    tab.click("#menu-formats summary")
    tab.check("#menu-formats input[value=io]")
    tab.keyboard.press("Escape")
    tab.click("#menu-models summary")
    tab.uncheck("#menu-models input[value=base]")
    assert shown(tab) == [("lab_nli", "fine-tuned")]
    assert fragment(tab) == "#sets=lab_nli&formats=io&models=fine-tuned"
    again = visit(fragment(tab))
    assert shown(again) == [("lab_nli", "fine-tuned")]
    assert "io" in again.locator("#score-rows tr").inner_text()


def test_a_shared_view_is_restored(visit):
    tab = visit("#sets=lab_nli,lab_attributes&models=base&from=step160&axis=tokens&find=attr")
    assert shown(tab) == [("lab_attributes", "base")]
    assert tab.locator("#score-lines thead th").count() == 5 + 2
    assert "pre-training tokens" in tab.locator("#curves").inner_text()
    assert tab.input_value("#find") == "attr"


def test_an_anchor_is_no_view_and_unfolds_its_target(visit):
    tab = visit("#flag-near_majority")
    assert len(shown(tab)) == 9
    assert tab.locator("#flag-near_majority").get_attribute("open") is not None
    assert fragment(tab) == "#flag-near_majority"


def test_a_broken_fragment_stops_nothing(visit):
    tab = visit("#sets=%E0%A4%A&cell=nothing&sort=x:y&axis=z&from=q")
    assert tab.locator("#controls").is_visible()


def test_a_point_tells_its_value_and_marks_its_checkpoint_everywhere(visit):
    tab = visit()
    cell = tab.evaluate(
        "(({value, low, high}) => ({value, low, high}))"
        "(document.querySelector('.panel svg').points[1].cell)"
    )
    mark = tab.locator(".panel").first.locator(".mark").nth(1)
    mark.evaluate("one => one.scrollIntoView({block: 'center', behavior: 'instant'})")
    mark.hover(force=True)  # the band of another line may lie above it
    tip = tab.locator("#tip").inner_text()
    assert f"{cell['value']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})" in tip
    assert "accuracy, 20 rows" in tip and "step160" in tip
    assert tab.locator("#score-rows td.linked[data-at='1']").count() == len(shown(tab))
    places = tab.evaluate(
        "[...document.querySelectorAll('.guide')].map(one => one.attributes.d.value)"
    )
    across = tab.evaluate("document.querySelector('.panel svg').points[1].sx")
    assert len(places) == 4 and set(places) == {f"M{across:.1f} 12V210"}
    visible = tab.evaluate("getComputedStyle(document.querySelector('.guide')).visibility")
    assert visible == "visible"


SCALES = """[...document.querySelectorAll('.panel')].map((panel) => {
  const svg = panel.querySelector('svg');
  const points = svg.points.map((one) => [one.cell.value, one.sy]);
  const [low, high] = [points.reduce((a, b) => (b[0] < a[0] ? b : a)),
                       points.reduce((a, b) => (b[0] > a[0] ? b : a))];
  const slope = (high[1] - low[1]) / (high[0] - low[0]);
  const ticks = [...svg.querySelectorAll('text[text-anchor=end]')]
    .map((one) => [Number(one.textContent.replace('−', '-')), Number(one.getAttribute('y')) - 4]);
  return {metric: panel.querySelector('small').textContent, zero: low[1] - slope * low[0], slope,
          ticks, off: points.filter((one) => one[1] < 12 || one[1] > 210).length};
})"""


def test_panels_of_one_metric_have_one_vertical_range_unless_it_is_chosen_otherwise(visit):
    common, own = visit().evaluate(SCALES), visit("#range=own").evaluate(SCALES)
    for panels, ranges in ((common, 2), (own, 4)):  # accuracy of three sets, ROUGE-L of one
        assert sorted(one["metric"] for one in panels) == ["ROUGE-L"] + ["accuracy"] * 3
        scales = {(one["metric"], round(one["slope"]), round(one["zero"])) for one in panels}
        assert len(scales) == ranges, scales
        for one in panels:
            assert not one["off"] and len(one["ticks"]) > 1
            for value, place in one["ticks"]:  # a label stands at its value
                assert abs(one["zero"] + one["slope"] * value - place) < 0.6


def test_the_keyboard_reads_and_opens_points(visit):
    tab = visit()
    tab.locator(".panel svg").first.focus()
    tab.keyboard.press("ArrowRight")
    assert "step16" in tab.locator("#tip").inner_text()
    tab.keyboard.press("Enter")
    assert tab.locator("#cell").is_visible()
    tab.keyboard.press("Escape")
    assert not tab.locator("#cell").is_visible() and fragment(tab) == ""


def test_the_table_is_sorted_by_any_column(visit):
    tab = visit()

    def column(place):
        cells = tab.locator(f"#score-rows tr td:nth-child({place})").all_inner_texts()
        return [float(text.split()[0].replace("−", "-")) for text in cells]

    tab.click("#score-lines th:nth-child(8) button")
    assert column(8) == sorted(column(8))
    tab.click("#score-lines th:nth-child(8) button")
    assert column(8) == sorted(column(8), reverse=True)
    assert "sort=at-step1600%3Adescending" in fragment(tab)
    assert tab.locator("#score-rows tr b").count() == 9  # every row names its set now


def test_from_a_score_to_a_row_and_the_same_row_elsewhere(visit):
    tab = visit()
    tab.locator("#score-rows tr").nth(1).locator("td button").last.click()
    dialog = tab.locator("#cell")
    assert "lab_nli, after lab_nli" in dialog.locator("h2").inner_text()
    dialog.locator("#rows .row").nth(2).locator("summary").first.click()
    row = dialog.locator("#rows .row").nth(2)
    row.get_by_text("chosen").first.wait_for()  # made when the row is opened
    assert "−1.000" in row.inner_text() and "chosen" in row.inner_text()
    row.locator(".elsewhere summary").click()
    marks = row.locator(".elsewhere td button")
    marks.first.wait_for()
    assert marks.count() == 15  # three checkpoints, three models, the main format; two in io
    address = fragment(tab)
    assert "cell=" in address and "row=2" in address
    again = visit(address)
    assert "lab_nli, after lab_nli" in again.locator("#cell h2").inner_text()
    again.locator("#rows .row[open]").wait_for()
    assert again.locator("#rows .row[open]").get_attribute("data-row") == "2"


def test_a_mean_over_seeds_shows_what_each_seed_answers(visit, tmp_path):
    synthetic.make_store(tmp_path, rows=12, steps=(16, 1600), seeds=(1, 2, 5))
    tab = visit(path=Path(report.write_report(tmp_path)))
    tab.locator("#score-rows tr").nth(1).locator("td button").last.click()
    dialog = tab.locator("#cell")
    assert "a mean over training seeds 1, 2, 5" in dialog.locator("#rows .note").inner_text()
    marks = dialog.locator("#rows .row .mark").all_inner_texts()
    assert len(marks) == 12 and all(
        re.fullmatch(r"[✓✗] [0-3] of 3 seeds right", one) for one in marks
    )
    row = dialog.locator("#rows .row").filter(has_text=re.compile("[12] of 3 seeds")).first
    assert "seed 5: label" in row.locator("summary").first.inner_text()
    row.locator("summary").first.click()
    row.locator(".by-seed tbody tr").nth(2).wait_for()  # made when the row is opened
    assert row.locator(".by-seed tbody tr").count() == 3
    assert "seed 1" in row.locator("h4", has_text="Candidates").inner_text()


def test_rows_are_chosen_by_what_became_of_them(visit, page):
    tab = visit()
    tab.locator("#score-rows tr").nth(1).locator("td button").last.click()
    tab.locator("#rows select").wait_for()
    tab.select_option("#rows select", "gained")
    words = tab.locator("#rows select option:checked").inner_text()
    count = int(re.search(r"\((\d+)\)", words)[1])
    assert count > 0 and tab.locator("#rows .row").count() == count
    assert all("right" in text for text in tab.locator("#rows .row").all_inner_texts())


def test_a_row_is_always_text(visit, page):
    tab = visit(f"#cell={page[1]}")
    first = tab.locator("#rows .row .said").first
    first.wait_for()
    assert first.inner_text() == HOSTILE
    assert tab.title() != "run"


def test_how_a_number_was_made_is_a_command(visit):
    tab = visit()
    tab.locator("#score-rows tr").nth(1).locator("td button").last.click()
    words = tab.locator("#cell .made").inner_text()
    assert "amuro train" in words and "--config.recipe.task=lab_nli" in words
    assert "--config.tasks=lab_nli" in words and "work/again/train/model" in words


def test_what_is_shown_is_downloaded(visit):
    tab = visit("#sets=lab_nli&models=base")
    with tab.expect_download() as waiting:
        tab.click("#csv")
    lines = Path(waiting.value.path()).read_text().splitlines()
    assert lines[0].startswith("study,task,tuned_on,format") and len(lines) == 4
    with tab.expect_download() as waiting:
        tab.click("#svg")
    drawn = Path(waiting.value.path()).read_text()
    assert drawn.startswith("<svg") and "lab_nli" in drawn and "var(--" not in drawn


def test_rows_are_asked_of_the_server(browser, page):
    folder = page[0].parents[1]
    with Server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = browser.new_page()
        tab.set_default_timeout(8_000)
        asked, said = [], []
        tab.on("request", lambda request: asked.append(request.url.removeprefix(server.url)))
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(server.url)
        tab.wait_for_selector("body[data-ready=yes]")
        assert asked == [""]
        tab.locator("#score-rows td button").first.click()
        tab.locator("#rows .row").first.wait_for()
        assert tab.locator("#rows .row").count() == 20 and not said
        assert all(one.startswith("rows/") for one in asked[1:])
        tab.close()
        server.shutdown()


@pytest.mark.slow
def test_two_studies_are_side_by_side(visit, page, tmp_path):
    other = tmp_path / "other"
    synthetic.make_store(other, rows=15, steps=(16, 160), name="the other", formats=("default",))
    shutil.copytree(page[0].parents[1], tmp_path / "first")
    path = Path(report.write_report(tmp_path / "first", other))
    tab = visit("#sets=lab_nli", path=path)
    rows = tab.locator("#score-rows tr").all_inner_texts()
    assert len(rows) == 4 and sum("the other" in row for row in rows) == 2
    assert "missing" in rows[1] and "missing" not in rows[0]  # it has no step1600
    names = tab.evaluate(
        "document.querySelector('.panel svg').points.map(one => one.line.study.name)"
    )
    assert names.count("made up") == 6 and names.count("the other") == 4
    tab.locator("#score-rows tr").nth(1).locator("td button").first.click()
    assert "in its own report" in tab.locator("#rows").inner_text()
    mine, other = (float(row.split("\t")[5].split()[0]) for row in rows[:2])
    words = tab.locator("#cell .other").inner_text()
    assert f"made up: {mine:.3f}" in words
    assert f"{other - mine:+.3f}".replace("-", "−") in words or abs(other - mine) < 1e-9


def test_no_other_script_runs(visit, page, tmp_path):
    """The page's policy allows its own script alone."""
    text = page[0].read_text()
    text = text.replace("<main", '<script>document.title = "run"</script><main', 1)
    changed = tmp_path / "changed.html"
    changed.write_text(text)
    tab = visit(path=changed)
    assert tab.title() != "run"
    assert any("Content Security Policy" in line for line in tab.said)
    tab.said.clear()


def test_everything_is_there_without_the_script(browser, page):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page[0].as_uri())
    assert tab.locator("#score-table").is_visible()
    assert not tab.locator(".lively").first.is_visible()
    context.close()


def test_the_packed_study_is_compressed_json(page):
    text = page[0].read_text()
    packed = re.search(r'id="study">(.*?)</script>', text)[1]
    study = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert study["name"] == "made up" and len(study["cells"]["key"]) == 45


SERIOUS = ("serious", "critical")


@pytest.mark.slow  # axe reads every node of the page: 5 s for each width and scheme
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "width", [390, *(pytest.param(wide, marks=pytest.mark.slow) for wide in (1440, 2560))]
)
def test_no_serious_violation_of_accessibility(visit, page, width, scheme):
    import axe_playwright_python

    axe = Path(axe_playwright_python.__file__).parent / "axe.min.js"
    tab = visit(width=width, scheme=scheme)
    tab.evaluate(axe.read_text())
    tab.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true; })")
    for part in ("main", "#cell"):
        if part == "#cell":
            tab.evaluate("document.querySelector('#score-rows td button').click()")
            tab.locator("#rows .row").first.wait_for()
        # Which nodes pass is of no interest, and most of the time.
        found = tab.evaluate(f"axe.run('{part}', {{resultTypes: ['violations']}})")
        grave = [
            (one["id"], len(one["nodes"]), one["nodes"][0]["html"][:200])
            for one in found["violations"]
            if one["impact"] in SERIOUS
        ]
        assert not grave, grave
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
