"""Writes a converted or fine-tuned checkpoint as a Hugging Face folder, for
`AutoModelForCausalLM.from_pretrained`; an adapter merged into its base, or as PEFT has it.

amuro export --checkpoint=path/to/model --out=path/to/hf_folder --dtype=bfloat16
amuro export --checkpoint=path/to/adapter --to=peft --out=path/to/peft_adapter
amuro export --checkpoint=path/to/adapter --to=model --out=path/to/merged
"""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "turn a converted or fine-tuned checkpoint back into a Hugging Face folder"


def define_flags() -> None:
    """Declares the verb's flags."""
    configure.define_checkpoint()
    flags.DEFINE_string("out", "", "Folder to write.")
    flags.DEFINE_enum(
        "to",
        "hf",
        ["hf", "peft", "model"],
        "hf: a Hugging Face folder; of an adapter also peft: PEFT's format, and model: a model "
        "folder of this program with the adapter merged.",
    )
    flags.DEFINE_string(
        "dtype",
        "",
        "float32, float16 or bfloat16; empty: as in the source, or as stored where the model was "
        "trained since.",
    )
    flags.DEFINE_float("shard_gb", 5.0, "Largest weight file, in GB (10**9 bytes).")
    configure.define_cache()


def main() -> None:
    """Exports, and prints the files written."""
    from amuro_jax.convert import exporter, resolver
    from amuro_jax.errors import ConfigError

    args = flags.FLAGS
    configure.require_flags("checkpoint", "out")
    if args.shard_gb <= 0:
        raise ConfigError(f"must be positive, got {args.shard_gb}", where="--shard_gb")
    folder = resolver.open_checkpoint(args.checkpoint, args.cache or None)
    options = {"dtype": args.dtype, "shard_bytes": int(args.shard_gb * 10**9)}
    names = exporter.write(folder, args.out, args.to, **(options if args.to == "hf" else {}))
    print(f"{args.out}: {', '.join(names)}")
