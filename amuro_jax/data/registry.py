"""The task registry: one literal table of the study's sets, those its code also ran, and the
laboratory's.
"""

import dataclasses

from amuro_jax.data.task import Source, Task
from amuro_jax.errors import ConfigError

NLI = ("entailment", "neutral", "contradiction")
YES_NO = ("no", "yes")
SOCIAL = ("context", "question", "answerA|answer")
ARC = ("question", "choices", "answerKey")
SCIQ = ("question", "correct_answer", "distractor1", "distractor2", "distractor3", "support")
HELLASWAG = ("activity_label", "ctx|ctx_a", "endings", "label")
ONE, TWO = ("premise", "hypothesis", "label"), ("sentence1", "sentence2", "label")
LAST = ("test", "validation")  # scored where labelled, else the other

_GLUE = "nyu-mll/glue"
_TUNED = ("fine_tune", "in_domain", "cross_task")
_READ = ("context", "A", "B", "C", "D")  # question generation: all its fields are there to be read


def _summary(name, source, columns, roles, licence="unspecified"):
    return Task(
        name,
        "generation",
        "summary",
        name,
        source,
        columns,
        (),
        "rougeL",
        roles,
        "summary",
        licence=licence,
        evidence=("document",),
    )


def _question(name, source, columns, roles, licence="unspecified", reader=None):
    return Task(
        name,
        "generation",
        "question",
        reader or name,
        source,
        columns,
        (),
        "rougeL",
        roles,
        "question",
        licence=licence,
        evidence=_READ,
    )


def _classes(
    name, frame, source, columns, roles, labels=YES_NO, licence="unspecified", reader=None
):
    return Task(
        name,
        "classification",
        frame,
        reader or name,
        source,
        columns,
        labels,
        "accuracy",
        roles,
        frame,
        licence=licence,
    )


def _choice(
    name,
    source,
    columns,
    primary,
    licence="unspecified",
    reader=None,
    roles=("multiple_choice",),
    evidence=(),
):
    fields = {
        "roles": roles,
        "family": "knowledge",
        "primary": primary,
        "licence": licence,
        "evidence": evidence,
    }
    return Task(
        name, "multiple_choice", "choice", reader or name, source, columns, (), "accuracy", **fields
    )


def _lab(name, **fields):
    return Source("", name, **fields)


_LAB_SETS = [
    _classes("lab_nli", "nli", _lab("lab_nli"), ONE, _TUNED, NLI, "Apache-2.0", "mnli"),
    _classes(
        "lab_paraphrase",
        "paraphrase",
        _lab("lab_paraphrase"),
        TWO,
        _TUNED,
        YES_NO,
        "Apache-2.0",
        "pair",
    ),
    _question("lab_question", _lab("lab_question"), SOCIAL, _TUNED, "Apache-2.0", "social_i_qa"),
    dataclasses.replace(
        _summary("lab_summary", _lab("lab_summary"), ("document", "summary"), _TUNED, "Apache-2.0"),
        reader="xsum",
    ),
]


def _out_of_domain(task: Task) -> Task:
    name = f"{task.name}_ood"
    return dataclasses.replace(
        task, name=name, source=_lab(name, train="", shots_from=task.name), roles=("out_of_domain",)
    )


_ALL = [
    # Summary generation
    _summary("xsum", Source("EdinburghNLP/xsum", "xsum"), ("document", "summary"), _TUNED),
    _summary(
        "xlsum",
        Source("csebuetnlp/xlsum", "xlsum_english", "english", shots_from="xsum"),
        ("text", "summary"),
        ("in_domain",),
        "CC-BY-NC-SA-4.0",
    ),
    _summary(
        "cnn",
        Source("abisee/cnn_dailymail", "cnn_dailymail", "3.0.0", shots_from="xsum"),
        ("article", "highlights"),
        ("out_of_domain",),
        "Apache-2.0",
    ),
    # Question generation
    _question(
        "socialiqa",
        Source(
            "allenai/social_i_qa",
            "social_i_qa",
            also=("social_i_qa_answer_only",),
            test=("validation",),
        ),
        SOCIAL,
        _TUNED,
        reader="social_i_qa",
    ),
    _question(
        "sciq",
        Source("allenai/sciq", "sciq", test=LAST, published_test="test"),
        SCIQ,
        ("out_of_domain",),
        "CC-BY-NC-3.0",
        "sciq_question",
    ),
    _question(
        "tweetqa",
        Source("ucsbnlp/tweet_qa", "tweet_qa", test=("validation",), published_test="train"),
        ("Tweet", "Answer", "Question"),
        ("out_of_domain",),
        "CC-BY-SA-4.0",
    ),
    # Natural language inference
    _classes(
        "mnli_matched",
        "nli",
        Source(_GLUE, "glue_mnli", "mnli", test=("validation_matched",)),
        ONE,
        _TUNED,
        NLI,
        "OANC and others",
        "mnli",
    ),
    _classes(
        "mnli_mismatched",
        "nli",
        Source(_GLUE, "glue_mnli", "mnli", test=("validation_mismatched",)),
        ONE,
        ("in_domain",),
        NLI,
        "OANC and others",
        "mnli",
    ),
    _classes(
        "rte",
        "nli",
        Source(_GLUE, "glue_rte", "rte", test=("validation",), published_test="train"),
        TWO,
        ("out_of_domain",),
        NLI,
    ),
    _classes(
        "gpt3nli",
        "nli",
        Source(
            "pietrolesci/gpt3_nli", "gpt3_nli", train="", test=("train",), shots_from="mnli_matched"
        ),
        ("text_a", "text_b", "label"),
        ("out_of_domain",),
        NLI,
    ),
    # Paraphrase detection
    _classes(
        "paws",
        "paraphrase",
        Source("google-research-datasets/paws", "paws_labeled_final", "labeled_final"),
        TWO,
        _TUNED,
        reader="pair",
    ),
    _classes(
        "qqp",
        "paraphrase",
        Source(
            _GLUE, "glue_qqp", "qqp", test=("validation",), published_test="test", shots_from="paws"
        ),
        ("question1", "question2", "label"),
        ("out_of_domain",),
        licence="non-commercial",
    ),
    _classes(
        "stsb",
        "paraphrase",
        Source(
            _GLUE,
            "glue_stsb",
            "stsb",
            also=("glue_stsb_binary",),
            test=("validation",),
            published_test="test",
            shots_from="paws",
        ),
        TWO,
        ("out_of_domain",),
    ),
    # Instruction tuning, and what it is tested on
    Task(
        "tulu",
        "chat",
        "chat",
        "messages",
        Source("allenai/tulu-v2-sft-mixture", "tulu_v2", also=("instruct_messages",), test=()),
        ("messages",),
        metric="",
        roles=("fine_tune",),
        family="chat",
        licence="ODC-BY-1.0",
    ),
    _choice(
        "arc_easy",
        Source(
            "allenai/ai2_arc", "ai2_arc_easy", "ARC-Easy", test=LAST, published_test="validation"
        ),
        ARC,
        "unconditional",
        "CC-BY-SA-4.0",
        "arc",
    ),
    _choice(
        "arc_challenge",
        Source(
            "allenai/ai2_arc",
            "ai2_arc_challenge",
            "ARC-Challenge",
            test=LAST,
            published_test="validation",
        ),
        ARC,
        "unconditional",
        "CC-BY-SA-4.0",
        "arc",
    ),
    _choice(
        "openbookqa",
        Source("allenai/openbookqa", "openbookqa", "main", test=LAST, published_test="validation"),
        ("question_stem", "choices", "answerKey"),
        "unconditional",
    ),
    _choice(
        "hellaswag",
        Source("Rowan/hellaswag", "hellaswag", test=("validation",)),
        HELLASWAG,
        "per_token",
        "MIT",
    ),
    _choice(
        "boolq",
        Source("aps/super_glue", "boolq", "boolq", test=("validation",)),
        ("question", "passage", "answer|label"),
        "raw",
        "CC-BY-SA-3.0",
        evidence=("passage",),
    ),
    _choice(
        "sciq_choice",
        Source("allenai/sciq", "sciq", test=LAST, published_test="validation"),
        SCIQ,
        "raw",
        "CC-BY-NC-3.0",
        evidence=("support",),
    ),
    # What the study's code also ran
    _classes(
        "llmbar",
        "preference",
        Source("princeton-nlp/LLMBar", "llmbar", "LLMBar", train="", test=("Natural",)),
        ("input", "output_1", "output_2", "label"),
        ("extra",),
        ("1", "2"),
        "MIT",
    ),
    _choice(
        "mmlu",
        Source("cais/mmlu", "mmlu", "all", train="dev", test=LAST),
        ("question", "choices", "answer", "subject"),
        "per_char",
        "MIT",
        roles=("extra",),
    ),
    Task(
        "gsm8k",
        "generation",
        "math",
        "gsm8k",
        Source("openai/gsm8k", "gsm8k", "main"),
        ("question", "answer"),
        (),
        "exact_number",
        ("extra",),
        "math",
        licence="MIT",
        stop=("\n\n", "\n### Question"),
        new_tokens=256,
    ),
    _choice(
        "truthfulqa",
        Source(
            "truthfulqa/truthful_qa",
            "truthfulqa",
            "multiple_choice",
            train="",
            test=("validation",),
        ),
        ("question", "mc1_targets"),
        "raw",
        "Apache-2.0",
        roles=("extra",),
    ),
    _choice(
        "piqa",
        Source("ybisk/piqa", "piqa", test=("validation",)),
        ("goal", "sol1", "sol2", "label"),
        "per_char",
        "AFL-3.0",
        roles=("extra",),
    ),
    # The laboratory
    *_LAB_SETS,
    *map(_out_of_domain, _LAB_SETS),
    _choice("lab_attributes", _lab("lab_attributes"), ARC, "raw", "Apache-2.0", "arc"),
    _choice("lab_events", _lab("lab_events"), HELLASWAG, "per_token", "Apache-2.0", "hellaswag"),
]
TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """The task of a name; the name of a YAML file stands for the set it describes
    (`data.task_file`).

    Raises:
        ConfigError: unknown, with the names there are.
    """
    if name.endswith((".yaml", ".yml")):
        from amuro_jax.data.task_file import read_task

        return add_task(read_task(name))
    if name not in TASKS:
        raise ConfigError(
            f"unknown task {name!r}",
            where="task",
            hint="a YAML file, or one of: " + ", ".join(TASKS),
        )
    return TASKS[name]


def add_task(task: Task) -> Task:
    """Adds a user's own set for this process, and gives it back.

    Raises:
        ConfigError: the name is taken by another set.
    """
    if TASKS.get(task.name, task) != task:
        raise ConfigError(
            f"there is a task {task.name!r} already", where="task file", hint="choose another name"
        )
    TASKS[task.name] = task
    return task
