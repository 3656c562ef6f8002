"""Small sets on disk in the columns of real ones, and a byte-level tokenizer learned from a few
words.
"""

import json

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from amuro_jax.data.tokenizer import Tokenizer

NLI_LABELS = ("entailment", "neutral", "contradiction")


def write_rows(root, folder, split, rows):
    """Writes rows as `<root>/<folder>/<split>.jsonl`."""
    path = root / folder / f"{split}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def nli_rows(count, word="stone"):
    """MNLI rows, labels in turn."""
    return [
        {
            "premise": f"The {word} {i} is grey.",
            "hypothesis": f"A {word} {i * 7} lies there.",
            "label": i % 3,
            "idx": i,
        }
        for i in range(count)
    ]


def pair_rows(count, label=None):
    """PAWS rows, labels in turn or all the same."""
    labels = [i % 2 if label is None else label for i in range(count)]
    return [
        {"id": i, "sentence1": f"bird {i} sings", "sentence2": f"bird {i} sang", "label": labels[i]}
        for i in range(count)
    ]


def make_tokenizer(eos="<|endoftext|>"):
    """Byte-level BPE with an end-of-text token and padding."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    words = [
        "### Input_1: ### Input_2: ### Inference: neutral contradiction "
        "yes no stone grey lies there"
    ] * 30
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[eos, "<pad>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(words, trainer)
    return Tokenizer(backend, backend.token_to_id(eos), None, backend.token_to_id("<pad>"))
