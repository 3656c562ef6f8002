"""One function per native row shape: (task under its protocol, row, index) → `Example`, or a
ValueError that says what is wrong with the row.
"""

import random

from amuro_jax.data.task import Kind, Task
from amuro_jax.data.types import Example

LETTERS = "ABCDEFGHIJ"
UNLABELLED = "label -1: the split is unlabelled, any score on it is meaningless"


def _text(row, column):
    value = row[column]
    if not isinstance(value, str):
        raise ValueError(f"column {column!r} must be text, got {type(value).__name__}")
    return value


def _class(task: Task, label) -> int:
    """Index of a native label; −1 is refused, or what the task says (quirk 4)."""
    if label in (-1, "-1"):
        if task.unlabelled:
            return task.labels.index(task.unlabelled)
        raise ValueError(UNLABELLED)
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(task.labels):
        raise ValueError(
            f"label {label!r} is not one of 0 … {len(task.labels) - 1} ({', '.join(task.labels)})"
        )
    return label


def _labelled(task, row, index, fields, gold):
    doc_id = str(row.get("idx", row.get("id", index)))
    return Example(index, doc_id, fields, task.labels[gold], task.labels, gold)


def _open(row, index, fields, completion):
    if not completion.strip():
        raise ValueError("the reference text is empty")
    return Example(index, str(row.get("id", row.get("qid", index))), fields, completion)


def xsum(task, row, index):
    """document, summary."""
    return _open(row, index, {"document": _text(row, "document")}, _text(row, "summary"))


def xlsum(task, row, index):
    """text, summary."""
    return _open(row, index, {"document": _text(row, "text")}, _text(row, "summary"))


def cnn(task, row, index):
    """article, highlights."""
    return _open(row, index, {"document": _text(row, "article")}, _text(row, "highlights"))


def social_i_qa(task, row, index):
    """context, question, and answerA … answerC (or only the right `answer`)."""
    if "answerA" in row:
        fields = {letter: _text(row, f"answer{letter}") for letter in "ABC"}
    elif "answer" in row:
        fields = {"A": _text(row, "answer")}
    else:
        raise ValueError("neither answerA nor answer")
    return _open(row, index, {"context": _text(row, "context"), **fields}, _text(row, "question"))


def sciq_question(task, row, index):
    """support, correct_answer, distractor1–3, question.

    The right answer comes first, `formats` shuffles.
    """
    options = [
        _text(row, name) for name in ("correct_answer", "distractor1", "distractor2", "distractor3")
    ]
    return _open(
        row,
        index,
        {"context": _text(row, "support"), **dict(zip("ABCD", options, strict=True))},
        _text(row, "question"),
    )


def tweetqa(task, row, index):
    """Tweet, Answer (the first counts), Question."""
    answers = row["Answer"]
    if not isinstance(answers, list) or not answers:
        raise ValueError(
            "column 'Answer' must be a list with an answer (the Hub's test split has none)"
        )
    return _open(
        row, index, {"context": _text(row, "Tweet"), "A": str(answers[0])}, _text(row, "Question")
    )


def mnli(task, row, index):
    """premise, hypothesis, label 0–2."""
    fields = {"premise": _text(row, "premise"), "hypothesis": _text(row, "hypothesis")}
    return _labelled(task, row, index, fields, _class(task, row["label"]))


def gpt3nli(task, row, index):
    """text_a, text_b, label 0–2."""
    fields = {"premise": _text(row, "text_a"), "hypothesis": _text(row, "text_b")}
    return _labelled(task, row, index, fields, _class(task, row["label"]))


def rte(task, row, index):
    """sentence1, sentence2, label 0 entailment / 1 not."""
    label = row["label"]
    if label not in (0, 1):
        raise ValueError(UNLABELLED if label == -1 else f"label {label!r} is not 0 or 1")
    fields = {"premise": _text(row, "sentence1"), "hypothesis": _text(row, "sentence2")}
    return _labelled(task, row, index, fields, label)


def pair(task, row, index):
    """sentence1, sentence2, label 0/1."""
    fields = {"sentence1": _text(row, "sentence1"), "sentence2": _text(row, "sentence2")}
    return _labelled(task, row, index, fields, _class(task, row["label"]))


paws = pair


def qqp(task, row, index):
    """question1, question2, label 0/1 (−1 on the Hub's test split)."""
    fields = {"sentence1": _text(row, "question1"), "sentence2": _text(row, "question2")}
    return _labelled(task, row, index, fields, _class(task, row["label"]))


def stsb(task, row, index):
    """sentence1, sentence2, label: a score of 0–5, yes above 3.5, or already 0/1 as an integer."""
    label = row["label"]
    if isinstance(label, float):
        label = int(label > 3.5) if 0 <= label <= 5 else int(label)
    fields = {"sentence1": _text(row, "sentence1"), "sentence2": _text(row, "sentence2")}
    return _labelled(task, row, index, fields, _class(task, label))


def messages(task, row, index):
    """messages: [{role, content}, …] with at least one assistant turn."""
    turns = row["messages"]
    if not isinstance(turns, list) or not any(turn["role"] == "assistant" for turn in turns):
        raise ValueError(
            "column 'messages' must be a list of {role, content} with an assistant turn"
        )
    fields = {f"{number}:{turn['role']}": str(turn["content"]) for number, turn in enumerate(turns)}
    return Example(index, str(row.get("id", index)), fields, "")


def preference(task, row, index):
    """chosen, rejected: two conversations (lists of {role, content}) that differ in the last
    answer, or two answers to the prompt that the set's fields make.
    """
    parts = dict(task.mapping)
    sides = [row[parts.get(name, name)] for name in ("chosen", "rejected")]
    doc_id = str(row.get(parts.get("id", "id"), index))
    if all(isinstance(side, str) for side in sides):
        if not parts.get("fields"):
            raise ValueError("chosen and rejected are texts, and the set has no fields of a prompt")
        fields = {field: _text(row, column) for field, column in parts["fields"]}
        return Example(index, doc_id, fields, sides[0], tuple(sides), 0)
    if not all(isinstance(side, list) and side for side in sides):
        raise ValueError("chosen and rejected must both be texts, or lists of {role, content}")
    turns = [[(turn["role"], str(turn["content"])) for turn in side] for side in sides]
    if turns[0][:-1] != turns[1][:-1]:
        raise ValueError("chosen and rejected differ before their last turn")
    if {side[-1][0] for side in turns} != {"assistant"}:
        raise ValueError("the last turn of chosen and rejected must be the assistant's")
    fields = {f"{number}:{role}": text for number, (role, text) in enumerate(turns[0][:-1])}
    answers = tuple(side[-1][1] for side in turns)
    return Example(index, doc_id, fields, answers[0], answers, 0)


def _choices(row, index, fields, options, gold, doc_id=None, group=""):
    if not 0 <= gold < len(options):
        raise ValueError(f"the answer is option {gold}, there are {len(options)}")
    return Example(
        index,
        str(doc_id if doc_id is not None else index),
        fields,
        options[gold],
        tuple(options),
        gold,
        group,
    )


def _lettered(row, index, fields):
    texts, letters, key = row["choices"]["text"], row["choices"]["label"], row.get("answerKey")
    if key not in letters:
        raise ValueError(f"answerKey {key!r} is not one of {letters}")
    return _choices(row, index, fields, list(texts), list(letters).index(key), row.get("id"))


def arc(task, row, index):
    """question, choices {text, label}, answerKey."""
    return _lettered(row, index, {"question": _text(row, "question")})


def openbookqa(task, row, index):
    """question_stem, choices {text, label}, answerKey."""
    return _lettered(row, index, {"question": _text(row, "question_stem")})


def hellaswag(task, row, index):
    """activity_label, ctx (or ctx_a and ctx_b), endings, label."""
    if "ctx" in row:
        return _hellaswag(row, index, _text(row, "ctx"))
    return _hellaswag(row, index, f"{_text(row, 'ctx_a')} {row.get('ctx_b') or ''}".strip())


def hellaswag_parts(task, row, index):
    """As `hellaswag`, of the context's two parts where they are there, the second capitalised."""
    if "ctx_a" not in row:
        return hellaswag(task, row, index)
    return _hellaswag(row, index, f"{row['ctx_a']} {str(row.get('ctx_b') or '').capitalize()}")


def _hellaswag(row, index, context):
    if str(row["label"]) == "":
        raise ValueError(UNLABELLED)
    fields = {"activity": _text(row, "activity_label"), "context": context}
    return _choices(row, index, fields, list(row["endings"]), _whole(row["label"]), row.get("ind"))


def boolq(task, row, index):
    """question, passage, answer (or label); the task's labels are the choices.

    SuperGLUE's passages begin with their title.
    """
    answer = row["answer"] if "answer" in row else row["label"]
    if answer == -1:
        raise ValueError(UNLABELLED)
    if answer not in (0, 1):
        raise ValueError(f"answer {answer!r} is not true or false")
    fields = {"passage": _text(row, "passage"), "question": _text(row, "question")}
    gold = task.labels.index("yes" if answer else "no")
    return _choices(row, index, fields, list(task.labels), gold, row.get("idx"))


def sciq_choice(task, row, index):
    """support, question, distractor1–3, correct_answer (the last option)."""
    options = [
        _text(row, name) for name in ("distractor1", "distractor2", "distractor3", "correct_answer")
    ]
    return _choices(
        row,
        index,
        {"support": _text(row, "support"), "question": _text(row, "question")},
        options,
        3,
    )


def piqa(task, row, index):
    """goal, sol1, sol2, label."""
    if row["label"] == -1:
        raise ValueError(UNLABELLED)
    return _choices(
        row,
        index,
        {"question": _text(row, "goal")},
        [_text(row, "sol1"), _text(row, "sol2")],
        _whole(row["label"]),
    )


def mmlu(task, row, index):
    """question, subject (the group), choices, answer (index)."""
    return _choices(
        row,
        index,
        {"question": _text(row, "question")},
        list(row["choices"]),
        _whole(row["answer"]),
        None,
        _text(row, "subject"),
    )


def truthfulqa(task, row, index):
    """question, mc1_targets {choices, labels}: one right choice, the first on the Hub.

    The options are shuffled by row where the task says so.
    """
    texts, labels = list(row["mc1_targets"]["choices"]), list(row["mc1_targets"]["labels"])
    if labels.count(1) != 1:
        raise ValueError(f"mc1_targets has {labels.count(1)} right choices, not one")
    right = texts[labels.index(1)]
    if task.shuffle_options:
        random.Random(f"options:{index}").shuffle(texts)
    return _choices(row, index, {"question": _text(row, "question")}, texts, texts.index(right))


def llmbar(task, row, index):
    """input, output_1, output_2, label 1 or 2: the better output."""
    fields = {
        "instruction": _text(row, "input"),
        "first": _text(row, "output_1"),
        "second": _text(row, "output_2"),
    }
    if row["label"] not in (1, 2):
        raise ValueError(f"label {row['label']!r} is not 1 or 2")
    return _labelled(task, row, index, fields, row["label"] - 1)


def gsm8k(task, row, index):
    """question, answer: a worked solution that ends in `#### number`."""
    if "####" not in _text(row, "answer"):
        raise ValueError("column 'answer' has no line '#### number'")
    return _open(row, index, {"question": _text(row, "question")}, row["answer"])


def mapped(task, row, index):
    """A user's set: each part of the example from the column that `task.mapping` names."""
    parts = dict(task.mapping)
    fields = {field: _text(row, column) for field, column in parts["fields"]}
    doc_id, group = str(row.get(parts.get("id"), index)), str(row.get(parts.get("group"), ""))
    if task.kind == Kind.GENERATION:
        return Example(index, doc_id, fields, _text(row, parts["completion"]), group=group)
    gold = row[parts["gold"]]
    if task.kind == Kind.CLASSIFICATION:
        return Example(
            index,
            doc_id,
            fields,
            task.labels[chosen := _label_of(task, gold)],
            task.labels,
            chosen,
            group,
        )
    options = (
        [_text(row, column) for column in parts["choices"]]
        if isinstance(parts["choices"], tuple)
        else list(row[parts["choices"]])
    )
    return _choices(
        row,
        index,
        fields,
        options,
        options.index(gold) if gold in options else _whole(gold),
        doc_id,
        group,
    )


def _label_of(task, label):
    """A label word or its index."""
    return task.labels.index(label) if label in task.labels else _class(task, label)


def _whole(value):
    """An index that may be written as text."""
    if isinstance(value, bool) or not str(value).lstrip("-").isdigit():
        raise ValueError(f"label {value!r} is not an integer")
    if int(value) == -1:
        raise ValueError(UNLABELLED)
    return int(value)
