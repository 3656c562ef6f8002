"""Queries to rows: candidates, forms, methods, and the same numbers as the plain sum over HF's
logits.
"""

import dataclasses

import numpy as np
import pytest
import tokenizers

from amuro_jax.data.protocols import PAPER, STRICT
from amuro_jax.data.registry import get_task
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.data.types import Query
from amuro_jax.errors import ConfigError, DataError
from amuro_jax.evals.evaluate import _labelled, cut_at, evaluate, rules, stop_at
from amuro_jax.evals.prepare import SUB_TOKENS, prepare
from amuro_jax.scoring.requests import Generation, NonFiniteError, Request
from amuro_jax.scoring.scorer import Scorer, rolling_windows
from tests.evals import hf, tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
NLI = ("entailment", "neutral", "contradiction")
FORMS = tuple((f" {word}", word) for word in NLI)
SHOTS = "### Input_1: The cat sat.\n ### Inference: neutral\n" * 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    from amuro_jax import checkpoint
    from amuro_jax.convert.resolver import open_checkpoint

    folder = tmp_path_factory.mktemp("hf")
    model = hf.make_checkpoint(folder, torch, transformers)
    converted = open_checkpoint(folder, tmp_path_factory.mktemp("cache"))
    config = checkpoint.read_config(converted)
    scorer = Scorer(config)
    return (
        scorer,
        scorer.place(checkpoint.load_params(converted, config)),
        Tokenizer.load(converted / "tokenizer"),
        model,
    )


def queries(count=6, **changes):
    base = [
        Query(
            task="nli",
            row=row,
            doc_id=str(row),
            format="default",
            shots=3,
            shared=len(SHOTS),
            context=f"{SHOTS}### Input_1: The dog {'ran ' * row}.\n ### Inference:",
            continuations=FORMS,
            gold=row % 3,
            reference="neutral",
        )
        for row in range(count)
    ]
    return [dataclasses.replace(query, **changes) for query in base]


def by_hand(world, context, continuation):
    """Log-probability of a continuation, tokenised jointly, from torch's logits."""
    _, _, tokenizer, model = world
    ids, offsets = tokenizer.encode_with_offsets(context + continuation)
    border = sum(end <= len(context) for _, end in offsets)
    values = hf.torch_logprobs(model, torch, ids)
    return float(sum(values[place - 1, ids[place]] for place in range(border, len(ids))))


def test_forms_are_added_in_probability_and_equal_hf(world):
    scorer, params, tokenizer, _ = world
    made = evaluate(scorer, params, tokenizer, queries(), bootstrap=100)
    for row, query in zip(made.rows, queries(), strict=True):
        expected = [
            np.logaddexp(*(by_hand(world, query.context, form) for form in forms))
            for forms in FORMS
        ]
        np.testing.assert_allclose(row["choice_logprobs"], expected, atol=1e-4)
        assert row["predicted"] == int(np.argmax(expected)) and row["correct"] == (
            row["predicted"] == query.gold
        )
        np.testing.assert_allclose(row["label_mass"], np.exp(expected).sum(), rtol=1e-3)
    assert made.metrics["n"] == 6 and made.metrics["value"] == np.mean(
        [row["correct"] for row in made.rows]
    )


def test_sub_tokens_compete_one_by_one(world):
    scorer, params, tokenizer, model = world
    spaced = queries(context=SHOTS + "### Inference: ", joint=False)[:1]
    (row,) = evaluate(scorer, params, tokenizer, spaced, candidates=SUB_TOKENS, bootstrap=10).rows
    values = hf.torch_logprobs(model, torch, tokenizer.encode(spaced[0].context))[-1]
    expected = [
        max(values[token] for form in forms for token in tokenizer.encode(form)) for forms in FORMS
    ]
    np.testing.assert_allclose(row["choice_logprobs"], expected, atol=1e-4)


def test_constrained_takes_the_best_form(world):
    scorer, params, tokenizer, _ = world
    query = queries()[2]
    (row,) = evaluate(scorer, params, tokenizer, [query], method="constrained", bootstrap=10).rows
    expected = [max(by_hand(world, query.context, form) for form in forms) for forms in FORMS]
    np.testing.assert_allclose(row["choice_logprobs"], expected, atol=1e-4)


def test_unconditional_contexts(world):
    scorer, params, tokenizer, _ = world
    query = dataclasses.replace(
        queries()[0],
        continuations=((" a dog",), (" the cat sat",)),
        unconditional="Answer:",
        gold=1,
    )
    (row,) = evaluate(
        scorer, params, tokenizer, [query], bootstrap=10, primary="unconditional"
    ).rows
    np.testing.assert_allclose(
        row["choice_logprobs_unconditional"],
        [by_hand(world, "Answer:", form) for (form,) in query.continuations],
        atol=1e-4,
    )
    difference = np.subtract(row["choice_logprobs"], row["choice_logprobs_unconditional"])
    assert (
        row["predicted"] == int(difference.argmax())
        and row["prediction"] == query.continuations[row["predicted"]][0].strip()
    )
    assert row["choice_chars"] == [5, 11] and row["choice_tokens"] == [
        len(tokenizer.encode(form)) for (form,) in query.continuations
    ]


def test_generation_equals_hf_and_stops(world):
    scorer, params, tokenizer, model = world
    plain = queries(continuations=(), gold=None, reference="a dog ran")
    made = evaluate(scorer, params, tokenizer, plain, max_new_tokens=12, bootstrap=10)
    for row, query in zip(made.rows, plain, strict=True):
        ids = torch.tensor([tokenizer.encode(query.context)])
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
            )[0, ids.shape[1] :].tolist()
        ended = tokenizer.eos_id in out
        out = out[: out.index(tokenizer.eos_id)] if ended else out
        assert row["prediction"] == tokenizer.decode(out).strip() and row["ended"] == (
            "eos" if ended else "length"
        )
    text = tokenizer.decode(out)
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    (row,) = evaluate(
        scorer,
        params,
        tokenizer,
        [dataclasses.replace(plain[-1], stop=(stop,))],
        max_new_tokens=12,
        bootstrap=10,
    ).rows
    assert row["ended"] == "stop" and row["prediction"] == text[: text.index(stop)].strip()


def test_free_finds_the_label_or_says_there_is_none(world):
    scorer, params, tokenizer, _ = world
    rows = evaluate(scorer, params, tokenizer, queries(), method="free", bootstrap=10).rows
    assert len(rows) == 6
    for row in rows:
        named = [index for index, forms in enumerate(FORMS) if forms[1] in row["prediction"]]
        assert row["predicted"] in named if named else row["predicted"] == -1


@pytest.mark.parametrize(
    "labels,text,first,fixed",
    [
        (("yes", "no"), "yes, no", "yes", "no"),
        (("yes", "no"), " no yes", "no", "no"),
        (("yes", "no"), "oh yes", "yes", "yes"),
        (("yes", "no"), "perhaps", None, None),
        (NLI, "entailment contradiction", "entailment", "contradiction"),
        (NLI, " entailment neutral", "entailment", "neutral"),
        (NLI, "neutral", "neutral", "neutral"),
        (("tea", "wine"), "wine or tea", "wine", "wine"),
    ],
)
def test_the_label_that_a_text_names(labels, text, first, fixed):
    """`strict` takes the one that stands first, `paper` the released code's order."""
    (query,) = queries(1, continuations=tuple((f" {label}", label) for label in labels))
    for order, expected in ((False, first), (True, fixed)):
        named = _labelled(dataclasses.replace(query, gold=0), text, order)
        assert named["predicted"] == (-1 if expected is None else labels.index(expected))
        assert named["correct"] == (expected == labels[0]) == named["score"]
    assert PAPER.published_label_search and not STRICT.published_label_search


def test_the_protocol_chooses_how_labels_are_found(world):
    """From the protocol's switch to the rows of one model's text."""
    tokenizer, task = world[2], get_task("paws")

    class Said:
        """Answers with fixed tokens."""

        def generate(self, params, requests, *, eos, stopped):
            tokens = tuple(tokenizer.encode("yes no"))
            return [Generation(tokens, "length") for _ in requests]

    asked = queries(1, continuations=((" yes", "yes"), (" no", "no")))
    for protocol, expected in ((STRICT, 0), (PAPER, 1)):
        options, _ = rules(task, protocol)
        prepared = prepare(asked, tokenizer, method="free", **options)
        (row,) = evaluate(Said(), {}, tokenizer, prepared, bootstrap=10).rows
        assert row["predicted"] == expected


def test_special_tokens_are_left_out_of_generated_text(world):
    tokenizer = world[2]
    plain = queries(1, continuations=(), gold=None, reference="yes")
    word = tokenizer.encode(" yes")[0]
    assert tokenizer.decode([tokenizer.pad_id]) == "<|padding|>"

    class Said:
        """Answers with padding around a word."""

        def generate(self, params, requests, *, eos, stopped):
            assert eos == tokenizer.eos_ids
            tokens = (tokenizer.pad_id, word, tokenizer.pad_id)
            return [Generation(tokens, "eos") for _ in requests]

    (row,) = evaluate(Said(), {}, tokenizer, plain, bootstrap=10).rows
    assert row["prediction"] == tokenizer.decode([word]).strip()


@pytest.mark.parametrize("method,row", [("token_prob", 0), ("free", 5)])  # longest text first
def test_scores_that_are_not_finite_name_checkpoint_set_and_row(world, method, row):
    import jax

    scorer, params, tokenizer, _ = world
    broken = jax.tree.map(lambda leaf: leaf * np.nan, params)
    with pytest.raises(NonFiniteError, match="not finite") as raised:
        evaluate(
            scorer, broken, tokenizer, queries(), method=method, model="olmo@step7", bootstrap=10
        )
    assert raised.value.where == f"olmo@step7: nli (default, 3 shots), row {row}"


def test_a_misspelt_method_is_refused(world):
    for wrong in ({"method": "tokenprob"}, {"candidates": "subtokens"}):
        with pytest.raises(ConfigError, match="unknown .*token") as raised:
            prepare(queries(), world[2], **wrong)
        assert "token" in raised.value.hint


def test_tokenised_once_for_all_checkpoints(world):
    scorer, params, tokenizer, _ = world
    prepared = prepare(queries(), tokenizer)
    first = evaluate(scorer, params, tokenizer, prepared, bootstrap=10)
    plan, traces = scorer.plan_once(prepared), dict(scorer.traces)
    import jax

    other = evaluate(
        scorer, jax.tree.map(lambda leaf: leaf * 1.1, params), None, prepared, bootstrap=10
    )
    assert scorer.plan_once(prepared) is plan and dict(scorer.traces) == traces
    assert Scorer(scorer.config).plan_once(prepared) is not plan  # each scorer has its own
    assert first.rows[0]["choice_logprobs"] != other.rows[0]["choice_logprobs"]
    assert first.rows[0]["prompt_sha256"] == other.rows[0]["prompt_sha256"]


@pytest.mark.parametrize("joint", [True, False])
def test_a_text_that_begins_with_bos_gets_no_second_one(world, joint):
    """As a chat template writes it, where the tokenizer adds a bos of its own."""
    backend = tokenizers.Tokenizer.from_file(str(world[2].folder / "tokenizer.json"))
    tokenizer = Tokenizer(backend, 0, 1, None, add_bos=True)
    plain = queries(2, joint=joint, shared=0)
    begun = [
        dataclasses.replace(query, context=tokenizer.token(1) + query.context) for query in plain
    ]
    made, same = prepare(plain, tokenizer).requests, prepare(begun, tokenizer).requests
    assert made == same and all(request.context.count(1) == 1 for request in made)


def test_bad_queries_are_named(world):
    tokenizer = world[2]
    with pytest.raises(DataError, match="no tokens"):
        prepare(queries(continuations=(("",),)), tokenizer)
    with pytest.raises(DataError, match="with and without choices"):
        prepare(queries(1) + queries(1, continuations=()), tokenizer)


def test_rolling_scores_each_token_once():
    params, sequence = tiny.params_of(), np.random.default_rng(0).integers(0, 97, 600).tolist()
    windows = rolling_windows(sequence, 3, 256)
    assert [token for window in windows for token in window.continuations[0]] == sequence
    assert all(len(window.context) + len(window.continuations[0]) <= 257 for window in windows)
    ((value, count),) = Scorer(tiny.CONFIG).rolling(params, [sequence], 3)
    expected = 0.0
    for window in windows:
        values = tiny.plain_logprobs(params, [*window.context, *window.continuations[0][:-1]])
        asked = values[len(window.context) - 1 :]
        expected += float(asked[np.arange(len(asked)), list(window.continuations[0])].sum())
    assert count == 600 and abs(value - expected) < 600 * 1e-5
    assert rolling_windows([5, 6], 3, 256) == [Request((3,), ((5, 6),))]


class Spelling:
    """A tokenizer of single characters."""

    def decode(self, ids):
        return "".join(chr(i) for i in ids)


def test_stops_are_found_at_their_first_end():
    tokens = [ord(c) for c in "one\n\ntwo"]
    assert (
        stop_at(Spelling(), tokens, ("\n\n",)) == 5 and stop_at(Spelling(), tokens, ("x",)) is None
    )
    assert cut_at("a b\nc", ("\n", "b")) == "a " and cut_at("abc", ()) == "abc"
