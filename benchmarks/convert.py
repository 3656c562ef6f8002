"""Peak memory and time of converting a full-size OLMo-1B (random weights, 4.7 GB in fp32), against
transformers.from_pretrained.

    python benchmarks/convert.py --scratch=/tmp/convert_benchmark

Writes the model as sharded safetensors and as one .bin, then runs each program in a process of its
own under /usr/bin/time -v.
Needs torch, transformers, 24 GB of disk, and 6 GB of memory for making and loading the torch model.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from amuro_jax.convert import families, rules, safetensors

CONFIG = {
    "model_type": "olmo",
    "architectures": ["OlmoForCausalLM"],
    "vocab_size": 50304,
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 8192,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "eos_token_id": 50279,
    "pad_token_id": 1,
    "bos_token_id": None,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "clip_qkv": None,
    "torch_dtype": "float32",
}
HF = (
    "import sys, torch, transformers; "
    "m = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32); "
)
# touches every page, as a use of the model would
HF += "print(sum(float(p.sum()) for p in m.parameters()))"
IDLE = "import jax, orbax.checkpoint, tensorstore, amuro_jax.convert.importer; jax.devices()"


def make(folder: Path) -> None:
    """The model in both containers."""
    config = families.config_from_hf(CONFIG)
    expected = rules.expected_tensors(families.get_family("olmo").rules(config), config)
    random = np.random.default_rng(0)
    names = list(expected)
    half = len(names) // 2
    sharded, single = folder / "safetensors", folder / "bin"
    for target in (sharded, single):
        target.mkdir(parents=True)
        (target / "config.json").write_text(json.dumps(CONFIG))
    weight_map = {}
    for number, part in enumerate((names[:half], names[half:])):
        file = f"model-{number + 1:05d}-of-00002.safetensors"
        shapes = {name: (expected[name].shape, np.dtype(np.float32)) for name in part}
        content = (
            random.standard_normal(expected[name].shape, np.float32) * np.float32(0.02)
            for name in part
        )
        safetensors.write(sharded / file, shapes, content)
        weight_map |= dict.fromkeys(part, file)
    (sharded / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    script = (
        "import sys, torch, safetensors.torch as s; d = {}; "
        "[d.update(s.load_file(f)) for f in sys.argv[2:]]; torch.save(d, sys.argv[1])"
    )
    subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            single / "pytorch_model.bin",
            *sorted(sharded.glob("*.safetensors")),
        ],
        check=True,
    )


def measure(label: str, command: list) -> None:
    """Runs a command under /usr/bin/time -v and prints its wall time and peak resident memory."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    run = subprocess.run(
        ["/usr/bin/time", "-v", *map(str, command)], capture_output=True, text=True, env=environment
    )
    if run.returncode:
        sys.exit(run.stderr)
    wall = re.search(r"Elapsed.*: ([\d:.]+)\n", run.stderr)[1].split(":")
    seconds = sum(float(part) * 60**power for power, part in enumerate(reversed(wall)))
    peak = int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", run.stderr)[1])
    print(f"| {label} | {seconds:.1f} s | {peak * 1024 / 1e9:.2f} GB |", flush=True)


def main() -> None:
    """Makes the model, measures every program, and removes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", required=True, type=Path)
    scratch = parser.parse_args().scratch
    model = scratch / "model"
    amuro = [sys.executable, "-m", "amuro_jax"]
    try:
        make(model)
        print("| program | wall time | peak resident memory |\n|---|---|---|")
        measure(
            "imports alone (jax, orbax, tensorstore, the importer)", [sys.executable, "-c", IDLE]
        )
        for form in ("safetensors", "bin"):
            convert = [
                *amuro,
                "convert",
                f"--checkpoint={model / form}",
                f"--out={scratch / form}",
                f"--cache={scratch / 'cache'}",
            ]
            measure(f"amuro convert, {form}", convert)
            measure(
                f"transformers.from_pretrained, {form}", [sys.executable, "-c", HF, model / form]
            )
        export = [
            *amuro,
            "export",
            f"--checkpoint={scratch / 'safetensors'}",
            f"--out={scratch / 'hf'}",
            "--shard_gb=2",
        ]
        measure("amuro export", export)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
