"""Checks a converted checkpoint: names, shapes, dtypes, finite values, tied embeddings, tokenizer
and eos; and, with a reference (a Hugging Face folder), every tensor's bits and the logits of HF
torch.

    amuro verify --checkpoint=path/to/converted --reference=path/to/hf_folder
"""

from absl import flags

DESCRIPTION = "check a converted checkpoint, against its reference where there is one"


def define_flags() -> None:
    """Declares the verb's flags."""
    flags.DEFINE_string(
        "checkpoint", "", "Converted or fine-tuned folder (or any name that `amuro convert` takes)."
    )
    flags.DEFINE_string(
        "reference",
        "",
        "Hugging Face folder that it should equal; logits are compared where torch is installed.",
    )
    flags.DEFINE_string(
        "cache",
        "",
        "Cache of downloads and conversions; default $AMURO_CACHE or ~/.cache/amuro_jax.",
    )


def main() -> None:
    """Prints one line per check; exit status 2 when one fails."""
    from amuro_jax.convert import resolver, verify
    from amuro_jax.errors import ConfigError

    args = flags.FLAGS
    if not args.checkpoint:
        raise ConfigError("no checkpoint", where="--checkpoint")
    folder = resolver.open_checkpoint(args.checkpoint, args.cache or None)
    checks = verify.verify(folder, args.reference or None)
    marks = {True: "ok", False: "FAILED", None: "-"}
    for check in checks:
        print(f"{marks[check.ok]:<7} {check.name:<17} {check.detail}")
    verify.require(checks, folder)
