"""Checks a converted checkpoint: names, shapes, dtypes, finite values, tied embeddings, tokenizer
and eos; and, with a reference (a Hugging Face folder), every tensor's bits and the logits of HF
torch.

    amuro verify --checkpoint=path/to/converted --reference=path/to/hf_folder
"""

from absl import flags

from amuro_jax.cli import configure

DESCRIPTION = "check a converted checkpoint, against its reference where there is one"


def define_flags() -> None:
    """Declares the verb's flags."""
    configure.define_checkpoint()
    flags.DEFINE_string(
        "reference",
        "",
        "Hugging Face folder that it should equal; logits are compared where torch is installed.",
    )
    configure.define_cache()


def main() -> None:
    """Prints one line per check; exit status 2 when one fails."""
    from amuro_jax.convert import resolver, verify

    args = flags.FLAGS
    configure.require_flags("checkpoint")
    folder = resolver.open_checkpoint(args.checkpoint, args.cache or None)
    checks = verify.verify(folder, args.reference or None)
    marks = {True: "ok", False: "FAILED", None: "-"}
    for check in checks:
        print(f"{marks[check.ok]:<7} {check.name:<17} {check.detail}")
    verify.require(checks, folder)
