"""AmuroLM against HFLM on the same weights, request by request: tokenizers without a bos, with one
that is not added to texts, and with one that is; each kind of request; plain texts, chats, and
chats whose last message is continued.
"""

import copy
import json

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("lm_eval")
LENGTH = 48  # tokens of the context: truncation needs no long texts
BOS, EOS, PAD, TURN, NOTE = "<s>", "</s>", "<pad>", "<|im_end|>", "<|note|>"
TOKENIZERS = ("no bos", "bos unused", "bos added")
TEXT = ["### Input: The cat sat on the mat.\n ### Answer: neutral A dog ran. yes no é 語"] * 8
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
STRICT_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + TEMPLATE.replace("m.content", "m.content | trim")
)
CHATS = [
    [{"role": "user", "content": "The cat sat"}],
    [{"role": "system", "content": "A dog."}, {"role": "user", "content": "yes or no? "}],
    [
        {"role": "user", "content": "A dog ran"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "The mat\n"},
    ],
]
PREFIXES = ["Answer:", "The answer is ", "  neutral\n"]
TEXTS = [
    "The cat sat on",
    "A dog ",
    "### Input:",
    "yes é語 no\n",
    f"{BOS}The cat",
    " ran",
    "mat no " * 40,
]
ANSWERS = [" the mat", "neutral", " yes no", "語", "\nA dog ran.", " "]
UNTIL = [["e"], ["\n", "a"], ["the", "he"], ["é"], ["語"], [""], [], [TURN], "at", ["no n", "o "]]


def save_tokenizer(folder, kind, template=TEMPLATE):
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = [EOS, PAD, BOS, TURN, NOTE]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    )
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    if kind == "bos added":
        made.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, made.token_to_id(BOS))]
        )
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    names = {"eos_token": EOS, "pad_token": PAD, "chat_template": template}
    names |= {} if kind == "no bos" else {"bos_token": BOS}
    names["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """(torch model, Scorer, parameters): a small OLMo that EOS ends, and TURN in generation."""
    from amuro_jax import checkpoint
    from amuro_jax.convert.resolver import open_checkpoint
    from amuro_jax.scoring.scorer import Scorer

    folder = tmp_path_factory.mktemp("parity")
    save_tokenizer(folder / "model", "no bos")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.OlmoConfig(
        vocab_size=330,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=None,
        tie_word_embeddings=True,
        **sizes,
    )
    torch.manual_seed(3)
    torch.set_num_threads(1)
    model = transformers.OlmoForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
        model.model.embed_tokens.weight[[0, 3, 4]] *= 1.6  # special tokens come up in greedy texts
    model.generation_config.eos_token_id = [0, 3]
    model.save_pretrained(folder / "model")
    folder = open_checkpoint(str(folder / "model"), folder / "cache")
    config = checkpoint.read_config(folder)
    return model, Scorer(config), checkpoint.load_params(folder, config, None)


def pair_of(weights, folder, kind, template=TEMPLATE):
    """(AmuroLM, HFLM) with one of the tokenizers."""
    from lm_eval.models.huggingface import HFLM

    from amuro_jax.data.tokenizer import Tokenizer
    from amuro_jax.evals.lm_eval import AmuroLM

    model, scorer, params = weights
    save_tokenizer(folder, kind, template)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = HFLM(pretrained=model, tokenizer=words, batch_size=1, device="cpu")
    return AmuroLM.of(scorer, params, Tokenizer.load(folder)), theirs


@pytest.fixture(scope="module", params=TOKENIZERS)
def both(request, weights, tmp_path_factory):
    return request.param, *pair_of(weights, tmp_path_factory.mktemp("words"), request.param)


def instances(kind, arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, given, i) for i, given in enumerate(arguments)]


def likelihoods(lm, pairs):
    return lm.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)


def generated(lm, contexts, until=(), new=12):
    """Texts; HFLM changes the settings that it is given, so that each gets its own."""
    given = [
        (
            context,
            {"until": list(until) if not isinstance(until, str) else until, "do_sample": False}
            | {"max_gen_toks": new},
        )
        for context in contexts
    ]
    return lm.generate_until(instances("generate_until", given), disable_tqdm=True)


def assert_likelihoods(ours, theirs, pairs):
    mine, other = likelihoods(ours, pairs), likelihoods(theirs, pairs)
    difference = np.abs(np.subtract([value for value, _ in mine], [value for value, _ in other]))
    print(f"largest difference {difference.max():.1e} of {len(pairs)}")
    assert difference.max() < 1e-4, pairs[int(difference.argmax())]
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in other]


def test_loglikelihood(both):
    _, ours, theirs = both
    assert_likelihoods(ours, theirs, [(text, answer) for text in TEXTS for answer in ANSWERS])


def test_loglikelihood_of_an_empty_context(both):
    _, ours, theirs = both
    answers = [*ANSWERS, f"{BOS}The mat", f"{EOS} no"]
    assert_likelihoods(ours, theirs, [("", answer) for answer in answers])


@pytest.mark.parametrize("spare", [1, 0, -1, -9])
def test_a_continuation_about_as_long_as_the_context(both, spare):
    """One that does not fit stops HFLM; here its last tokens are scored, and it is said."""
    _, ours, theirs = both
    text = " yes" * (LENGTH - spare)
    assert len(ours.tokenizer.encode(text)) == LENGTH - spare
    pairs = [("The cat sat on the mat. " * 9 + "The", text), ("", text)]
    if spare >= 0:
        return assert_likelihoods(ours, theirs, pairs)
    with pytest.raises(AssertionError):
        likelihoods(theirs, pairs)
    with pytest.warns(UserWarning, match=f"2 of 2 continuations are longer .* of {LENGTH} tokens"):
        mine = likelihoods(ours, pairs)
    # the model has read nothing but the tokens of the continuation itself
    right = likelihoods(theirs, [(" yes", " yes" * LENGTH)])[0]
    assert mine[0] == pytest.approx(right, abs=1e-4) and mine[1] == pytest.approx(right, abs=1e-4)


def test_rolling(both, monkeypatch):
    """Where a text begins with bos, added or its own, HFLM reads two and counts the second: without
    that one the numbers are equal.
    """
    _, ours, theirs = both
    texts = ["The cat sat on the mat.", " é語", "no", "", "yes no " * 40, "A dog ran" * 25]
    bos = ours.tokenizer.bos_id is not None
    calls = instances("loglikelihood_rolling", [(text,) for text in texts])
    began = instances("loglikelihood_rolling", [(BOS * bos + text,) for text in texts])
    mine, same = ours.loglikelihood_rolling(calls), ours.loglikelihood_rolling(began)
    assert mine == same
    if bos:
        two = theirs.loglikelihood_rolling(began)
        assert np.abs(np.subtract(two, mine)).min() > 0.01
    monkeypatch.setattr(theirs, "add_bos_token", False)
    np.testing.assert_allclose(mine, theirs.loglikelihood_rolling(calls), atol=1e-4)


@pytest.mark.parametrize("until", UNTIL, ids=ascii)
def test_generated_text(both, until):
    _, ours, theirs = both
    contexts = [*TEXTS, *(answer + text for text in TEXTS for answer in ANSWERS[:2])]
    mine, other = generated(ours, contexts, until), generated(theirs, contexts, until)
    assert mine == other and len(set(mine)) > 3


@pytest.mark.parametrize("length", [1, 2, 5])
def test_stop_strings_from_within_the_text(both, length):
    """Those of each text its own, of several tokens and of parts of tokens. They are cut off in the
    order given: of "c" and "bc", "abcd" keeps the b.
    """
    _, ours, theirs = both
    contexts = [text + answer for text in TEXTS for answer in ANSWERS]
    calls = []
    for context, text in zip(contexts, generated(theirs, contexts, new=16), strict=True):
        stop = text[len(text) // 2 :][:length]
        until = [stop[1:2] or "not in it", stop]
        calls.append((context, {"until": until, "max_gen_toks": 16}))
    calls = [call for call in calls if call[1]["until"][1]]
    mine = ours.generate_until(instances("generate_until", copy.deepcopy(calls)))
    other = theirs.generate_until(instances("generate_until", copy.deepcopy(calls)))
    assert mine == other and len(calls) > 20


def test_cases_that_stop_hflm(both):
    """White space as a context, no context to continue, and new tokens that fill the model."""
    kind, ours, theirs = both
    long = [("The cat", {"until": [], "max_gen_toks": LENGTH})]
    calls = {"generate_until": [long]}
    if kind != "bos added":
        calls["loglikelihood"] = [[(" ", "no")]]
        calls["generate_until"].append([("", {"until": [], "max_gen_toks": 4})])
    for name, cases in calls.items():
        for case in cases:
            with pytest.raises((AssertionError, IndexError, ValueError, RuntimeError)):
                getattr(theirs, name)(instances(name, copy.deepcopy(case)))
            (made,) = getattr(ours, name)(instances(name, copy.deepcopy(case)))
            assert made or made == ""
    if kind != "bos added":
        space, none = likelihoods(ours, [(" ", "no"), ("", " no")])
        assert space == none


@pytest.mark.parametrize("until", [["e"], ["\n"]], ids=ascii)
@pytest.mark.parametrize("go_on", [False, True])
def test_chats(both, go_on, until):
    _, ours, theirs = both
    chats = CHATS
    if go_on:
        chats = [
            [*chat, {"role": "assistant", "content": prefix}]
            for chat in CHATS
            for prefix in PREFIXES
        ]
    mine = [ours.apply_chat_template(chat, add_generation_prompt=not go_on) for chat in chats]
    other = [theirs.apply_chat_template(chat, add_generation_prompt=not go_on) for chat in chats]
    assert mine == other
    assert_likelihoods(ours, theirs, [(text, answer) for text in mine for answer in ANSWERS])
    assert generated(ours, mine, until) == generated(theirs, mine, until)


@pytest.mark.parametrize("go_on", [False, True])
def test_a_template_without_system_messages(weights, tmp_path, go_on):
    ours, theirs = pair_of(weights, tmp_path, "bos added", STRICT_TEMPLATE)
    for chat in CHATS:
        chat = [*chat, {"role": "assistant", "content": " The answer is "}] if go_on else chat
        mine, other = (
            lm.apply_chat_template(chat, add_generation_prompt=not go_on) for lm in (ours, theirs)
        )
        assert mine == other and mine.startswith(BOS) and "system" not in mine


def test_special_tokens_and_every_eos(weights, both):
    """The model ends texts with either eos, and its texts hold a special token that is none."""
    model, (_, ours, theirs) = weights[0], both
    contexts = [f"{text}{answer}" for text in TEXTS for answer in ANSWERS]
    raw, ends = [], []
    for context in contexts:
        ids = torch.tensor([theirs.tok_encode(context)])[:, -30:]
        made = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=1)
        made = made[0, ids.shape[1] :].tolist()
        raw, ends = [*raw, *made], [*ends, made[-1]]
    assert {0, 3} <= set(ends) and 4 in raw
    assert ours.tokenizer.eos_ids == (0, 3)
    mine = generated(ours, contexts)
    assert mine == generated(theirs, contexts)
    assert not any(token in text for token in (EOS, NOTE, TURN) for text in mine)
