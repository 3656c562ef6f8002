"""What `amuro tasks` shows: the table of sets, prompts with their token boundaries, and rendered
requests as JSONL.
"""

import collections
import dataclasses
import json
from pathlib import Path

import numpy as np

from amuro_jax import files
from amuro_jax.data import sources
from amuro_jax.data.queries import build_queries
from amuro_jax.data.registry import TASKS
from amuro_jax.data.task import Kind
from amuro_jax.data.tokenizer import Tokenizer
from amuro_jax.data.types import Query

COLUMNS = ("task", "kind", "roles", "metric", "train", "scored", "source", "licence")
BORDER = "│"  # between tokens


def table(data_root: str = "") -> list[dict[str, str]]:
    """One line per set of the registry.

    With `data_root`, splits that are not there are in brackets.
    """
    lines = []
    for task in TASKS.values():
        source = task.source
        primary = f" ({task.primary})" if task.kind == Kind.MULTIPLE_CHOICE else ""
        metric = (task.metric or "") + primary
        where = (
            " ".join(part for part in (source.hub, source.config) if part)
            or f"local {source.folder}"
        )
        train = _there(task, source.train, data_root) if source.train else "-"
        train = f"shots: {source.shots_from}" if source.shots_from else train
        values = (
            task.name,
            task.kind,
            ",".join(task.roles),
            metric or "-",
            train,
            _scored(task, data_root),
            where,
            task.licence,
        )
        lines.append(dict(zip(COLUMNS, values, strict=True)))
    return lines


def _there(task, split, data_root):
    return split if not data_root or sources.split_path(task, split, data_root) else f"[{split}]"


def _scored(task, data_root):
    splits = task.source.test
    if not splits:
        return "-"
    if not data_root:
        return "|".join(splits)
    return next(
        (split for split in splits if sources.split_path(task, split, data_root)),
        f"[{'|'.join(splits)}]",
    )


def aligned(lines: list[dict[str, str]]) -> str:
    """Lines as columns of equal width, with a heading."""
    if not lines:
        return "(nothing)"
    widths = {name: max(len(name), *(len(str(line[name])) for line in lines)) for name in lines[0]}
    rows = [dict(zip(widths, widths, strict=True)), *lines]
    return "\n".join(
        "  ".join(str(row[name]).ljust(width) for name, width in widths.items()).rstrip()
        for row in rows
    )


def boundaries(text: str, tokenizer: Tokenizer) -> str:
    """The text with a bar between tokens and line ends made visible.

    A bar of the text itself is doubled.
    """
    _, offsets = tokenizer.encode_with_offsets(text)
    starts = sorted({start for start, _ in offsets} - {0})
    pieces = [text[a:b] for a, b in zip([0, *starts], [*starts, len(text)], strict=True)]
    return BORDER.join(piece.replace(BORDER, BORDER * 2).replace("\n", "⏎\n") for piece in pieces)


def shown(query: Query, tokenizer: Tokenizer | None) -> str:
    """One query for a reader: its context, its choices as they are tokenised behind the context,
    what is right.
    """
    mark = (
        (lambda text: boundaries(text, tokenizer))
        if tokenizer
        else (lambda text: text.replace("\n", "⏎\n"))
    )
    size = f", {len(tokenizer.encode(query.context))} tokens" if tokenizer else ""
    head = (
        f"── {query.task} row {query.row} ({query.doc_id}), {query.format}, "
        f"{query.shots} shots {list(query.shot_rows)}{size}"
    )
    lost = (
        f"   dropped shots {query.dropped_shots}, cut tokens {query.cut_tokens}"
        if query.dropped_shots or query.cut_tokens
        else ""
    )
    lines = [head + lost, mark(query.context)]
    for index, forms in enumerate(query.continuations):
        shown_forms = "   or   ".join(_behind(query, form, tokenizer) for form in forms)
        lines.append(f"   {'→' if index == query.gold else ' '} {shown_forms}")
    if not query.continuations:
        lines.append(
            f"   → {query.reference!r}   (stops at {list(query.stop)} and eos)"
            if query.stop
            else f"   → {query.reference!r}"
        )
    return "\n".join(lines)


def _behind(query, form, tokenizer):
    """A continuation with its boundaries as they fall behind the context.

    `…` where a token reaches over from the context.
    """
    if tokenizer is None:
        return repr(form)
    if not query.joint:
        return repr(form)[0] + boundaries(form, tokenizer) + "'"
    tail = query.context[-40:]
    _, offsets = tokenizer.encode_with_offsets(tail + form)
    pieces = [(tail + form)[start:end] for start, end in offsets if end > len(tail)]
    reaches = next((start for start, end in offsets if end > len(tail)), len(tail)) < len(tail)
    return ("…" if reaches else "") + "'" + BORDER.join(pieces) + "'"


def requests(queries: list[Query]):
    """Yields {task, doc_id, idx, context, continuation, label} for every form of every choice.

    Generation has idx 0 and the reference.
    """
    for query in queries:
        common = {"task": query.task, "doc_id": query.doc_id}
        if not query.continuations:
            yield common | {
                "idx": 0,
                "context": query.context,
                "continuation": None,
                "label": query.reference,
            }
        for index, forms in enumerate(query.continuations):
            for form in forms:
                yield common | {
                    "idx": index,
                    "context": query.context,
                    "continuation": form,
                    "label": query.gold,
                }


def dump(queries: list[Query], path) -> int:
    """Writes the requests as JSONL, in one piece, and returns their number."""
    lines = [json.dumps(request, ensure_ascii=False) + "\n" for request in requests(queries)]
    files.write_text(Path(path), "".join(lines))
    return len(lines)


def sizes(
    task,
    format: str,
    shots: int,
    protocol,
    tokenizer: Tokenizer,
    data_root: str,
    max_length: int = 2048,
    max_new_tokens: int = 60,
) -> dict:
    """One line of figures of a set: rows, prompt tokens before anything is cut (median, 95 %), rows
    that overflow, label balance.

    Args:
        max_new_tokens: reserved for generation when overflow is counted.
    """
    uncut = dataclasses.replace(protocol, no_fitting=True)
    queries = build_queries(
        task, format, shots, uncut, tokenizer, data_root=data_root, max_length=max_length
    )
    lengths = np.asarray(
        [
            len(ids)
            for ids in tokenizer.encode_batch(
                [query.context for query in queries], queries[0].shared
            )
        ]
    )
    room = max_length - (0 if queries[0].continuations else queries[0].new_tokens or max_new_tokens)
    return {
        "task": task.name,
        "rows": len(queries),
        "median": int(np.median(lengths)),
        "95 %": int(np.quantile(lengths, 0.95)),
        "longest": int(lengths.max()),
        f"over {max_length}": int((lengths > room).sum()),
        "balance": _balance(queries),
    }


def _balance(queries):
    if not queries[0].continuations:
        return "-"
    count = collections.Counter(
        query.reference if len(query.continuations[0]) > 1 else f"option {query.gold + 1}"
        for query in queries
    )
    return ", ".join(
        f"{name} {number / len(queries):.2f}" for name, number in sorted(count.items())
    )
