"""Special ids of tokenizer files: bos and eos as transformers reads them, every eos, templates in
each place where they are kept.
"""

import datetime
import itertools
import json

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from amuro_jax.data.tokenizer import Tokenizer, render_chat
from amuro_jax.errors import DataError

transformers = pytest.importorskip("transformers")
BOS, EOS, PAD, TURN = "<s>", "</s>", "<pad>", "<|im_end|>"
CLASSES = ("PreTrainedTokenizerFast", "GPTNeoXTokenizer", "GPTNeoXTokenizerFast")
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "<a> & 'b' \n"},
    {"role": "assistant", "content": " é "},
]


@pytest.fixture(scope="module")
def backend():
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = [EOS, PAD, BOS, TURN, "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["the cat sat on the mat"] * 9,
        trainers.BpeTrainer(vocab_size=290, special_tokens=special, initial_alphabet=alphabet),
    )
    return made


def write(folder, backend, adds=False, config=None, generation=None, chat="", **names):
    """The files of a tokenizer."""
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    if adds:
        bos = names.get("bos_token") or BOS
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    files = {"tokenizer_config": names, "config": config, "generation_config": generation}
    for name, content in files.items():
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    if chat:
        (folder / "chat_template.jinja").write_text(chat)
    return folder


@pytest.mark.parametrize(
    "kind,adds,flag,bos",
    list(itertools.product(CLASSES, (False, True), (None, False, True), (BOS, None, "absent"))),
)
def test_bos_is_what_transformers_makes_of_the_files(kind, adds, flag, bos, backend, tmp_path):
    names = {"tokenizer_class": kind, "eos_token": EOS}
    names |= {} if bos == "absent" else {"bos_token": bos}
    names |= {} if flag is None else {"add_bos_token": flag}
    folder = write(tmp_path, backend, adds, **names)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.load(folder)
    if flag and kind.startswith("GPTNeoX"):
        return  # transformers 5.23 drops this class's flag; 4 followed it, as we do
    begun = theirs.bos_token_id is not None and theirs.encode("the")[0] == theirs.bos_token_id
    first = theirs.eos_token_id if theirs.bos_token_id is None else theirs.bos_token_id
    assert (ours.bos_id, ours.start_id, bool(ours.prefix_ids)) == (
        theirs.bos_token_id,
        first,
        begun,
    )


def test_every_eos_id_ends_a_text(backend, tmp_path):
    turn, end = backend.token_to_id(TURN), backend.token_to_id("<|endoftext|>")
    folder = write(
        tmp_path,
        backend,
        config={"eos_token_id": [end, 9999]},  # one that the vocabulary does not have
        generation={"eos_token_id": [end, turn]},
        eos_token={"content": EOS},
        pad_token=PAD,
    )
    made = Tokenizer.load(folder)
    assert made.eos_id == end and made.eos_ids == (end, turn, backend.token_to_id(EOS))
    assert made.fingerprint != Tokenizer(backend, end, None, 1).fingerprint
    assert made.own_eos_id == made.start_id == backend.token_to_id(EOS)
    ids = [*made.encode("the cat"), turn, backend.token_to_id(PAD), end]
    assert made.decode(ids, skip_special=True) == "the cat"
    assert made.decode(ids) == f"the cat{TURN}{PAD}<|endoftext|>"


def test_named_tokens_are_special_even_unmarked(tmp_path):
    """An eos that is an ordinary word of the vocabulary is no text."""
    made = tokenizers.Tokenizer(models.WordLevel({"a": 0, "END": 1, "x": 2}, unk_token="x"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = write(tmp_path, made, eos_token="END")
    assert Tokenizer.load(folder).decode([0, 1], skip_special=True) == "a"


TEMPLATES = {
    "plain": "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    "trimmed": "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}",
    "json": "{% for m in messages %}{{ m.content | tojson }}\n{% if loop.index == 9 %}{% break %}"
    "{% endif %}{% endfor %}{{ strftime_now('%Y') }}",
    "marked": "{% for m in messages %}{{ m.role }}: {% generation %}{{ m.content }}"
    "{% endgeneration %}\n{% endfor %}",
}


@pytest.mark.parametrize("mode", [{}, {"generate": True}, {"go_on": True}], ids=str)
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_chats_are_rendered_as_transformers_does(name, mode, backend, tmp_path):
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    special["tokenizer_class"] = "PreTrainedTokenizerFast"
    folder = write(tmp_path, backend, chat=TEMPLATES[name], **special, chat_template="not this one")
    theirs = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(
        CHAT,
        tokenize=False,
        add_generation_prompt=mode.get("generate", False),
        continue_final_message=mode.get("go_on", False),
    )
    made = render_chat(Tokenizer.load(folder), CHAT, **mode)
    assert made == theirs and "é" in made
    if name == "json":
        assert str(datetime.date.today().year) in made or mode.get("go_on")


def test_a_template_among_several_and_one_that_refuses(backend, tmp_path):
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    made = Tokenizer.load(write(tmp_path, backend, eos_token=EOS, chat_template=several))
    assert render_chat(made, CHAT) == "yes"
    with pytest.raises(DataError, match="drops the last message"):
        render_chat(made, CHAT, go_on=True)
    refusing = "{{ raise_exception('roles must alternate') }}"
    made = Tokenizer.load(write(tmp_path, backend, eos_token=EOS, chat_template=refusing))
    with pytest.raises(DataError, match="refuses: roles must alternate"):
        render_chat(made, CHAT)
