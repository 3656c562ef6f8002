"""Prompts, byte for byte: the published formatter's, and the corrected form."""

import dataclasses

import numpy as np
import pytest

from amuro_jax.data import formats
from amuro_jax.data.protocols import PAPER, STRICT, published_averages, resolve
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import TASKS, get_task
from amuro_jax.data.task import DataSource, Task, quirk
from amuro_jax.data.types import Example
from amuro_jax.errors import ConfigError

from .worlds import make_tokenizer, nli_rows, write_rows

NO_QUIRKS, GOLD_SHOWN = "", "+gold_in_prompt"


def row(**fields):
    return Example(0, "0", fields, "gold")


SOCIAL = row(context="C.", A="a1", B="b2", C="c3")
SCIQ = row(context="S.", A="right", B="w1", C="w2", D="w3")

PUBLISHED = [
    ("xsum", "default", row(document="D"), "### Input: D\n ### Summary: "),
    (
        "xsum",
        "instruct",
        row(document="D"),
        "Please read the following text: D Provide a summary: ",
    ),
    ("xsum", "io", row(document="D"), "D"),
    ("cnn", "io", row(document="D"), "### Input: D\n ### Summary: "),
    (
        "mnli_matched",
        "default",
        row(premise="P", hypothesis="H"),
        "### Input_1: P\n ### Input_2: H\n ### Inference: ",
    ),
    (
        "mnli_matched",
        "instruct",
        row(premise="P", hypothesis="H"),
        "Consider the following texts: Text 1: P Text 2: H The relation is ",
    ),
    ("mnli_matched", "io", row(premise="P", hypothesis="H"), "P H"),
    (
        "paws",
        "default",
        row(sentence1="A", sentence2="B"),
        "### Input_1: A\n ### Input_2: B\n ### Paraphrase Classification: ",
    ),
    (
        "paws",
        "instruct",
        row(sentence1="A", sentence2="B"),
        "Let\u2019s compare the two sentences: Sentence_1: A Sentence_2: B "
        "Are they paraphrasing?: ",
    ),
    (
        "socialiqa",
        "default",
        SOCIAL,
        "### Input: C.\n ### Answer: Answer A: a1 Answer B: b2Answer C: c3\n ### Question: ",
    ),
    (
        "socialiqa",
        "instruct",
        SOCIAL,
        "Given the context: C. And the answer: Answer A: a1 Answer B: b2Answer C: c3"
        "Generate a suitable question: ",
    ),
    ("socialiqa", "io", SOCIAL, "C.a1b2c3"),
    (
        "sciq",
        "default",
        SCIQ,
        "### Input: S.\n ### Answer: Answer A: right Answer B: w1 Answer C: w2"
        "Answer D: w3\n ### Question: ",
    ),
    (
        "sciq",
        "instruct",
        SCIQ,
        "Given the context: S. And the answer: Answer A: right Answer B: w1Answer C: w2"
        "Answer D: w3Generate a suitable question: ",
    ),
    (
        "tweetqa",
        "default",
        row(context="T", A="a"),
        "### Input: T\n ### Answer: a\n ### Question: ",
    ),
    (
        "tweetqa",
        "instruct",
        row(context="T", A="a"),
        "Given the context: T And the answer: aGenerate a suitable question: ",
    ),
]


@pytest.mark.parametrize(
    "task,name,example,text",
    PUBLISHED,
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_published_bytes(task, name, example, text):
    assert formats.prompt(example, get_task(task), name, PAPER) == text


def test_strict_has_spaces_and_no_trailing_one():
    assert formats.prompt(SOCIAL, get_task("socialiqa"), "default", STRICT).endswith(
        "Answer A: a1 Answer B: b2 Answer C: c3\n ### Question:"
    )
    assert (
        formats.prompt(SOCIAL, get_task("socialiqa"), "io", STRICT)
        == "C. Answer A: a1 Answer B: b2 Answer C: c3"
    )
    assert formats.prompt(row(document="D"), get_task("cnn"), "io", STRICT) == "D"


def test_strict_shuffles_the_options_of_sciq_and_paper_does_not():
    places = []
    for number in range(40):
        text = formats.prompt(
            Example(number, "0", SCIQ.fields, "q"), get_task("sciq"), "default", STRICT
        )
        places.append(next(letter for letter in "ABCD" if f"Answer {letter}: right" in text))
    assert set(places) == set("ABCD")


@pytest.mark.parametrize(
    "name", [name for name, task in TASKS.items() if task.kind in ("classification", "generation")]
)
@pytest.mark.parametrize("base", formats.FORMATS)
def test_every_set_has_every_format_and_every_perturbation(name, base):
    task = get_task(name)
    own = formats.template_fields(formats.FRAMES[task.frame]["default"])
    fields = {field: f"<{field}>" for field in ("A", "B", "C", "D", *own) if field != "answer"}
    example = row(**{"context": "<context>"} | fields)
    texts = {
        variant: formats.prompt(example, task, variant, STRICT)
        for variant in formats.perturbations_of(base, False)
    }
    assert all(text == text.rstrip() and "{" not in text for text in texts.values())
    shown = [
        field
        for field in formats.template_fields(formats.FRAMES[task.frame][base])
        if field != "answer"
    ]
    assert all(
        f"<{field}>" in text for field in shown for text in texts.values()
    )  # a perturbation never touches the row's own text
    if base == "default":
        assert len(set(texts.values())) >= len(texts) - 1  # headings are in title case already


def test_label_words_change_everywhere_or_nowhere(tmp_path):
    write_rows(tmp_path, "glue_mnli", "train", nli_rows(12))
    write_rows(tmp_path, "glue_mnli", "validation_matched", nli_rows(6, "tree"))
    query = build_queries(
        get_task("mnli_matched"), "default~labels=truth", 3, STRICT, data_root=str(tmp_path)
    )[1]
    assert (
        query.continuations == ((" true", "true"), (" unknown", "unknown"), (" false", "false"))
        and query.reference == "unknown"
    )
    assert "entailment" not in query.context and query.context.count("### Inference: ") == 3


def test_switches_act_alone():
    assert resolve("strict", ("+published_templates",)).name == "strict+published_templates"
    assert resolve("paper", ("-no_stop",)).name == "paper-no_stop"
    assert formats.prompt(
        row(document="D"), get_task("xsum"), "default", resolve("strict", ("+published_templates",))
    ).endswith(": ")
    with pytest.raises(ConfigError, match="unknown quirk"):
        resolve("strict", ("no_stop",))


@pytest.mark.parametrize(
    "protocol,quirks,on",
    [
        ("strict", "", False),
        ("strict", "+published_averages", True),
        ("paper", "", True),
        ("paper", ("-published_averages", "-no_stop"), False),
    ],
)
def test_published_averages_belong_to_the_report(protocol, quirks, on):
    """They change no score, so they are no part of what a score's key is made of."""
    assert published_averages(protocol, quirks) == on
    others = tuple(part for part in ("-no_stop",) if part in quirks)
    assert resolve(protocol, quirks) == resolve(protocol, others)
    assert "published_averages" not in resolve(protocol, quirks).switches()


def test_misspelt_quirks_and_protocols_are_answered_with_the_nearest():
    for arguments, meant in ((("papr",), "paper"), (("paper", ("-nostop",)), "no_stop")):
        with pytest.raises(ConfigError) as found:
            resolve(*arguments)
        assert f"did you mean '{meant}'?" in found.value.hint


LLMBAR = Example(0, "0", {"instruction": "I", "first": "x", "second": "y"}, "2", ("1", "2"), 1)


def test_gold_in_the_prompt_of_llmbar_only_where_asked():
    def text(quirks):
        return formats.prompt(LLMBAR, get_task("llmbar"), "default", resolve("strict", quirks))

    assert text(NO_QUIRKS).endswith("### Better Output:")
    assert text(GOLD_SHOWN).endswith("### Better Output: 2")


def test_llmbar_is_the_released_conversation(tmp_path):
    """The answer is the assistant's first turn, and a second one is asked for; shots are no chat.
    Rows come in the order of the released file.
    """
    rows = [
        {"input": f"do {i}", "output_1": "aa", "output_2": f"b{i}", "label": 1 + i % 2}
        for i in range(9)
    ]
    write_rows(tmp_path, "llmbar", "Natural", rows)
    order = np.random.default_rng(42).permutation(9)

    def user(place):
        i = order[place]
        head = f"### Instruction: do {i}### Output_1: aa\n ### Output_2: b{i}\n "
        return head + "### Instruction Following: "

    def answer(place):
        return str(1 + order[place] % 2)

    for end, tokenizer in (("<|endoftext|>", None), ("<|end|>", make_tokenizer("<|end|>"))):
        made = build_queries(
            get_task("llmbar"), "default", 2, PAPER, tokenizer, data_root=str(tmp_path)
        )
        shots = "".join(f"{user(place)}{answer(place)}\n" for place in range(2))
        assert len(made) == 9 and made[5].shared == len(shots)
        assert made[5].context == (
            f"{shots}{end}<|user|>\n{user(5)}\n<|assistant|>\n{answer(5)}{end}\n<|assistant|>\n"
        )
        assert made[5].continuations == ((" 1", "1"), (" 2", "2"))
        assert made[5].reference == answer(5)


def test_every_quirk_changes_fields_that_there_are():
    fields = {field.name for kind in (Task, DataSource) for field in dataclasses.fields(kind)}
    for task in TASKS.values():
        for entry in task.quirks:
            assert entry.switch in STRICT.switches() and set(dict(entry.changes)) <= fields
        assert task.under(STRICT) == task
        assert task.under(PAPER).under(PAPER) == task.under(PAPER)
        assert (task.under(PAPER) != task) == bool(task.quirks)


def test_a_quirk_is_in_force_under_its_own_switch_only():
    task = dataclasses.replace(
        get_task("xsum"),
        quirks=(
            quirk("published_templates", templates=(("io", "only {document}"),)),
            quirk("published_splits", test=("train",), order_seed=1),
        ),
    )
    example = row(document="D")
    assert formats.prompt(example, task, "io", STRICT) == "D"
    assert formats.prompt(example, task, "io", PAPER) == "only D"
    assert formats.prompt(example, task, "default", PAPER) == "### Input: D\n ### Summary: "
    assert task.under(STRICT).source == task.source
    own = dataclasses.replace(task, templates=(("instruct", "own {document}"),))
    assert formats.prompt(example, own, "instruct", PAPER) == "own D"  # the quirk has no instruct
    assert task.under(PAPER).source.test == ("train",)


NOT_RELEASED = {
    "cnn": {"io"},
    "sciq": {"io"},
    "tweetqa": {"io"},
    "rte": {"io"},
    "gpt3nli": {"io"},
    "qqp": {"io"},
    "stsb": {"io"},
    "xsum": set(),
    "paws": set(),
    "mnli_matched": set(),
    "llmbar": {"instruct", "io"},
    "arc_easy": {"instruct", "io"},
    "lab_nli": set(),
    "piqa": set(),
}


@pytest.mark.parametrize("name", NOT_RELEASED)
def test_formats_that_the_released_code_does_not_have_are_known(name):
    task = get_task(name)
    missing = {base for base in formats.FORMATS if task.lacks_published(base, PAPER)}
    assert missing == NOT_RELEASED[name]
    assert not any(task.lacks_published(base, STRICT) for base in formats.FORMATS)


def test_unknown_formats(tmp_path):
    with pytest.raises(ConfigError, match="unknown format") as found:
        formats.parse_format("instuct")
    assert "did you mean 'instruct'?" in found.value.hint
    with pytest.raises(ConfigError, match="unknown perturbation"):
        formats.parse_format("default~sep=comma")
    own = dataclasses.replace(get_task("paws"), templates=(("mine", "{premiss}"),))
    assert formats.parse_format("mine", own) == ("mine", {})
    with pytest.raises(ConfigError, match="names a field"):
        formats.prompt(row(sentence1="p", sentence2="h"), own, "mine", STRICT)
    with pytest.raises(ConfigError, match="no template"):
        formats.template_of(dataclasses.replace(own, frame="own"), "io", STRICT)
