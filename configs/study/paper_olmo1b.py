"""The published study of OLMo-1B, under the published protocol: `olmo1b.py:paper` by the name of
what it is.

  amuro study --config=configs/study/paper_olmo1b.py --config.workdir=work/paper-olmo1b

`olmo1b.py` says what it needs and what to expect. What it costs:
`amuro plan --config=configs/study/paper_olmo1b.py --topology=v5p:2x2x2`: 40 fine-tunings and 624
scores, 95 chip-hours (91 of them Tulu), 71 GB of disk; the published study cost 1,067 A100-hours.
"""

import runpy
from pathlib import Path

from amuro_jax.config import StudyConfig


def get_config() -> StudyConfig:
    """The study of this file."""
    grid = runpy.run_path(str(Path(__file__).with_name("olmo1b.py")))
    return grid["get_config"]("paper")
