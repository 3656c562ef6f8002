"""The auditor of data sets: labels, leaks, repeated rows, contexts and label words, before anything
is scored. No jax.
"""

import collections
import dataclasses
import re

import numpy as np

from amuro_jax.config import Role
from amuro_jax.data import formats, queries, readers, sources
from amuro_jax.data.protocols import STRICT, Protocol
from amuro_jax.data.registry import get_task
from amuro_jax.data.task import Kind, Task
from amuro_jax.data.tokenizer import Tokenizer, check_eos
from amuro_jax.data.types import Example, Query
from amuro_jax.errors import AmuroError
from amuro_jax.evals.audit import FEW_ROWS, SEVERITIES, Finding, flag, scored_shots

NGRAM = 13  # words; as in studies of contamination of pre-training data
LEAK_MARGIN = (
    0.5  # share of rows with the gold in the prompt, above the share with another option in it
)


def audit_task(
    task: Task,
    protocol: Protocol = STRICT,
    *,
    data_root: str = "",
    format: str = "default",
    shots: int = 4,
    tokenizer: Tokenizer | None = None,
    max_length: int = 2048,
    max_new_tokens: int = 60,
) -> list[Finding]:
    """Findings on one set as a protocol would score it, the worst first; without a tokenizer, sizes
    and label tokens are not looked at.

    Raises:
        DataError: the set's rows are not there.
    """
    if task.kind in (Kind.CHAT, Kind.PREFERENCE):  # trained on only
        return _eos(tokenizer)
    task = task.under(protocol)
    split = sources.test_split(task, protocol, data_root)
    where = f"{task.name}/{split.name} ({protocol.name}, {format}, {shots} shots)"
    test, findings = _readable(task, split, protocol)
    findings += _eos(tokenizer) + _templates(task, format, protocol)
    if test:
        findings += _labels(task, test) + _repeated(test) + _overlap(task, split, test, data_root)
        findings += _prompts(
            task, test, protocol, data_root, format, shots, tokenizer, max_length, max_new_tokens
        )
    if tokenizer and task.kind == Kind.CLASSIFICATION:
        findings += label_tokens(task, format, tokenizer, protocol)
    ordered = sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))
    return [dataclasses.replace(finding, where=finding.where or where) for finding in ordered]


def _readable(task, split, protocol) -> tuple[list[Example], list[Finding]]:
    """The rows that can be read, and what is wrong with the others.

    Unlabelled rows are named even where the protocol takes them.
    """
    read, examples, faults, unlabelled = getattr(readers, task.reader), [], [], 0
    rows = sources.raw_rows(task, split)
    for index, (where, row) in enumerate(rows):
        unlabelled += row.get("label") in (-1, "-1", -1.0, "") or row.get("answerKey") == ""
        try:
            examples.append(read(task, row, index))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if readers.UNLABELLED not in str(error):
                faults.append((where, f"{error}"))
    findings = (
        [flag("unlabelled", f"{unlabelled} of {len(rows)} rows have label -1")]
        if unlabelled
        else []
    )
    if faults:
        findings.append(
            flag(
                "unreadable",
                f"{len(faults)} of {len(rows)} rows cannot be read; the first: {faults[0][1]}",
                where=faults[0][0],
            )
        )
    return examples, findings


def _eos(tokenizer):
    warning = check_eos(tokenizer) if tokenizer else None
    return [flag("wrong_eos", warning)] if warning else []


def _templates(task, format, protocol):
    findings = []
    if task.lacks_published(format, protocol):
        what = f"the released code has no {format} prompts of {task.name}"
        findings.append(flag("format_not_published", what))
    if task.kind == Kind.MULTIPLE_CHOICE:
        return findings
    template = formats.template_of(task, format, protocol)
    if protocol.published_templates and template[-1:].isspace() and not task.chat:
        findings.append(flag("boundary_space", "the prompt ends in a space"))
    if protocol.published_templates and re.search(r"\}[A-Za-z{]", template):
        findings.append(flag("glued_text", f"nothing separates the parts of {template!r}"))
    if format != "default" and template == formats.template_of(task, "default", protocol):
        findings.append(flag("format_falls_back", f"{format} is the same as default"))
    if protocol.no_stop and task.kind == Kind.GENERATION:
        findings.append(flag("no_stop", "generation ends at eos or its length only"))
    return findings


def _labels(task, test):
    if task.kind != Kind.CLASSIFICATION or len(test) < FEW_ROWS:
        return []
    used = {example.gold for example in test}
    if len(used) == 1:
        return [
            flag(
                "single_label",
                f"all {len(test)} rows have the same gold label, {test[0].completion!r}",
            )
        ]
    classes = set(range(len(task.answers or task.labels)))
    if never := sorted(classes - used):
        return [
            flag(
                "unused_label",
                f"{', '.join(task.labels[index] for index in never)}: "
                f"never the gold label of {len(test)} rows",
            )
        ]
    return []


def _key(example):
    """Text of a row for comparison: its fields in order, white space and case aside."""
    return " ".join(
        " ".join(example.fields[name].lower().split()) for name in sorted(example.fields)
    )


def _repeated(test):
    groups = collections.defaultdict(list)
    for example in test:
        groups[
            _key(example), example.choices if example.gold is not None else example.completion
        ].append(example)
    extra = sum(len(group) - 1 for group in groups.values())
    clash = sum(len({example.gold for example in group}) > 1 for group in groups.values())
    findings = []
    if extra:
        severity = "warning" if extra > 0.01 * len(test) else "note"
        first = next(group for group in groups.values() if len(group) > 1)
        rows = f"rows {first[0].row} and {first[1].row}"
        what = f"{extra} of {len(test)} rows are duplicates, e.g. {rows}"
        findings.append(flag("duplicate_rows", what, severity))
    if clash:
        findings.append(flag("contradictory_labels", f"{clash} texts occur with different labels"))
    return findings


def _overlap(task, split, test, data_root):
    owner = get_task(task.source.shots_from) if task.source.shots_from else task
    if split.name == task.source.train and owner is task:
        return [flag("train_split_scored", f"{split.name} is the split that is trained on")]
    try:
        train = (
            sources.load_examples(owner, sources.train_split(owner, data_root), STRICT)
            if owner.source.train
            else []
        )
    except AmuroError:
        return []  # no training split here: nothing to compare with
    candidates = {
        gram for example in test for gram in _grams(_key(example))
    }  # a training split can have a thousand times as many
    seen, grams = {_key(example) for example in train}, set()
    for example in train:
        grams |= _grams(_key(example)) & candidates
    exact = [example for example in test if _key(example) in seen]
    partly = [
        example
        for example in test
        if _key(example) not in seen and _share(_grams(_key(example)), grams) > 0.5
    ]
    findings, trained = [], Role.FINE_TUNE in owner.roles  # other training splits only give shots
    if exact:
        what = (
            f"{len(exact)} of {len(test)} rows are in the training split of {owner.name} too, "
            f"e.g. row {exact[0].row}"
        )
        findings.append(
            flag(
                "train_overlap",
                what,
                "warning" if trained and len(exact) > 0.01 * len(test) else "note",
            )
        )
    if partly:
        what = (
            f"{len(partly)} of {len(test)} rows share more than half of their {NGRAM}-word "
            f"sequences with it, e.g. row {partly[0].row}"
        )
        findings.append(
            flag(
                "ngram_overlap",
                what,
                "warning" if trained and len(partly) > 0.1 * len(test) else "note",
            )
        )
    return findings


def _grams(text):
    words = text.split()
    return {hash(tuple(words[start : start + NGRAM])) for start in range(len(words) - NGRAM + 1)}


def _share(ours, theirs):
    return len(ours & theirs) / len(ours) if ours else 0.0


def _prompts(task, test, protocol, data_root, format, shots, tokenizer, max_length, max_new_tokens):
    options = {"data_root": data_root, "max_length": max_length, "max_new_tokens": max_new_tokens}
    try:
        built = queries.build_queries(task, format, shots, protocol, tokenizer, **options)
    except AmuroError as error:
        return [flag("unreadable", error.what, where=str(error.where or ""))]
    findings, examples = [], {example.row: example for example in test}
    if hit := scored_shots(
        {shot for query in built for shot in query.shot_rows}, {query.row for query in built}
    ):
        shown = ", ".join(hit[:6]) + (", …" if len(hit) > 6 else "")
        findings.append(
            flag(
                "shot_scored",
                f"{len(hit)} of {len(built)} scored rows also serve as shots: {shown}",
            )
        )
    findings += _leaks(
        task,
        [
            (query, examples[query.row])
            for query in queries.build_queries(task, format, 0, protocol, None, **options)
        ],
    )
    return findings + (_sizes(built, tokenizer, max_length, max_new_tokens) if tokenizer else [])


def _leaks(task: Task, pairs: list[tuple[Query, Example]]) -> list[Finding]:
    """Gold in the prompt itself (no shots), where the fields that may hold the answer are taken
    out of it.
    """
    golds, others = [], []
    for query, example in pairs:
        text = query.context
        for field in task.evidence:
            if example.fields.get(field):
                text = text.replace(example.fields[field], " ")
        golds.append(_contains(text, example.completion))
        wrong = [choice for index, choice in enumerate(example.choices) if index != example.gold]
        others.append(
            float(np.mean([_contains(text, choice) for choice in wrong])) if wrong else 0.0
        )
    share, usual = float(np.mean(golds)), float(np.mean(others))
    if share - usual <= (LEAK_MARGIN if task.kind != Kind.GENERATION else 0.05):
        return []
    return [
        flag(
            "gold_in_prompt",
            f"the gold is in the prompt of {share:.0%} of the rows, another option in {usual:.0%}",
        )
    ]


def _contains(text, piece):
    """Whether `piece` is in the text as complete words."""
    piece = piece.strip().lower()
    return bool(piece) and re.search(rf"(?<!\w){re.escape(piece)}(?!\w)", text.lower()) is not None


def _sizes(queries, tokenizer, max_length, max_new_tokens):
    sizes = np.asarray(
        [len(ids) for ids in tokenizer.encode_batch([query.context for query in queries])]
    )
    room = max_length - (0 if queries[0].continuations else queries[0].new_tokens or max_new_tokens)
    findings = []
    if over := int((sizes > room).sum()):
        findings.append(
            flag(
                "context_overflow",
                f"{over} of {len(queries)} contexts are longer than {room} tokens "
                f"(longest {sizes.max()})",
            )
        )
    dropped, cut = (
        sum(query.dropped_shots > 0 for query in queries),
        sum(query.cut_tokens > 0 for query in queries),
    )
    if dropped or cut:
        findings.append(
            flag(
                "context_fitted",
                f"of {len(queries)} rows, {dropped} lost shots and {cut} lost text",
            )
        )
    return findings


def label_tokens(
    task: Task, format: str, tokenizer: Tokenizer, protocol: Protocol = STRICT
) -> list[Finding]:
    """Label words that share their first token, or that are another number of tokens with a space
    before them.
    """
    words = [formats.word_for(word, task, format) for word in task.labels]
    spaced, bare = ([tokenizer.encode(space + word) for word in words] for space in (" ", ""))
    findings = []
    for ids in (spaced, bare):
        firsts = collections.defaultdict(list)
        for word, tokens in zip(words, ids, strict=True):
            firsts[tokens[0]].append(word)
        if shared := [group for group in firsts.values() if len(group) > 1]:
            severity = "error" if protocol.sub_token_candidates else "warning"
            findings.append(
                flag(
                    "labels_share_token",
                    f"{' and '.join(shared[0])} begin with the same token",
                    severity,
                )
            )
            break
    uneven = [
        f"{word} ({len(a)} with a space, {len(b)} without)"
        for word, a, b in zip(words, spaced, bare, strict=True)
        if len(a) != len(b)
    ]
    if uneven or any(len(tokens) > 1 for tokens in spaced + bare):
        what = f"tokens: {', '.join(uneven)}" if uneven else "some labels are more than one token"
        if protocol.sub_token_candidates:
            pieces = [token for tokens in spaced + bare for token in tokens]
            what += f"; {len(pieces)} sub-tokens compete as answers, {len(set(pieces))} distinct"
        findings.append(
            flag("labels_split", what, "warning" if protocol.sub_token_candidates else "note")
        )
    return findings
