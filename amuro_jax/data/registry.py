"""The task registry: one literal table of the study's sets, those its code also ran, and the
laboratory's. What the published pipeline did differently with a set is in the set's own entry.
"""

import dataclasses

from amuro_jax import spelling
from amuro_jax.config import Metric, Role
from amuro_jax.data.formats import FORMATS, FRAMES
from amuro_jax.data.task import DataSource, Family, Kind, Task, quirk
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
_TUNED = (Role.FINE_TUNE, Role.IN_DOMAIN, Role.CROSS_TASK)
_SAME_TASK, _OTHER, _EXTRA = (Role.IN_DOMAIN,), (Role.OUT_OF_DOMAIN,), (Role.EXTRA,)
_READ = ("context", "A", "B", "C", "D")  # question generation: all its fields are there to be read

# Formats that the released code writes files of. It has no IO of the sets of `_NO_IO`, and of
# multiple choice only what the evaluation suite renders.
_NO_IO, _DEFAULT_ONLY, _NONE = ("default", "instruct"), ("default",), ()


def _templates(**templates):
    return tuple(templates.items())


# Quirk 12: the released formatter's own bytes; nothing is between two pieces unless it is written.
_SOCIAL_QUIRK = quirk(
    "published_templates",
    templates=_templates(
        default="### Input: {context}\n ### Answer: Answer A: {A} Answer B: {B}Answer C: {C}\n"
        " ### Question: ",
        instruct="Given the context: {context} And the answer: Answer A: {A} Answer B: {B}"
        "Answer C: {C}Generate a suitable question: ",
        io="{context}{A}{B}{C}",
    ),
)
_SCIQ_QUIRK = quirk(
    "published_templates",
    templates=_templates(
        default="### Input: {context}\n ### Answer: Answer A: {A} Answer B: {B} Answer C: {C}"
        "Answer D: {D}\n ### Question: ",
        instruct="Given the context: {context} And the answer: Answer A: {A} Answer B: {B}"
        "Answer C: {C}Answer D: {D}Generate a suitable question: ",
    ),
)
_TWEETQA_QUIRK = quirk(
    "published_templates",
    templates=_templates(
        default="### Input: {context}\n ### Answer: {A}\n ### Question: ",
        instruct="Given the context: {context} And the answer: {A}Generate a suitable question: ",
    ),
)
_CNN_QUIRK = quirk(  # quirk 13: no IO variant
    "published_templates", templates=_templates(io=FRAMES["summary"]["default"])
)
_UNLABELLED_IS_NO = quirk("published_splits", unlabelled="no")  # quirk 4

_HELLASWAG_TEMPLATES = _templates(
    default="{activity}: {context}",
    instruct="Please continue the following text about {activity}.\n{context}",
    io="{context}",
)
_HELLASWAG_QUIRK = quirk(
    "published_choices",
    reader="hellaswag_parts",
    clean_prompt="without_marks",
    clean_choices="without_marks",
)
_BOOLQ_TEMPLATES = _templates(
    default="{passage}\nQuestion: {question}?\nAnswer:",
    instruct="Please read the following text and answer the question with yes or no.\n{passage}\n"
    "{question}?\nThe answer is:",
    io="{passage} {question}?",
)
_SCIQ_TEMPLATES = _templates(
    default="{support}\nQuestion: {question}\nAnswer:",
    instruct="Please read the following text and answer the question.\n{support}\n{question}\n"
    "The answer is:",
    io="{support} {question}",
)
# Quirk 6: a chat in which the assistant has answered before the question; rows in a random order.
_LLMBAR_QUIRKS = (
    quirk(
        "published_templates",
        templates=_templates(
            default="### Instruction: {instruction}### Output_1: {first}\n ### Output_2: {second}\n"
            " ### Instruction Following: "
        ),
        chat=True,
    ),
    quirk("published_splits", order_seed=42),
    quirk("gold_in_prompt", gold_shown=True),
)


def _summary(name, source, columns, roles, **fields):
    fields = {"reader": name, "published_formats": FORMATS} | fields
    return Task(
        name=name,
        kind=Kind.GENERATION,
        frame="summary",
        source=source,
        columns=columns,
        metric=Metric.ROUGE_L,
        roles=roles,
        family=Family.SUMMARY,
        evidence=("document",),
        **fields,
    )


def _question(name, source, columns, roles, **fields):
    fields = {"reader": name, "published_formats": FORMATS} | fields
    return Task(
        name=name,
        kind=Kind.GENERATION,
        frame="question",
        source=source,
        columns=columns,
        metric=Metric.ROUGE_L,
        roles=roles,
        family=Family.QUESTION,
        evidence=_READ,
        **fields,
    )


def _classes(name, frame, source, columns, roles, labels, **fields):
    fields = {"reader": name, "published_formats": FORMATS} | fields
    return Task(
        name=name,
        kind=Kind.CLASSIFICATION,
        frame=frame,
        source=source,
        columns=columns,
        labels=labels,
        roles=roles,
        family=Family(frame),
        **fields,
    )


def _nli(name, source, columns, roles, **fields):
    return _classes(name, "nli", source, columns, roles, NLI, **fields)


def _paraphrase(name, source, columns, roles, **fields):
    fields = {"reader": "pair", "quirks": (_UNLABELLED_IS_NO,)} | fields
    return _classes(name, "paraphrase", source, columns, roles, YES_NO, **fields)


def _choice(name, source, columns, primary, **fields):
    fields = {
        "reader": name,
        "roles": (Role.MULTIPLE_CHOICE,),
        "published_formats": _DEFAULT_ONLY,
    } | fields
    return Task(
        name=name,
        kind=Kind.MULTIPLE_CHOICE,
        frame="choice",
        source=source,
        columns=columns,
        primary=primary,
        family=Family.KNOWLEDGE,
        **fields,
    )


def _lab(name, **fields):
    return DataSource("", name, **fields)


_OWN = {"licence": "Apache-2.0", "published_formats": None}  # generated by the laboratory


_LAB_SETS = [
    _nli("lab_nli", _lab("lab_nli"), ONE, _TUNED, reader="mnli", **_OWN),
    _paraphrase("lab_paraphrase", _lab("lab_paraphrase"), TWO, _TUNED, **_OWN),
    _question(
        "lab_question",
        _lab("lab_question"),
        SOCIAL,
        _TUNED,
        reader="social_i_qa",
        quirks=(_SOCIAL_QUIRK,),
        **_OWN,
    ),
    _summary(
        "lab_summary", _lab("lab_summary"), ("document", "summary"), _TUNED, reader="xsum", **_OWN
    ),
]


def _out_of_domain(task: Task) -> Task:
    name = f"{task.name}_ood"
    source = _lab(name, train="", shots_from=task.name)
    return dataclasses.replace(task, name=name, source=source, roles=_OTHER)


_ALL = [
    # Summary generation
    _summary("xsum", DataSource("EdinburghNLP/xsum", "xsum"), ("document", "summary"), _TUNED),
    _summary(
        "xlsum",
        DataSource("csebuetnlp/xlsum", "xlsum_english", "english", shots_from="xsum"),
        ("text", "summary"),
        _SAME_TASK,
        licence="CC-BY-NC-SA-4.0",
    ),
    _summary(
        "cnn",
        DataSource("abisee/cnn_dailymail", "cnn_dailymail", "3.0.0", shots_from="xsum"),
        ("article", "highlights"),
        _OTHER,
        licence="Apache-2.0",
        published_formats=_NO_IO,
        quirks=(_CNN_QUIRK,),
    ),
    # Question generation
    _question(
        "socialiqa",
        DataSource(
            "allenai/social_i_qa",
            "social_i_qa",
            also=("social_i_qa_answer_only",),
            test=("validation",),
        ),
        SOCIAL,
        _TUNED,
        reader="social_i_qa",
        quirks=(_SOCIAL_QUIRK,),
    ),
    _question(
        "sciq",
        DataSource("allenai/sciq", "sciq", test=LAST),
        SCIQ,
        _OTHER,
        licence="CC-BY-NC-3.0",
        reader="sciq_question",
        shuffle_options=True,
        published_formats=_NO_IO,
        quirks=(quirk("published_splits", test=("test",)), _SCIQ_QUIRK),
    ),
    _question(
        "tweetqa",
        DataSource("ucsbnlp/tweet_qa", "tweet_qa", test=("validation",)),
        ("Tweet", "Answer", "Question"),
        _OTHER,
        licence="CC-BY-SA-4.0",
        published_formats=_NO_IO,
        quirks=(quirk("published_splits", test=("train",)), _TWEETQA_QUIRK),
    ),
    # Natural language inference
    _nli(
        "mnli_matched",
        DataSource(_GLUE, "glue_mnli", "mnli", test=("validation_matched",)),
        ONE,
        _TUNED,
        licence="OANC and others",
        reader="mnli",
    ),
    _nli(
        "mnli_mismatched",
        DataSource(_GLUE, "glue_mnli", "mnli", test=("validation_mismatched",)),
        ONE,
        _SAME_TASK,
        licence="OANC and others",
        reader="mnli",
    ),
    _nli(
        "rte",
        DataSource(_GLUE, "glue_rte", "rte", test=("validation",)),
        TWO,
        _OTHER,
        answers=(("entailment",), ("neutral", "contradiction")),
        published_formats=_NO_IO,
        quirks=(
            quirk("published_splits", test=("train",)),
            quirk("rte_neutral", answers=()),  # quirk 11: `contradiction` is always wrong
        ),
    ),
    _nli(
        "gpt3nli",
        DataSource(
            "pietrolesci/gpt3_nli", "gpt3_nli", train="", test=("train",), shots_from="mnli_matched"
        ),
        ("text_a", "text_b", "label"),
        _OTHER,
        published_formats=_NO_IO,
    ),
    # Paraphrase detection
    _paraphrase(
        "paws",
        DataSource("google-research-datasets/paws", "paws_labeled_final", "labeled_final"),
        TWO,
        _TUNED,
    ),
    _paraphrase(
        "qqp",
        DataSource(_GLUE, "glue_qqp", "qqp", test=("validation",), shots_from="paws"),
        ("question1", "question2", "label"),
        _OTHER,
        licence="non-commercial",
        reader="qqp",
        published_formats=_NO_IO,
        quirks=(quirk("published_splits", test=("test",), unlabelled="no"),),
    ),
    _paraphrase(
        "stsb",
        DataSource(
            _GLUE,
            "glue_stsb",
            "stsb",
            also=("glue_stsb_binary",),
            test=("validation",),
            shots_from="paws",
        ),
        TWO,
        _OTHER,
        reader="stsb",
        published_formats=_NO_IO,
        quirks=(quirk("published_splits", test=("test",), unlabelled="no"),),
    ),
    # Instruction tuning, and what it is tested on
    Task(
        name="tulu",
        kind=Kind.CHAT,
        frame="chat",
        reader="messages",
        source=DataSource(
            "allenai/tulu-v2-sft-mixture", "tulu_v2", also=("instruct_messages",), test=()
        ),
        columns=("messages",),
        metric=None,
        roles=(Role.FINE_TUNE,),
        family=Family.CHAT,
        licence="ODC-BY-1.0",
    ),
    _choice(
        "arc_easy",
        DataSource("allenai/ai2_arc", "ai2_arc_easy", "ARC-Easy", test=LAST),
        ARC,
        "unconditional",
        licence="CC-BY-SA-4.0",
        reader="arc",
        quirks=(quirk("published_splits", test=("validation",)),),
    ),
    _choice(
        "arc_challenge",
        DataSource("allenai/ai2_arc", "ai2_arc_challenge", "ARC-Challenge", test=LAST),
        ARC,
        "unconditional",
        licence="CC-BY-SA-4.0",
        reader="arc",
        quirks=(quirk("published_splits", test=("validation",)),),
    ),
    _choice(
        "openbookqa",
        DataSource("allenai/openbookqa", "openbookqa", "main", test=LAST),
        ("question_stem", "choices", "answerKey"),
        "unconditional",
        quirks=(
            quirk("published_splits", test=("validation",)),
            quirk("published_choices", templates=_templates(default="{question}")),
        ),
    ),
    _choice(
        "hellaswag",
        DataSource("Rowan/hellaswag", "hellaswag", test=("validation",)),
        HELLASWAG,
        "per_token",
        licence="MIT",
        templates=_HELLASWAG_TEMPLATES,
        quirks=(_HELLASWAG_QUIRK,),
    ),
    _choice(
        "boolq",
        DataSource("aps/super_glue", "boolq", "boolq", test=("validation",)),
        ("question", "passage", "answer|label"),
        "raw",
        licence="CC-BY-SA-3.0",
        evidence=("passage",),
        labels=("yes", "no"),
        templates=_BOOLQ_TEMPLATES,
        quirks=(quirk("published_choices", labels=("no", "yes")),),
    ),
    _choice(
        "sciq_choice",
        DataSource("allenai/sciq", "sciq", test=LAST),
        SCIQ,
        "raw",
        licence="CC-BY-NC-3.0",
        evidence=("support",),
        templates=_SCIQ_TEMPLATES,
        quirks=(
            quirk("published_splits", test=("validation",)),
            quirk("published_choices", clean_prompt="strip"),
        ),
    ),
    # What the study's code also ran; its own prompts of MMLU, GSM8K and TruthfulQA are others
    _classes(
        "llmbar",
        "preference",
        DataSource("princeton-nlp/LLMBar", "llmbar", "LLMBar", train="", test=("Natural",)),
        ("input", "output_1", "output_2", "label"),
        _EXTRA,
        ("1", "2"),
        licence="MIT",
        published_formats=_DEFAULT_ONLY,
        quirks=_LLMBAR_QUIRKS,
    ),
    _choice(
        "mmlu",
        DataSource("cais/mmlu", "mmlu", "all", train="dev", test=LAST),
        ("question", "choices", "answer", "subject"),
        "per_char",
        licence="MIT",
        roles=_EXTRA,
        published_formats=_NONE,
    ),
    Task(
        name="gsm8k",
        kind=Kind.GENERATION,
        frame="math",
        reader="gsm8k",
        source=DataSource("openai/gsm8k", "gsm8k", "main"),
        columns=("question", "answer"),
        metric=Metric.EXACT_NUMBER,
        roles=_EXTRA,
        family=Family.MATH,
        licence="MIT",
        stop=("\n\n", "\n### Question"),
        new_tokens=256,
        published_formats=_NONE,
    ),
    _choice(
        "truthfulqa",
        DataSource(
            "truthfulqa/truthful_qa",
            "truthfulqa",
            "multiple_choice",
            train="",
            test=("validation",),
        ),
        ("question", "mc1_targets"),
        "raw",
        licence="Apache-2.0",
        roles=_EXTRA,
        shuffle_options=True,
        published_formats=_NONE,
        quirks=(quirk("published_choices", shuffle_options=False),),
    ),
    _choice(
        "piqa",
        DataSource("ybisk/piqa", "piqa", test=("validation",)),
        ("goal", "sol1", "sol2", "label"),
        "per_char",
        licence="AFL-3.0",
        roles=_EXTRA,
        published_formats=None,
    ),
    # The laboratory
    *_LAB_SETS,
    *map(_out_of_domain, _LAB_SETS),
    _choice("lab_attributes", _lab("lab_attributes"), ARC, "raw", reader="arc", **_OWN),
    _choice(
        "lab_events",
        _lab("lab_events"),
        HELLASWAG,
        "per_token",
        reader="hellaswag",
        templates=_HELLASWAG_TEMPLATES,
        quirks=(_HELLASWAG_QUIRK,),
        **_OWN,
    ),
]
TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """The task of a name; the path of a YAML file is the set it describes (`data.task_file`).

    Raises:
        ConfigError: unknown, with the nearest name; a YAML file that is wrong, or that takes the
            name of a set of the registry.
    """
    if str(name).endswith((".yaml", ".yml")):
        from amuro_jax.data.task_file import read_task

        task = read_task(name)
        if task.name in TASKS:
            raise ConfigError(
                f"there is a task {task.name!r} already", where=name, hint="choose another name"
            )
        return task
    if name not in TASKS:
        raise ConfigError(
            f"unknown task {name!r}",
            where="task",
            hint=spelling.hint(name, TASKS) + "; or the path of a YAML file",
        )
    return TASKS[name]
