"""The laboratory's tokenizer: byte-level BPE with OLMo's special tokens, written as the files of a
Hugging Face folder.
"""

from collections.abc import Sequence

import tokenizers
from etils import epath
from tokenizers import decoders, models, pre_tokenizers, trainers

from amuro_jax import files

EOS, PAD = "<|endoftext|>", "<|padding|>"
EOS_ID, PAD_ID = 0, 1

# Headings that prompts use and prose does not: a real tokenizer knows such words from the web.
NOTATION = (
    "### Input: \n ### Summary:",
    "### Input: \n ### Answer: \n ### Question:",
    "### Input_1: \n ### Input_2: \n ### Inference: entailment neutral contradiction",
    "### Input_1: \n ### Input_2: \n ### Paraphrase Classification: yes no",
    "Answer A: Answer B: Answer C: Answer: Question:",
    "Please read the following text: Provide a summary:",
    "Given the context: And the answer: Generate a suitable question:",
    "Consider the following texts: Text 1: Text 2: The relation is entailment neutral "
    "contradiction",
    "Let\u2019s compare the two sentences: Let's compare the two sentences: Sentence_1: "
    "Sentence_2: Are they paraphrasing?: yes no",
)


def train_tokenizer(
    documents, vocab_size: int, min_frequency: int = 20, names: Sequence[str] = ()
) -> tokenizers.Tokenizer:
    """Learns the merges from the documents and, so that prompts stay short, from the words of
    prompt headings; and from names that few documents have, or none, all of them alike.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    documents = list(documents)
    said = [*NOTATION, *(f" {name}" for name in names)]
    tokenizer.train_from_iterator(said * (len(documents) // 20) + documents, trainer)
    return tokenizer


def write_tokenizer(tokenizer: tokenizers.Tokenizer, folder, max_length: int) -> None:
    """Writes the tokenizer's files, and generation_config.json with the ids that end and pad a
    text; complete or absent.
    """
    special = {"eos_token": EOS, "pad_token": PAD}
    flags = {
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }
    with files.atomic_folder(folder) as scratch:
        files.write_text(scratch / "tokenizer.json", tokenizer.to_str(pretty=True))
        files.write_json(scratch / "special_tokens_map.json", special)
        files.write_json(
            scratch / "generation_config.json", {"eos_token_id": EOS_ID, "pad_token_id": PAD_ID}
        )
        files.write_json(
            scratch / "tokenizer_config.json",
            {
                "add_bos_token": False,
                "add_eos_token": False,
                "added_tokens_decoder": {
                    str(i): {"content": token} | flags
                    for i, token in ((EOS_ID, EOS), (PAD_ID, PAD))
                },
                "clean_up_tokenization_spaces": False,
                **special,
                "model_max_length": max_length,
                "tokenizer_class": "PreTrainedTokenizerFast",
            },
        )


def read_tokenizer(folder) -> tokenizers.Tokenizer:
    """The tokenizer of such a folder."""
    return tokenizers.Tokenizer.from_str((epath.Path(folder) / "tokenizer.json").read_text())
