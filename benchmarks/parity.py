"""The parity table: per family and variant, logits against HF torch, and HF → Orbax → HF
compared bit for bit.

    python benchmarks/parity.py

Tiny random models (`tests/convert/builders.py`), 128 tokens, one line of two padded on the left or
on the right.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax.numpy as jnp
import numpy as np

from amuro_jax import checkpoint, convert
from amuro_jax.convert import containers, exporter, tensors, verify
from amuro_jax.models.layout import padded
from tests.convert import builders


def row(variant: str, scratch: Path) -> str:
    """One line of the table."""
    hf, source = builders.build(variant), builders.save(variant, scratch / "hf")
    folder = convert.open_checkpoint(source, scratch / "cache")
    config, params = checkpoint.read_config(folder), checkpoint.load_params(folder)
    tokens, masks = verify.example_tokens(config)
    worst = {
        side: verify.logit_difference(params, config, hf, tokens, mask)
        for side, mask in masks.items()
    }
    reference = verify.run_reference(hf, tokens, masks["left"])[0][masks["left"]]
    half = np.asarray(
        verify.run_model(params, tokens, padded(masks["left"]), config, jnp.bfloat16)
    )[masks["left"]]
    error = np.linalg.norm(half - reference) / np.linalg.norm(reference)
    exporter.export(folder, scratch / "back")
    before, after = containers.read_table(source), containers.read_table(scratch / "back")
    same = set(before) == set(after) and all(
        tensors.read(before[name]).tobytes() == tensors.read(after[name]).tobytes()
        for name in before
    )
    largest = np.abs(reference).max()
    differences = f"{worst['left']:.1e} | {worst['right']:.1e} | {largest:.1f} | {error:.4f}"
    return f"| {variant} | {differences} | {'yes' if same else 'NO'} |"


def main() -> None:
    """Prints the table."""
    print(
        "| family and variant | max abs Δlogit, left-padded | right-padded | largest logit "
        "| bf16 relative error | round trip bit-identical |"
    )
    print("|---|---|---|---|---|---|")
    for variant in builders.VARIANTS:
        with tempfile.TemporaryDirectory() as scratch:
            print(row(variant, Path(scratch)), flush=True)


if __name__ == "__main__":
    main()
