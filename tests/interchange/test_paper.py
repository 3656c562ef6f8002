"""The study's published tables: which model, set, format and shots each line is, and faults."""

import pytest

from amuro_jax.errors import DataError
from amuro_jax.interchange import paper
from amuro_jax.results import loading
from tests.analyses import published

FIRST = ",model_id,eval dataset,Performance,std\n"
SECOND = ",model_id,eval dataset,Performance\n"
TUNED = "0,olmo1b_hf_ckpt1000_mnli_3epoch_2e-6_4shots,xsum_inputoutput,0.25,0.004\n"


def imported(tmp_path, text, name="all_perf_table.csv"):
    (tmp_path / name).write_text(text)
    paper.import_paper([tmp_path / name], tmp_path / "w")
    return loading.load(tmp_path / "w", 50).cells.set_index("tuned_on")


def test_a_line_says_model_set_format_and_shots(tmp_path):
    text = FIRST + TUNED + "1,olmo1b_original_hf_2shots,xsum,0.1,0.01\n"
    text += "2,olmo1b_hf_main_mnli_3epoch_2e-5,rte,0.5,0.01\n"
    cells = imported(tmp_path, text)
    first = cells.loc["mnli_matched"].iloc[0]
    assert (first["checkpoint"], first["task"], first["format"]) == ("step1000", "xsum", "io")
    assert (first["shots"], first["role"], first["metric"]) == (4, "cross_task", "rougeL")
    assert first["tokens"] == 1000 * 2048 * 2048
    base = cells.loc[""]
    assert (base["checkpoint"], base["step"], base["shots"]) == ("main", 738020, 2)
    assert set(cells["variant"]) == {"", "lr 2e-5"}


def test_a_share_of_known_rows_has_a_binomial_error_and_any_other_number_is_refused(tmp_path):
    cells = imported(tmp_path, SECOND + "0,checkpoint-1000,openbookqa,0.266\n", "b.csv")
    assert cells["stderr"].iloc[0] == pytest.approx((0.266 * 0.734 / 500) ** 0.5)
    assert cells["n"].iloc[0] == 500
    with pytest.raises(
        DataError, match="line 2, column Performance: 0.2665 is no share of the 500"
    ):
        imported(tmp_path, SECOND + "0,checkpoint-1000,openbookqa,0.2665\n", "b.csv")


@pytest.mark.parametrize(
    "old,new,why",
    [
        ("ckpt1000", "ckpt1001", "line 2, column model_id: step 1001 is no checkpoint"),
        ("_mnli_", "_mnlj_", "line 2, column model_id"),
        ("xsum_input", "xsun_input", "line 2, column eval dataset: 'xsun_inputoutput' is no set"),
        ("0.25", "25", "line 2, column Performance: 25 is not between 0 and 1"),
        ("0.25", "", "line 2, column Performance: is empty"),
        ("0.004", "0.9", "line 2, column std"),
        ("Performance", "performance", "no column 'Performance'"),
    ],
)
def test_a_line_that_is_no_score_of_the_study_is_named(tmp_path, old, new, why):
    with pytest.raises(DataError) as caught:
        imported(tmp_path, (FIRST + TUNED).replace(old, new))
    assert why in caught.value.what and "all_perf_table.csv" in str(caught.value.where)


def test_the_published_tables_are_imported_whole(shared, tmp_path):
    done = paper.import_paper(published.tables(shared), tmp_path)
    assert (done.cells, done.new, done.repeated) == (649 + 107, 756, 0)
    found = loading.load(tmp_path, 50)
    assert found.checkpoints == [*(f"step{step}" for step in paper.STEPS), "main"]
    assert set(found.formats("mnli_matched")) == {"default", "instruct", "io"}
    assert found.cells["stderr"].notna().all()
    why = found.missing.set_index(["task", "tuned_on", "checkpoint", "format"])["why"]
    assert set(why) == {"not in the imported results"}
