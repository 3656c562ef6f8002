"""The published grid on OLMo-1B: eight pre-training checkpoints × five fine-tuning sets × all test
sets, three formats, four shots.

  amuro study --config=configs/study/olmo1b.py --config.workdir=work/olmo1b \\
    --config.disk_budget_gb=60 --config.score.mesh=data:-1

Needs the network (checkpoints and data sets come from the Hub; --config.data_root=FOLDER takes
local data instead) and accelerators: the
published study cost 1,067 A100-hours. --dry_run lists every cell first; a share of it:
--config.select=1000,738000. Expect, from the published
tables: fine-tuning gains on MNLI, Paws, XSum and SocialIQa grow from .06 at step 1000 to about .29
from step 342000 on; multiple choice
changes by less than .05 after Tulu; classification → generation transfer −61 %, generation →
classification about 0. Those numbers were made
under the published protocol (--config.score.protocol=paper --config.train.protocol=paper); this
file's default is `strict`.
"""

from amuro_jax.config import EvalSet, FineTune, ScoreConfig, StudyConfig, TrainConfig

CHECKPOINTS = "1000,18000,342000,424000,505000,592000,738000,main"
ALL_ROWS = 1_000_000  # more than Tulu has: all of it


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="OLMo-1B",
        suite="allenai/OLMo-1B-hf",
        select=CHECKPOINTS,
        formats="default,instruct,io",
        shots="4",
        fine_tunes=[
            FineTune("xsum", learning_rate=2e-7),
            FineTune("socialiqa"),
            FineTune("mnli_matched"),
            FineTune("paws"),
            FineTune("tulu", epochs=5, rows=ALL_ROWS),
        ],
        evals=[
            EvalSet("xsum", "in_domain", "xsum"),
            EvalSet("xlsum", "in_domain", "xsum"),
            EvalSet("socialiqa", "in_domain", "socialiqa"),
            EvalSet("mnli_matched", "in_domain", "mnli_matched"),
            EvalSet("mnli_mismatched", "in_domain", "mnli_matched"),
            EvalSet("paws", "in_domain", "paws"),
            EvalSet("cnn", "out_of_domain", "xsum"),
            EvalSet("sciq", "out_of_domain", "socialiqa"),
            EvalSet("tweetqa", "out_of_domain", "socialiqa"),
            EvalSet("rte", "out_of_domain", "mnli_matched"),
            EvalSet("gpt3nli", "out_of_domain", "mnli_matched"),
            EvalSet("qqp", "out_of_domain", "paws"),
            EvalSet("stsb", "out_of_domain", "paws"),
            *(
                EvalSet(name, "multiple_choice", "tulu")
                for name in (
                    "arc_easy",
                    "arc_challenge",
                    "openbookqa",
                    "hellaswag",
                    "boolq",
                    "sciq_choice",
                )
            ),
        ],
        train=TrainConfig(
            rows=6000, epochs=3, batch_size=8, learning_rate=2e-6, dtype="bfloat16", max_length=2048
        ),
        score=ScoreConfig(max_new_tokens=60, bootstrap=3000, dtype="bfloat16"),
    )
