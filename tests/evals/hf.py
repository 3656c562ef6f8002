"""A tiny HF OLMo folder with a tokenizer of its own, and the torch model it was saved from."""

import json

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

TEXT = [
    "### Input_1: The cat sat on the mat.\n ### Inference: neutral A dog ran.",
    "yes no entailment contradiction neutral",
] * 4
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_tokenizer(folder, vocab=400) -> int:
    """Writes a byte-level BPE; returns the id of its end-of-text token."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    special = ["<|endoftext|>", "<|padding|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, initial_alphabet=alphabet),
    )
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    names = {
        "eos_token": special[0],
        "pad_token": special[1],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return 0


def make_checkpoint(folder, torch, transformers, max_length=256):
    """Writes a random OLMo as HF does; returns the torch model, with logits far from uniform."""
    eos = make_tokenizer(folder)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "intermediate_size": 64,
    }
    config = transformers.OlmoConfig(
        vocab_size=448,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        eos_token_id=eos,
        pad_token_id=1,
        bos_token_id=None,
        **sizes,
    )
    torch.manual_seed(0)
    torch.set_num_threads(1)  # beside eight virtual devices, more threads only wait for each other
    model = transformers.OlmoForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    model.save_pretrained(folder)
    return model


def torch_logprobs(model, torch, tokens):
    """[T, V] of one sequence."""
    with torch.no_grad():
        return np.asarray(model(torch.tensor([list(tokens)])).logits[0].log_softmax(-1))
