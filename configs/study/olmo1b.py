"""The published grid on OLMo-1B: eight pre-training checkpoints × five fine-tuning sets × all test
sets, three formats, four shots.

  amuro study --config=configs/study/olmo1b.py --config.workdir=work/olmo1b

Needs the network (checkpoints and data sets come from the Hub; --config.data_root=FOLDER takes
local data instead) and accelerators: the published study cost 1,067 A100-hours. --dry_run lists
every job first; a share of it: --config.select=1000,738000. On eight accelerators with the memory
for it the eight checkpoints are fine-tuned in one program, one on each; --config.disk_budget_gb=60
takes them one after another instead. Expect, from the published tables:
fine-tuning gains on MNLI, PAWS, XSum and SocialIQa grow from .06 at step 1000 to about .29 from
step 342000 on; multiple choice changes by less than .05 after Tulu; classification → generation
transfer −61 %, generation → classification about 0. Those numbers were made under the published
protocol: --config=configs/study/olmo1b.py:paper. Without the argument it is `strict`.
"""

from amuro_jax.config import (
    Dtype,
    EvalSet,
    FineTune,
    ProtocolName,
    Recipe,
    Remat,
    Role,
    Scoring,
    StudyConfig,
    TrainRun,
)

CHECKPOINTS = "1000,18000,342000,424000,505000,592000,738000,main"
IN_DOMAIN = {
    "xsum": ("xsum", "xlsum"),
    "socialiqa": ("socialiqa",),
    "mnli_matched": ("mnli_matched", "mnli_mismatched"),
    "paws": ("paws",),
}
OUT_OF_DOMAIN = {
    "xsum": ("cnn",),
    "socialiqa": ("sciq", "tweetqa"),
    "mnli_matched": ("rte", "gpt3nli"),
    "paws": ("qqp", "stsb"),
}
AFTER_TULU = ("arc_easy", "arc_challenge", "openbookqa", "hellaswag", "boolq", "sciq_choice")


def get_config(protocol: str = "strict") -> StudyConfig:
    """The study of this file under `protocol`."""
    name = ProtocolName(protocol)
    return StudyConfig(
        name="OLMo-1B",
        suite="allenai/OLMo-1B-hf",
        select=CHECKPOINTS,
        formats=("default", "instruct", "io"),
        shots=(4,),
        fine_tunes=(
            FineTune("xsum", learning_rate=2e-7),
            FineTune("socialiqa"),
            FineTune("mnli_matched"),
            FineTune("paws"),
            FineTune("tulu", epochs=5, all_rows=True),
        ),
        evals=(
            *(
                EvalSet(task, Role.IN_DOMAIN, of=(owner,))
                for owner, tasks in IN_DOMAIN.items()
                for task in tasks
            ),
            *(
                EvalSet(task, Role.OUT_OF_DOMAIN, of=(owner,))
                for owner, tasks in OUT_OF_DOMAIN.items()
                for task in tasks
            ),
            *(EvalSet(task, Role.MULTIPLE_CHOICE, of=("tulu",)) for task in AFTER_TULU),
        ),
        recipe=Recipe(protocol=name),
        train_run=TrainRun(stack=None, remat=Remat.AUTO),
        scoring=Scoring(protocol=name, dtype=Dtype.BFLOAT16),
    )
