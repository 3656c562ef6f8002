"""What numbers without rows tell by themselves."""

import pytest

from amuro_jax.analyses.registry import tables_of
from amuro_jax.evals.audit import audit_store
from amuro_jax.interchange import columns, paper
from amuro_jax.results import loading
from tests.analyses import published


def imported(tmp_path, lines, header="model,step,task,value,stderr"):
    (tmp_path / "t.csv").write_text("\n".join([header, *lines]))
    columns.import_csv(tmp_path / "t.csv", tmp_path / "w")
    return tmp_path / "w"


def codes(workdir):
    return sorted(
        {
            (one.code, one.where.split(" ")[0])
            for found in audit_store(workdir).values()
            for one in found
        }
    )


def test_the_share_of_a_label_is_recognised(tmp_path):
    lines = ["m,1,paws,0.5576,0.0055", "m,2,paws,0.60,0.0055", "m,3,mnli_matched,0.3273,0.0047"]
    workdir = imported(tmp_path, [*lines, "m,4,piqa,0.558,0.01", "m,5,paws,0.558,"])
    assert codes(workdir) == [("near_label_share", "step1"), ("near_label_share", "step3")]
    (first,) = [
        one for found in audit_store(workdir).values() for one in found if "paws" in one.where
    ]
    assert "'no' is 0.5580 (4,464 of 8,000 rows)" in first.what and first.severity == "warning"


@pytest.mark.parametrize(
    "first,flagged", [("100,qqp,0.9997", True), ("100,qqp,0.97", False), ("600,qqp,0.9997", False)]
)
def test_a_model_that_is_right_before_it_is_trained_has_one_gold_label(tmp_path, first, flagged):
    lines = [f"m,{first},0.0001", "m,5000,qqp,0.95,0.0001", "m,9000,qqp,0.99,0.0001"]
    found = codes(imported(tmp_path, lines))
    assert bool(found) == flagged and {code for code, _ in found} <= {"perfect_from_the_start"}


def test_sets_with_options_of_their_own_are_not_judged_by_it(tmp_path):
    assert codes(imported(tmp_path, ["m,1,sciq,0.99,0.001", "m,900,sciq,0.99,0.001"])) == []


def test_the_published_tables_are_flagged_unprompted(shared, tmp_path):
    paper.import_paper(published.tables(shared), tmp_path)
    table = tables_of(loading.load(tmp_path, 50))["audit"]
    base = table[table["tuned_on"] == ""]
    perfect = base[base["code"] == "perfect_from_the_start"]
    assert set(perfect["task"]) == {"qqp", "stsb"} and set(perfect["severity"]) == {"error"}
    near = base[base["code"] == "near_label_share"]
    at = near.set_index(["task", "checkpoint", "format", "shots"])["what"]
    assert "score 0.5580" in at["paws", "main", "default", 4]
    assert "'contradiction' is 0.3274" in at["mnli_matched", "main", "default", 4]
    assert "'entailment' is 0.3545" in at["mnli_matched", "step1000", "default", 4]
