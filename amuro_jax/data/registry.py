"""The task registry: one literal table of the study's sets, those its code also ran, and the laboratory's."""

from amuro_jax.data.task import Source, Task
from amuro_jax.errors import ConfigError

NLI = ("entailment", "neutral", "contradiction")
YES_NO = ("no", "yes")
SOCIAL = ("context", "question")
ARC = ("question", "choices", "answerKey")


def _generation(name, frame, source, columns, roles, licence="unspecified", reader=None):
    return Task(name, "generation", frame, reader or name, source, columns, (), "rougeL", roles, frame, licence=licence)


def _classes(name, frame, source, columns, roles, labels=YES_NO, licence="unspecified", reader=None):
    return Task(name, "classification", frame, reader or name, source, columns, labels, "accuracy", roles, frame, licence=licence)


def _choice(name, source, columns, primary, licence="unspecified", reader=None, roles=("multiple_choice",)):
    return Task(name, "multiple_choice", "choice", reader or name, source, columns, (), "accuracy", roles, "knowledge", primary, licence)


def _lab(name, **fields):
    return Source("", name, **fields)


_TUNED = ("fine_tune", "in_domain", "cross_task")
_LAB_SETS = [
    _classes("lab_nli", "nli", _lab("lab_nli"), ("premise", "hypothesis", "label"), _TUNED, NLI, "Apache-2.0", "mnli"),
    _classes("lab_paraphrase", "paraphrase", _lab("lab_paraphrase"), ("sentence1", "sentence2", "label"), _TUNED, YES_NO, "Apache-2.0", "pair"),
    _generation("lab_question", "question", _lab("lab_question"), SOCIAL, _TUNED, "Apache-2.0", "social_i_qa"),
    _generation("lab_summary", "summary", _lab("lab_summary"), ("document", "summary"), _TUNED, "Apache-2.0", "xsum"),
]


def _out_of_domain(task: Task) -> Task:
    name = f"{task.name}_ood"
    source = _lab(name, train="", shots_from=task.name)
    return Task(
        name,
        task.kind,
        task.frame,
        task.reader,
        source,
        task.columns,
        task.labels,
        task.metric,
        ("out_of_domain",),
        task.family,
        licence=task.licence,
    )


_GLUE = "nyu-mll/glue"
_ALL = [
    # Summary generation
    _generation("xsum", "summary", Source("EdinburghNLP/xsum", "xsum"), ("document", "summary"), _TUNED),
    _generation(
        "xlsum",
        "summary",
        Source("csebuetnlp/xlsum", "xlsum_english", "english", shots_from="xsum"),
        ("text", "summary"),
        ("in_domain",),
        "CC-BY-NC-SA-4.0",
    ),
    _generation(
        "cnn",
        "summary",
        Source("abisee/cnn_dailymail", "cnn_dailymail", "3.0.0", shots_from="xsum"),
        ("article", "highlights"),
        ("out_of_domain",),
        "Apache-2.0",
    ),
    # Question generation
    _generation(
        "socialiqa",
        "question",
        Source("allenai/social_i_qa", "social_i_qa", also=("social_i_qa_answer_only",), test=("validation",)),
        SOCIAL,
        _TUNED,
        reader="social_i_qa",
    ),
    _generation(
        "sciq",
        "question",
        Source("allenai/sciq", "sciq", test=("test", "validation"), published_test="test"),
        ("question", "correct_answer", "distractor1", "distractor2", "distractor3", "support"),
        ("out_of_domain",),
        "CC-BY-NC-3.0",
        "sciq_question",
    ),
    _generation(
        "tweetqa",
        "question",
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
        ("premise", "hypothesis", "label"),
        _TUNED,
        NLI,
        "OANC and others",
        "mnli",
    ),
    _classes(
        "mnli_mismatched",
        "nli",
        Source(_GLUE, "glue_mnli", "mnli", test=("validation_mismatched",)),
        ("premise", "hypothesis", "label"),
        ("in_domain",),
        NLI,
        "OANC and others",
        "mnli",
    ),
    _classes(
        "rte",
        "nli",
        Source(_GLUE, "glue_rte", "rte", test=("validation",), published_test="train"),
        ("sentence1", "sentence2", "label"),
        ("out_of_domain",),
        NLI,
        reader="rte",
    ),
    _classes(
        "gpt3nli",
        "nli",
        Source("pietrolesci/gpt3_nli", "gpt3_nli", train="", test=("train",), shots_from="mnli_matched"),
        ("text_a", "text_b", "label"),
        ("out_of_domain",),
        NLI,
    ),
    # Paraphrase detection
    _classes(
        "paws",
        "paraphrase",
        Source("google-research-datasets/paws", "paws_labeled_final", "labeled_final"),
        ("sentence1", "sentence2", "label"),
        _TUNED,
        reader="pair",
    ),
    _classes(
        "qqp",
        "paraphrase",
        Source(_GLUE, "glue_qqp", "qqp", test=("validation",), published_test="test", shots_from="paws"),
        ("question1", "question2", "label"),
        ("out_of_domain",),
        licence="non-commercial",
    ),
    _classes(
        "stsb",
        "paraphrase",
        Source(_GLUE, "glue_stsb", "stsb", also=("glue_stsb_binary",), test=("validation",), published_test="test", shots_from="paws"),
        ("sentence1", "sentence2", "label"),
        ("out_of_domain",),
    ),
    # Instruction tuning, and what it is tested on
    Task(
        "tulu",
        "chat",
        "chat",
        "messages",
        Source("allenai/tulu-v2-sft-mixture", "tulu_v2", also=("instruct_messages",)),
        ("messages",),
        roles=("fine_tune",),
        family="chat",
        licence="ODC-BY-1.0",
    ),
    _choice(
        "arc_easy",
        Source("allenai/ai2_arc", "ai2_arc_easy", "ARC-Easy", test=("test", "validation"), published_test="validation"),
        ARC,
        "unconditional",
        "CC-BY-SA-4.0",
        "arc",
    ),
    _choice(
        "arc_challenge",
        Source("allenai/ai2_arc", "ai2_arc_challenge", "ARC-Challenge", test=("test", "validation"), published_test="validation"),
        ARC,
        "unconditional",
        "CC-BY-SA-4.0",
        "arc",
    ),
    _choice(
        "openbookqa",
        Source("allenai/openbookqa", "openbookqa", "main", test=("test", "validation"), published_test="validation"),
        ("question_stem", "choices", "answerKey"),
        "unconditional",
    ),
    _choice("hellaswag", Source("Rowan/hellaswag", "hellaswag", test=("validation",)), ("activity_label", "endings", "label"), "per_token", "MIT"),
    _choice("boolq", Source("google/boolq", "boolq", test=("validation",)), ("question", "passage", "answer"), "raw", "CC-BY-SA-3.0"),
    _choice(
        "sciq_choice",
        Source("allenai/sciq", "sciq", test=("test", "validation"), published_test="validation"),
        ("question", "correct_answer", "distractor1", "distractor2", "distractor3", "support"),
        "raw",
        "CC-BY-NC-3.0",
    ),
    _choice("piqa", Source("ybisk/piqa", "piqa", test=("validation",)), ("goal", "sol1", "sol2", "label"), "per_char", "AFL-3.0", roles=("extra",)),
    # The laboratory
    *_LAB_SETS,
    *map(_out_of_domain, _LAB_SETS),
    _choice("lab_attributes", _lab("lab_attributes"), ARC, "raw", "Apache-2.0", "arc"),
    _choice("lab_events", _lab("lab_events"), ("activity_label", "endings", "label"), "per_token", "Apache-2.0", "hellaswag"),
]

TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """The task of a name.

    Raises:
        ConfigError: unknown, with the names there are.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}", where="task", hint="tasks: " + ", ".join(TASKS))
    return TASKS[name]


def add_task(task: Task) -> None:
    """Adds a user's own set for this process.

    Raises:
        ConfigError: the name is taken by another set.
    """
    if TASKS.get(task.name, task) != task:
        raise ConfigError(f"there is a task {task.name!r} already", where="task file", hint="choose another name")
    TASKS[task.name] = task
