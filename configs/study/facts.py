"""Base checkpoints of the laboratory of facts on the set about its late creatures, all rows: what a
search for when something is learned is judged by (benchmarks/facts.py).

  amuro lab --config=configs/lab/facts.py --config.out=work/facts/lab
  amuro study --config=configs/study/facts.py --config.suite=work/facts/lab/checkpoints \\
    --config.data_root=work/facts/lab/data --config.workdir=work/facts/study
"""

from amuro_jax.config import EvalSet, Role, Scoring, StudyConfig


def get_config() -> StudyConfig:
    """The study of this file."""
    return StudyConfig(
        name="facts",
        shots=(0,),
        evals=(EvalSet("lab_late_facts", Role.MULTIPLE_CHOICE),),
        scoring=Scoring(bootstrap=200),
    )
