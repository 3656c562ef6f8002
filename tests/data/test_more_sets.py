"""Native rows of the sets that are not among the small local ones, and a user's own."""

import pytest

from amuro_jax.data.protocols import PAPER, STRICT
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import TASKS, get_task
from amuro_jax.errors import ConfigError, DataError

from .worlds import write_rows


def queries(name, root, shots=0, protocol=STRICT, format="default"):
    return build_queries(get_task(name), format, shots, protocol, data_root=str(root))


def test_mmlu_has_groups_and_shots_from_dev(tmp_path):
    rows = [
        {
            "question": f"Q{i}",
            "subject": f"s{i % 2}",
            "choices": ["p", "q", "r", "s"],
            "answer": i % 4,
        }
        for i in range(6)
    ]
    write_rows(tmp_path, "mmlu", "test", rows)
    write_rows(tmp_path, "mmlu", "dev", rows)
    query = queries("mmlu", tmp_path, 1)[1]
    assert (query.group, query.gold, query.reference) == ("s1", 1, "q") and query.context.endswith(
        "\n\nQuestion: Q1\nAnswer:"
    )
    assert queries("mmlu", tmp_path, format="io")[0].context == "Q0"


def test_truthfulqa_moves_the_right_answer(tmp_path):
    rows = [
        {
            "question": f"Q{i}",
            "mc1_targets": {"choices": ["right", "w1", "w2", "w3"], "labels": [1, 0, 0, 0]},
        }
        for i in range(30)
    ]
    write_rows(tmp_path, "truthfulqa", "validation", rows)
    made = queries("truthfulqa", tmp_path)
    assert {query.gold for query in made} == {0, 1, 2, 3} and {
        query.reference for query in made
    } == {"right"}
    assert {query.gold for query in queries("truthfulqa", tmp_path, protocol=PAPER)} == {0}


def test_gsm8k_generates_until_a_blank_line(shared):
    query = queries("gsm8k", shared)[0]
    assert (
        query.metric == "exact_number"
        and query.new_tokens == 256
        and "\n\n" in query.stop
        and query.reference.endswith("#### 18")
    )


def test_stsb_scores_become_labels(tmp_path):
    rows = [
        {"sentence1": "a", "sentence2": "b", "label": score, "idx": 0}
        for score in (3.5, 3.6, 5.0, 0.0)
    ]
    write_rows(tmp_path, "glue_stsb", "validation", rows)
    assert [query.reference for query in queries("stsb", tmp_path)] == ["no", "yes", "yes", "no"]
    write_rows(tmp_path, "glue_stsb", "test", [rows[0] | {"label": -1.0}])
    assert queries("stsb", tmp_path, protocol=PAPER)[0].reference == "no"


def test_published_hellaswag_is_cleaned(tmp_path):
    row = {
        "ind": 1,
        "activity_label": "Baking",
        "ctx_a": "Mix [title] the [step] dough.",
        "ctx_b": "she",
        "label": "0",
    }
    row["endings"] = ["bakes  it", "eats"]
    write_rows(tmp_path, "hellaswag", "validation", [row])
    paper = queries("hellaswag", tmp_path, protocol=PAPER)[0]
    assert paper.context == "Baking: Mix.  the dough. She".replace(
        "  ", " "
    ) and paper.continuations[0] == (" bakes it",)
    assert queries("hellaswag", tmp_path)[0].context == "Baking: Mix [title] the [step] dough. she"


def test_sciq_without_support_begins_with_the_question(shared):
    query = next(q for q in queries("sciq_choice", shared) if q.context.startswith("Question: "))
    assert "\nAnswer:" in query.context and query.gold == 3


YAML = """
name: my_nli
kind: classification
folder: my_nli
frame: nli
fields: {premise: sent_a, hypothesis: sent_b}
gold: answer
labels: [entailment, neutral, contradiction]
test: [test]
"""


def test_a_set_of_ones_own(tmp_path):
    (tmp_path / "mine.yaml").write_text(YAML)
    write_rows(
        tmp_path,
        "my_nli",
        "test",
        [
            {"sent_a": "p", "sent_b": "h", "answer": "neutral"},
            {"sent_a": "p", "sent_b": "h", "answer": 2},
        ],
    )
    made = queries(str(tmp_path / "mine.yaml"), tmp_path)
    assert (
        [q.gold for q in made] == [1, 2]
        and made[0].context == "### Input_1: p\n ### Input_2: h\n ### Inference:"
        and made[0].task == "my_nli"
    )


def test_a_column_called_answer_of_ones_own(tmp_path):
    text = "name: quest\nkind: generation\nfolder: quest\nframe: question\n"
    text += "fields: {context: c, answer: a}\ncompletion: q\ntest: test\n"
    (tmp_path / "quest.yaml").write_text(text)
    write_rows(tmp_path, "quest", "test", [{"c": "Snow fell.", "a": "white", "q": "Which colour?"}])
    assert (
        queries(str(tmp_path / "quest.yaml"), tmp_path)[0].context
        == "### Input: Snow fell.\n ### Answer: white\n ### Question:"
    )


def test_ones_own_templates_and_options(tmp_path):
    text = "name: quiz\nkind: multiple_choice\nfolder: quiz\nfields: {question: q}\n"
    text += "gold: right\nchoices: [o1, o2]\ntest: test\n"
    text += "templates: {default: 'Quiz: {question} ='}\n"
    (tmp_path / "quiz.yaml").write_text(text)
    write_rows(
        tmp_path,
        "quiz",
        "test",
        [
            {"q": "1+1", "o1": "2", "o2": "3", "right": 0},
            {"q": "1+2", "o1": "2", "o2": "3", "right": "3"},
        ],
    )
    made = queries(str(tmp_path / "quiz.yaml"), tmp_path)
    assert (
        [q.gold for q in made] == [0, 1]
        and made[0].context == "Quiz: 1+1 ="
        and made[0].continuations == ((" 2",), (" 3",))
    )
    write_rows(tmp_path, "quiz", "test", [{"q": "1+1", "o1": "2", "right": 0}])
    with pytest.raises(DataError, match="column 'o2' is missing"):
        queries(str(tmp_path / "quiz.yaml"), tmp_path)


def test_a_file_adds_nothing_to_the_registry_and_may_change(tmp_path):
    before = dict(TASKS)
    path = tmp_path / "mine.yaml"
    for label in ("entailment", "implied"):
        path.write_text(YAML.replace("entailment", label))
        assert get_task(str(path)).labels[0] == label
    assert before == TASKS
    with pytest.raises(ConfigError, match="unknown task 'my_nli'"):
        get_task("my_nli")


def test_roles_of_a_file(tmp_path):
    """A set that a study fine-tunes on is crossed, unless the file says otherwise."""
    path = tmp_path / "mine.yaml"
    path.write_text(YAML)
    assert get_task(str(path)).roles == ("in_domain", "cross_task")
    path.write_text(YAML + "roles: [in_domain]\n")
    assert get_task(str(path)).roles == ("in_domain",)


MISSPELT = [
    ("kind: classification", "kind: clasification", "classification"),
    ("frame: nli", "frame: nil", "nli"),
    ("gold:", "golds:", "gold"),
    ("test: [test]", "roles: [cross_tasks]", "cross_task"),
    ("test: [test]", "metric: acuracy", "accuracy"),
    ("test: [test]", "primary: per_tokens", "per_token"),
    ("test: [test]", "family: parafrase", "paraphrase"),
]


@pytest.mark.parametrize("old,new,meant", MISSPELT)
def test_a_misspelt_word_of_a_file_is_answered_with_the_nearest(tmp_path, old, new, meant):
    (tmp_path / "mine.yaml").write_text(YAML.replace(old, new))
    with pytest.raises(ConfigError) as found:
        get_task(str(tmp_path / "mine.yaml"))
    assert f"did you mean '{meant}'?" in found.value.hint


def test_a_misspelt_set_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown task") as found:
        get_task("mnli_match")
    assert "did you mean 'mnli_matched'?" in found.value.hint


def test_a_family_of_ones_own(tmp_path):
    (tmp_path / "mine.yaml").write_text(YAML + "family: geography\n")
    assert get_task(str(tmp_path / "mine.yaml")).family == "geography"


@pytest.mark.parametrize(
    "change,message",
    [
        (("kind: classification", "kind: guess"), "unknown kind"),
        (("gold: answer", ""), "gold is missing"),
        (("frame: nli", "frame: nil"), "unknown frame"),
        (("gold:", "golden:"), "unknown name 'golden'"),
        (("folder: my_nli", ""), "neither hub nor folder"),
        (("name: my_nli", "name: paws"), "already"),
        (("frame: nli", "templates: {default: '{premiss}'}"), "names a field 'premiss'"),
        (("fields: {", "fields: ["), "not YAML"),
    ],
)
def test_faults_of_a_task_file(tmp_path, change, message):
    (tmp_path / "mine.yaml").write_text(YAML.replace(*change))
    with pytest.raises(ConfigError, match=message):
        get_task(str(tmp_path / "mine.yaml"))
