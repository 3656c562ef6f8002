"""AmuroLM against the harness's own HFLM on the same weights: all request types, through local YAML
tasks.
"""

import json

import numpy as np
import pytest

from amuro_jax.errors import ConfigError
from amuro_jax.scoring.generation import Sampling
from tests.evals import hf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
lm_eval = pytest.importorskip("lm_eval")
ROWS = [
    {
        "q": "The cat sat on",
        "choices": ["the mat", "a dog ran today"],
        "label": 0,
        "answer": "the mat",
    },
    {"q": "A dog ", "choices": ["ran", "is neutral to the mat", "no"], "label": 1, "answer": "ran"},
    {"q": "### Inference:", "choices": ["yes", "no"], "label": 1, "answer": "no"},
]
TASKS = {
    "choice": "output_type: multiple_choice\ndoc_to_choice: '{{choices}}'\ndoc_to_target: label\n"
    "metric_list: [{metric: acc}, {metric: acc_norm}]\n",
    "text": "output_type: generate_until\ndoc_to_target: '{{answer}}'\n"
    "generation_kwargs: {until: ['e'], max_gen_toks: 7, do_sample: false}\n"
    "metric_list: [{metric: exact_match}]\n",
    "rolling": "output_type: loglikelihood_rolling\nmetric_list: [{metric: bits_per_byte}]\n",
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    import datasets
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from amuro_jax.evals.lm_eval import AmuroLM

    folder = tmp_path_factory.mktemp("lm_eval")
    patch = pytest.MonkeyPatch()
    patch.setenv("AMURO_CACHE", str(folder / "cache"))
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
    model = hf.make_checkpoint(folder / "model", torch, transformers)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    tasks = folder / "tasks"
    tasks.mkdir()
    for name, text in TASKS.items():
        where = json.dumps({"data_files": {"test": str(folder / "rows.jsonl")}})
        question = (
            "doc_to_text: ''\ndoc_to_target: '{{q}} and {{answer}}'\n"
            if name == "rolling"
            else "doc_to_text: '{{q}}'\n"
        )
        source = f"dataset_path: json\ndataset_kwargs: {where}\ntest_split: test\n"
        (tasks / f"{name}.yaml").write_text(f"task: t_{name}\n{source}{question}{text}")
    special = {"eos_token": "<|endoftext|>", "pad_token": "<|padding|>"}
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "model/tokenizer.json"), **special
    )
    theirs = HFLM(pretrained=model, tokenizer=words, batch_size=1, device="cpu")
    ours = AmuroLM(str(folder / "model"))
    run = lambda lm: lm_eval.simple_evaluate(  # noqa: E731
        lm,
        tasks=[f"t_{name}" for name in TASKS],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    yield ours, run(ours), run(theirs)
    patch.undo()


def test_log_likelihoods_equal_hflm(both):
    _, ours, theirs = both
    for mine, other in zip(ours["samples"]["t_choice"], theirs["samples"]["t_choice"], strict=True):
        for (value, greedy), (expected, expected_greedy) in zip(
            mine["filtered_resps"], other["filtered_resps"], strict=True
        ):
            assert abs(value - expected) < 2e-4 and greedy == expected_greedy
    for name in ("acc,none", "acc_norm,none"):
        assert ours["results"]["t_choice"][name] == theirs["results"]["t_choice"][name]


def test_generated_text_equals_hflm(both):
    _, ours, theirs = both
    texts = [
        [sample["filtered_resps"] for sample in side["samples"]["t_text"]]
        for side in (ours, theirs)
    ]
    assert texts[0] == texts[1] and any(text[0] for text in texts[0])


def test_rolling_equals_hflm(both):
    _, ours, theirs = both
    values = [side["results"]["t_rolling"]["bits_per_byte,none"] for side in (ours, theirs)]
    np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.parametrize(
    "settings,expected",
    [
        ({}, (Sampling(), (), 256)),
        ({"until": "a", "max_gen_toks": 3, "max_new_tokens": 9}, (Sampling(), ("a",), 3)),
        ({"until": None, "max_tokens": 5, "max_completion_tokens": 7}, (Sampling(), (), 5)),
        ({"until": ["a", "b"], "temperature": 0.5}, (Sampling(0.5), ("a", "b"), 256)),
        ({"do_sample": False, "temperature": 0.5, "top_k": 5}, (Sampling(), (), 256)),
        ({"do_sample": True, "temperature": 1, "top_p": 0.9}, (Sampling(1.0, 0.9), (), 256)),
        ({"do_sample": True, "num_beams": 1, "repetition_penalty": 1.0}, (Sampling(), (), 256)),
    ],
)
def test_generation_settings_follow_the_harness(settings, expected):
    """Names, priorities and defaults of its `normalize_gen_kwargs`."""
    from lm_eval.models.utils import normalize_gen_kwargs

    from amuro_jax.evals.lm_eval import _Settings

    made = _Settings.read(settings)
    assert (made.sampling, made.until, made.new_tokens) == expected
    theirs = normalize_gen_kwargs({"until": [], **settings})
    assert made.new_tokens == theirs["max_gen_toks"]
    assert made.sampling.temperature == theirs.get("temperature", 0.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 4},
        {"repetition_penalty": 1.1},
        {"temperature": 0.7, "top_k": 50},
        {"max_length": 100},
    ],
)
def test_settings_that_would_have_no_effect_are_refused(both, settings):
    from lm_eval.api.instance import Instance

    call = Instance("generate_until", {}, ("The cat", settings), 0)
    with pytest.raises(ConfigError, match=next(reversed(settings))):
        both[0].generate_until([call])


def test_chat_template(both):
    lm = both[0]
    assert lm.apply_chat_template([{"role": "user", "content": "hi"}]) == "<user>hi\n<assistant>"
