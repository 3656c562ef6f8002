"""Do the ids of a tokenizer, added tokens included, have rows in the embedding?"""

from pathlib import Path

from amuro_jax import files
from amuro_jax.errors import CheckpointError
from amuro_jax.models.config import ModelConfig


def largest_id(folder) -> tuple[str, int] | None:
    """(token, id) of the largest id in `tokenizer.json` or `added_tokens.json` of a folder; None
    where there is neither, or none that can be read.
    """
    import tokenizers

    folder, ids = Path(folder), {}
    if (folder / "tokenizer.json").is_file():
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            ids = tokenizer.get_vocab(with_added_tokens=True)
        except Exception:  # the library raises nothing more precise; who uses it hears of it
            pass
    if (folder / "added_tokens.json").is_file():
        added = files.read_json(folder / "added_tokens.json")
        if isinstance(added, dict):
            ids |= {token: value for token, value in added.items() if isinstance(value, int)}
    return max(ids.items(), key=lambda item: item[1]) if ids else None


def check_token_ids(folder, config: ModelConfig) -> None:
    """Refuses a tokenizer folder whose ids do not fit the embedding.

    Raises:
        CheckpointError: an id without a row; names the token, its id and the number of rows.
    """
    for number in config.eos_ids:
        if not 0 <= number < config.vocab_size:
            raise CheckpointError(
                f"eos id {number} has no row in the embedding of {config.vocab_size}",
                where=folder,
                hint="eos_token_id of config.json or generation_config.json is wrong",
            )
    largest = largest_id(folder)
    if largest and largest[1] >= config.vocab_size:
        token, number = largest
        raise CheckpointError(
            f"token {token[:80]!r} has id {number}, but the embedding has {config.vocab_size} rows "
            f"(ids 0 to {config.vocab_size - 1})",
            where=folder,
            hint="is this the tokenizer of these weights? --tokenizer=FOLDER gives another",
        )
