"""Tokenizer and training encodings: special ids, offsets, what is learned."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amuro_jax.data.encoding import encode_training_set, subsample
from amuro_jax.data.protocols import PAPER, STRICT
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer, check_eos, open_tokenizer, render_chat
from amuro_jax.errors import CheckpointError, DataError

from .worlds import make_tokenizer, nli_rows, write_rows

TOKENIZER = make_tokenizer()


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60))
def test_offsets_cover_the_text_and_decoding_gives_it_back(text):
    ids, offsets = TOKENIZER.encode_with_offsets(text)
    assert ids == TOKENIZER.encode(text) == TOKENIZER.encode_batch([text])[0]
    covered = sorted({place for start, end in offsets for place in range(start, end)})
    assert covered == list(range(len(text))) and TOKENIZER.decode(ids) == text


def test_a_saved_tokenizer_is_the_same(tmp_path):
    TOKENIZER.save(tmp_path / "t")
    again = Tokenizer.load(tmp_path / "t")
    assert (
        again.eos_id == TOKENIZER.eos_id
        and again.pad_id == TOKENIZER.pad_id
        and again.encode(" neutral") == TOKENIZER.encode(" neutral")
    )
    assert again.fingerprint == TOKENIZER.fingerprint == open_tokenizer(tmp_path / "t").fingerprint


def test_the_wrong_eos_is_noticed(tmp_path):
    TOKENIZER.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 5}))
    wrong = Tokenizer.load(tmp_path)
    assert wrong.eos_id == 5 and "eos id 5 is" in check_eos(wrong) and check_eos(TOKENIZER) is None
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 99999}))
    with pytest.raises(CheckpointError, match="not in the vocabulary"):
        Tokenizer.load(tmp_path)
    with pytest.raises(CheckpointError, match="missing"):
        Tokenizer.load(tmp_path / "nowhere")


def test_the_released_tokenizers_end_texts_with_different_ids(shared):
    names = ("allenai_gpt-neox-olmo-dolma-v1_5.json", "allenai_dolma2.json")
    first, second = (Tokenizer.from_file(shared / "tokenizers" / name) for name in names)
    assert (first.eos_id, first.token(0), first.token(1)) == (
        50279,
        "|||IP_ADDRESS|||",
        "<|padding|>",
    ) and second.eos_id == 100257
    assert "eos id 0 is '|||IP_ADDRESS|||'" in check_eos(
        Tokenizer.from_file(shared / "tokenizers" / names[0], eos_id=0)
    )


def test_a_chat_template_of_the_checkpoint():
    made = make_tokenizer()
    made.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    )
    made.chat_template += "{% if add_generation_prompt %}[assistant]{% endif %}"
    assert (
        render_chat(made, [{"role": "user", "content": "hi"}], generate=True)
        == "[user]hi<|endoftext|>[assistant]"
    )


def training_set(root, name="mnli_matched", protocol=STRICT, tokenizer=TOKENIZER, **options):
    return encode_training_set(
        get_task(name), "default", protocol, tokenizer, data_root=str(root), **options
    )


def encode(root, name="mnli_matched", protocol=STRICT, **options):
    return training_set(root, name, protocol, **options).examples


def test_prompt_and_completion_are_tokenised_together_and_the_completion_is_learned(tmp_path):
    write_rows(tmp_path, "glue_mnli", "train", nli_rows(9))
    for example in encode(tmp_path):
        text = TOKENIZER.decode(example.tokens[:-1])
        assert (
            list(example.tokens) == TOKENIZER.encode(text) + [TOKENIZER.eos_id]
            and example.loss_mask[-1]
        )
        assert (
            TOKENIZER.decode(example.tokens[example.loss_mask][:-1])
            == " " + ("entailment", "neutral", "contradiction")[example.row % 3]
        )
        assert text.count("### Inference: ") == 1 and not text.endswith(" ")


def test_paper_learns_the_same_text_by_its_own_rule(tmp_path):
    write_rows(tmp_path, "glue_mnli", "train", nli_rows(9))
    strict, paper = encode(tmp_path), encode(tmp_path, protocol=PAPER)
    assert all(
        (a.tokens == b.tokens).all() and (a.loss_mask == b.loss_mask).all()
        for a, b in zip(strict, paper, strict=True)
    )


def test_long_rows_are_cut_in_the_document_and_counted(tmp_path):
    write_rows(
        tmp_path,
        "xsum",
        "train",
        [{"document": "grey stone " * 60, "summary": "A stone.", "id": "0"}],
    )
    (example,) = encode(tmp_path, "xsum", max_length=40)
    assert len(example.tokens) <= 40 and example.truncated > 0
    assert TOKENIZER.decode(example.tokens).endswith("\n ### Summary: A stone.<|endoftext|>")


def test_chat_turns_of_the_assistant_are_learned_with_their_end(tmp_path):
    turns = [
        ("system", "be brief"),
        ("user", "no stone?"),
        ("assistant", "yes stone"),
        ("user", "grey"),
        ("assistant", "lies there"),
    ]
    row = {"id": "c", "messages": [{"role": role, "content": content} for role, content in turns]}
    write_rows(tmp_path, "tulu_v2", "train", [row])
    (example,) = encode(tmp_path, "tulu")
    text = "<|system|>\nbe brief\n<|user|>\nno stone?\n<|assistant|>\nyes stone<|endoftext|>\n"
    text += "<|user|>\ngrey\n<|assistant|>\nlies there<|endoftext|>\n"
    assert TOKENIZER.decode(example.tokens) == text
    assert (
        TOKENIZER.decode(example.tokens[example.loss_mask])
        == "yes stone<|endoftext|>lies there<|endoftext|>"
    )
    size = len(example.tokens)
    (short,) = encode(tmp_path, "tulu", max_length=size - 5)
    assert len(short.tokens) == size - 5 and short.truncated == 5


LONG = [
    {"document": "grey stone " * count, "summary": summary, "id": str(index)}
    for index, (count, summary) in enumerate(
        [(2, "A stone."), (200, "A stone."), (2, "stone " * 200), (200, "stone " * 200)]
    )
]


@pytest.mark.parametrize("protocol,left", [(PAPER, {0, 2}), (STRICT, {0, 1})])
def test_rows_with_nothing_to_learn_are_left_out_and_counted(tmp_path, caplog, protocol, left):
    """`paper` cuts at the end: a long prompt leaves nothing. `strict` cuts the document: a
    completion that does not fit leaves nothing.
    """
    write_rows(tmp_path, "xsum", "train", LONG)
    made = training_set(tmp_path, "xsum", protocol, max_length=40)
    assert {example.row for example in made.examples} == left
    assert made.dropped == 2 and made.truncated == 1
    assert all(example.loss_mask[1:].any() for example in made.examples)
    assert "2 of 4 training rows are left out" in caplog.text


def test_a_set_of_which_nothing_is_left_is_refused(tmp_path):
    write_rows(tmp_path, "xsum", "train", LONG[3:])
    for protocol in (PAPER, STRICT):
        with pytest.raises(DataError, match="none of 1 training rows of xsum has a token to learn"):
            training_set(tmp_path, "xsum", protocol, max_length=40)


def test_paper_keeps_the_white_space_around_a_completion(tmp_path):
    row = {"document": "Grey stone", "summary": " A stone. \n", "id": "0"}
    write_rows(tmp_path, "xsum", "train", [row])
    (paper,), (strict,) = (encode(tmp_path, "xsum", protocol) for protocol in (PAPER, STRICT))
    prompt = "### Input: Grey stone\n ### Summary: "
    assert TOKENIZER.decode(paper.tokens) == prompt + " A stone. \n<|endoftext|>"
    assert TOKENIZER.decode(strict.tokens) == prompt + "A stone.<|endoftext|>"


def released_chat(messages, tokenizer, max_length):
    """(ids, learned) by the rule of the released trainer, which counts the tokens of the
    conversation up to each turn. Written from its description, not from our encoder.
    """
    end = tokenizer.token(tokenizer.eos_id)

    def size(turns, tail=""):
        return len(tokenizer.encode(text_of(turns) + tail)[:max_length])

    def text_of(turns):
        ends = {"system": "\n", "user": "\n", "assistant": end + "\n"}
        return "".join(
            f"<|{turn['role']}|>\n{turn['content'].strip()}{ends[turn['role']]}" for turn in turns
        )

    ids = tokenizer.encode(text_of(messages).strip())[:max_length]
    labels = list(ids)
    for place, turn in enumerate(messages):
        if turn["role"] != "assistant":
            answer = messages[place + 1 :][:1]
            header = "<|assistant|>\n" if answer and answer[0]["role"] == "assistant" else ""
            for index in range(size(messages[:place]), size(messages[: place + 1], header)):
                labels[index : index + 1] = [None] * len(labels[index : index + 1])
    return ids, [label is not None for label in labels]


def assert_chat_as_released(root, rows, tokenizer, max_length):
    made = training_set(root, "tulu", PAPER, tokenizer, rows=None, max_length=max_length)
    expected = [released_chat(row["messages"], tokenizer, max_length) for row in rows]
    assert made.dropped == sum(not any(learned) for _, learned in expected)
    for example in made.examples:
        ids, learned = expected[example.row]
        assert list(example.tokens) == ids and list(example.loss_mask) == learned


def chat(*turns):
    roles = ("user", "assistant") * 4
    return {"messages": [{"role": r, "content": c} for r, c in zip(roles, turns, strict=False)]}


TURNS = [
    chat("stone?", "yes grey "),
    chat(" no\n", "stone lies", "grey?", " there"),
    chat("a", "b", "c", "d", "e", "f"),
    chat("a", "b", "the last turn is not answered"),
    {"messages": [{"role": "system", "content": "be brief"}, *chat("stone?", "no")["messages"]]},
    {"messages": [{"role": "user", "content": "a"}, *chat("b", "c")["messages"]]},
    chat("grey stone " * 60, "too late to be learned"),
]


@pytest.mark.parametrize("max_length", [2048, 60, 48])
def test_paper_encodes_chats_as_the_released_trainer(tmp_path, max_length):
    write_rows(tmp_path, "tulu_v2", "train", TURNS)
    assert_chat_as_released(tmp_path, TURNS, TOKENIZER, max_length)
    two_turns = encode(tmp_path, "tulu", PAPER, rows=None)
    two_turns = next(example for example in two_turns if example.row == 1)
    learned = TOKENIZER.decode(two_turns.tokens[two_turns.loss_mask])
    assert learned == "stone lies<|endoftext|>\nthere<|endoftext|>"


@pytest.mark.parametrize("max_length", [2048, 256])
def test_paper_encodes_real_chats_as_the_released_trainer(shared, tmp_path, max_length):
    name = "allenai_gpt-neox-olmo-dolma-v1_5.json"
    tokenizer = Tokenizer.from_file(shared / "tokenizers" / name)
    path = shared / "instruct_messages" / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert_chat_as_released(shared, rows, tokenizer, max_length)
    joined = [
        {"messages": [*first["messages"], *second["messages"]]}
        for first, second in zip(rows, rows[1:], strict=False)
    ]
    write_rows(tmp_path, "tulu_v2", "train", joined)
    assert_chat_as_released(tmp_path, joined, tokenizer, max_length)


def test_the_subsample_is_the_one_of_the_datasets_library():
    import datasets

    order = datasets.Dataset.from_dict({"i": list(range(100))}).shuffle(seed=42)["i"]
    np.testing.assert_array_equal(subsample(100, 10, 42), list(order)[:10])


def test_label_tokens_of_the_study(shared):
    """Quirk 2: eleven sub-tokens compete under OLMo's tokenizer, ten of them distinct."""
    tokenizer = Tokenizer.from_file(shared / "tokenizers" / "allenai_gpt-neox-olmo-dolma-v1_5.json")
    words = ("entailment", "neutral", "contradiction")
    pieces = [
        token for word in words for form in (" " + word, word) for token in tokenizer.encode(form)
    ]
    assert len(pieces) == 11 and len(set(pieces)) == 10


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_a_shared_beginning_changes_no_token(head, tails):
    texts = [f"{head}\n{tail}" for tail in tails]
    assert TOKENIZER.encode_batch(texts, len(head) + 1) == [
        TOKENIZER.encode(text) for text in texts
    ]
    assert TOKENIZER.encode_batch_with_offsets(texts, len(head) + 1) == [
        TOKENIZER.encode_with_offsets(text) for text in texts
    ]


@pytest.mark.parametrize("name", ["allenai_gpt-neox-olmo-dolma-v1_5.json", "allenai_dolma2.json"])
def test_a_shared_beginning_of_real_prompts(shared, name):
    from amuro_jax.data.queries import build_queries

    tokenizer = Tokenizer.from_file(shared / "tokenizers" / name)
    for format in ("default", "io"):
        queries = build_queries(
            get_task("rte"), format, 4, STRICT, tokenizer, data_root=str(shared)
        )
        texts = [query.context for query in queries]
        assert tokenizer._separable(texts[0], queries[0].shared)
        assert tokenizer.encode_batch(texts, queries[0].shared) == [
            tokenizer.encode(text) for text in texts
        ]
    pairs = [
        ("stone", "  lies"),
        ("stone", "\n\n lies"),
        ("stone\n", "lies"),
        ("stone\n", "  lies"),
        ("stone  ", "lies"),
        ("a?", "\u0301b"),
    ]
    for head, tail in pairs:
        assert tokenizer.encode_batch([f"{head}\n{tail}"], len(head) + 1) == [
            tokenizer.encode(f"{head}\n{tail}")
        ]
