"""Converts a checkpoint of any form, and prints the folder that every other verb takes.

amuro convert --checkpoint=allenai/OLMo-1B-hf@step1000-tokens4B
amuro convert --checkpoint=path/to/hf_folder --out=path/to/converted
amuro convert --checkpoint=path/to/peft_adapter --base=allenai/OLMo-1B-hf --out=path/to/adapter
"""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "turn a checkpoint (Hub, HF folder, native OLMo) into Flax parameters"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string(
        "checkpoint",
        "",
        "Hub name with optional @revision, HF folder, native OLMo folder, or a folder of "
        "checkpoints with @name.",
    )
    flags.DEFINE_string(
        "out",
        "",
        "Folder to write; empty: a cache keyed by content, so that nothing is converted twice.",
    )
    flags.DEFINE_string(
        "tokenizer", "", "Folder with tokenizer files, for a source that has none (native OLMo)."
    )
    configure.define_cache()
    flags.DEFINE_string(
        "base",
        "",
        "Of an adapter (PEFT's, or one of this program): name of the model that it belongs to, "
        "where it is not the one that the adapter names.",
    )
    flags.DEFINE_bool("offline", False, "Use only what is already downloaded.")


def main() -> None:
    """Converts, with a progress bar, and prints where the result lies."""
    import tqdm

    from amuro_jax import checkpoint
    from amuro_jax.convert import resolver

    args = flags.FLAGS
    example = "for example --checkpoint=allenai/OLMo-1B-hf@step1000-tokens4B"
    configure.require_flags("checkpoint", hint=example)
    with tqdm.tqdm(total=0, unit="B", unit_scale=True, desc="convert", disable=None) as bar:

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        options = {
            "offline": args.offline,
            "tokenizer": args.tokenizer or None,
            "progress": progress,
            "out": args.out or None,
            "base": args.base,
        }
        folder = resolver.open_checkpoint(args.checkpoint, args.cache or None, **options)
    config = checkpoint.read_config(folder)
    kind = f"adapter of {config.family}" if checkpoint.is_adapter(folder) else config.family
    print(
        f"{kind}: {config.num_parameters:,} parameters, {config.num_layers} layers, "
        f"{config.vocab_size} embedding rows"
    )
    print(folder)
