"""The tokenizer of a checkpoint: text ↔ ids, with its special ids explicit and checked (quirk 16).

Built on `tokenizers`.
"""

import datetime
import functools
import hashlib
import json
import shutil
import unicodedata
from pathlib import Path

import tokenizers

from amuro_jax import files
from amuro_jax.errors import CheckpointError, DataError

# One of each class of characters that pre-tokenisers distinguish: their borders at a line end are
# tried once per tokenizer.
LINE_ENDS = ("word\n", "7\n", "?\n", ").\n", "é\n", "語\n", "'s\n", "_\n")
LINE_STARTS = ("word", "Word", "7", "###", '"a', "é", "語", "'s", "_x", "don't")
# Tokenizer classes of transformers whose bos is this token where tokenizer_config.json names none.
BOS_OF_CLASS = {"GPTNeoXTokenizer": "<|endoftext|>", "GPT2Tokenizer": "<|endoftext|>"}
BOS_OF_CLASS |= {"LlamaTokenizer": "<s>"}
END_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>")


class Tokenizer:
    """A fast tokenizer with the ids that end and pad a text.

    Attributes:
        eos_id, bos_id, pad_id: token ids; `bos_id` is None where the family writes none.
        eos_ids: all ids that end a generated text, `eos_id` first: a chat model may have several.
        own_eos_id: the eos that tokenizer_config.json names; `eos_id` where it names none.
        prefix_ids: ids that stand before every text: (bos_id,) or ().
        start_id: id that begins an empty text: bos, even where it is not added to texts,
            else `own_eos_id`.
        fingerprint: SHA-256 of tokenizer.json and the special ids.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        eos_id: int,
        bos_id: int | None,
        pad_id: int | None,
        add_bos: bool = False,
        chat_template: str = "",
        eos_ids: tuple[int, ...] = (),
        own_eos: int | None = None,
    ):
        self._backend, self.eos_id, self.bos_id, self.pad_id, self.chat_template = (
            backend,
            eos_id,
            bos_id,
            pad_id,
            chat_template,
        )
        self._backend.no_truncation()
        self._backend.no_padding()
        self.own_eos_id = eos_id if own_eos is None else own_eos
        self.eos_ids = tuple(dict.fromkeys((eos_id, *eos_ids)))
        self.prefix_ids = (bos_id,) if add_bos and bos_id is not None else ()
        self.start_id = self.own_eos_id if bos_id is None else bos_id
        self.vocab_size = backend.get_vocab_size()
        self._source = backend.to_str()
        self.fingerprint = hashlib.sha256(
            (
                self._source + json.dumps([eos_id, bos_id, pad_id, add_bos, *self.eos_ids[1:]])
            ).encode()
        ).hexdigest()
        # It only adds special tokens, which nobody asks for here, and trims spaces off the offsets,
        # which would hide token boundaries.
        self._backend.post_processor = None
        self._kept, self._cuts_at_lines = ("", ([], [])), None
        self.folder: Path | None = None

    @classmethod
    def from_file(
        cls,
        path,
        *,
        eos_id: int | None = None,
        bos_id: int | None = None,
        pad_id: int | None = None,
    ) -> "Tokenizer":
        """From a tokenizer.json; `eos_id` defaults to the id of the vocabulary's end-of-text token.

        Raises:
            CheckpointError: not a tokenizer, or an id that is not in it.
        """
        backend = _read_backend(path)
        end = _end_of_text(backend) if eos_id is None else eos_id
        if end is None:
            raise CheckpointError("no end-of-text token", where=path, hint="give eos_id")
        return cls(backend, _known(backend, "eos", end, path), bos_id, pad_id)

    @classmethod
    def load(cls, folder, *, eos_id: int | None = None) -> "Tokenizer":
        """From a folder with tokenizer.json; special ids from config.json, generation_config.json
        and tokenizer_config.json.

        Args:
            eos_id: overrides what the files say.

        Raises:
            CheckpointError: no tokenizer there, or no end of text in its files.
        """
        folder = Path(folder)
        backend = _read_backend(folder / "tokenizer.json")
        config = _optional(folder / "config.json")
        generation = _optional(folder / "generation_config.json")
        wrapper = _optional(folder / "special_tokens_map.json")
        wrapper |= _optional(folder / "tokenizer_config.json")
        own_eos = _id_of(backend, wrapper.get("eos_token"))
        ends = [*_all(config.get("eos_token_id")), *_all(generation.get("eos_token_id"))]
        ends += [] if own_eos is None else [own_eos]
        end = eos_id if eos_id is not None else _first(config.get("eos_token_id"))
        if end is None:
            end = own_eos
        if end is None:
            end = _end_of_text(backend)
        if end is None:
            raise CheckpointError(
                "no eos id in config.json, tokenizer_config.json or the vocabulary", where=folder
            )
        name = str(wrapper.get("tokenizer_class") or "").removesuffix("Fast")
        bos = _id_of(backend, wrapper.get("bos_token", BOS_OF_CLASS.get(name)))
        bos = _first(config.get("bos_token_id")) if bos is None and not wrapper else bos
        pad = _first(config.get("pad_token_id"))
        pad = _id_of(backend, wrapper.get("pad_token")) if pad is None else pad
        # tokenizer.json's post-processor says whether texts begin with bos; `add_bos_token` is read
        # by the one class that makes a post-processor of its own.
        adds = _adds_bos(backend, bos)
        if name == "GPTNeoXTokenizer":
            adds = bool(wrapper.get("add_bos_token"))
        template = _text(folder / "chat_template.jinja") or wrapper.get("chat_template")
        if isinstance(template, list):  # several, each with a name
            template = {one["name"]: one["template"] for one in template}.get("default")
        tokenizer = cls(
            backend,
            _known(backend, "eos", end, folder),
            bos,
            pad,
            adds,
            template if isinstance(template, str) else "",
            tuple(token for token in ends if backend.id_to_token(token) is not None),
            own_eos,
        )
        tokenizer.folder = folder
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Ids of a text, no special token added."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: list[str], shared: int = 0) -> list[list[int]]:
        """`encode` of many texts, in parallel.

        `shared` characters at their start are the same, and tokenised once where that is exact.
        """
        if not texts or not all(self._separable(text, shared) for text in texts):
            return [
                encoding.ids
                for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)
            ]
        head, tails = self._head(texts[0][:shared])[0], [text[shared:] for text in texts]
        return [
            head + encoding.ids
            for encoding in self._backend.encode_batch_fast(tails, add_special_tokens=False)
        ]

    def encode_with_offsets(
        self, text: str, shared: int = 0
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and the character span [start, end) of each; `shared` as in `encode_batch`."""
        if not self._separable(text, shared):
            encoding = self._backend.encode(text, add_special_tokens=False)
            return encoding.ids, encoding.offsets
        (ids, offsets), tail = (
            self._head(text[:shared]),
            self._backend.encode(text[shared:], add_special_tokens=False),
        )
        return ids + tail.ids, offsets + [
            (start + shared, end + shared) for start, end in tail.offsets
        ]

    def _head(self, text):
        """Ids and offsets of a shared beginning; the last one is cached."""
        if self._kept[0] != text:
            self._kept = (text, self.encode_with_offsets(text))
        return self._kept[1]

    def _separable(self, text, shared):
        """Whether tokens of `text[:shared]` and of the rest are together those of the text: a line
        end between two marks that are no space.
        """
        if (
            not 1 < shared < len(text)
            or text[shared - 1] != "\n"
            or text[shared - 2].isspace()
            or text[shared].isspace()
        ):
            return False
        if self._cuts_at_lines is None:
            self._cuts_at_lines = all(
                self.encode(a + b) == self.encode(a) + self.encode(b)
                for a in LINE_ENDS
                for b in LINE_STARTS
            )
        return self._cuts_at_lines and not unicodedata.combining(text[shared])

    def encode_batch_with_offsets(
        self, texts: list[str], shared: int = 0
    ) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """`encode_with_offsets` of many texts, in parallel."""
        if not texts or not all(self._separable(text, shared) for text in texts):
            return [
                (encoding.ids, encoding.offsets)
                for encoding in self._backend.encode_batch(texts, add_special_tokens=False)
            ]
        ids, offsets = self._head(texts[0][:shared])
        tails = self._backend.encode_batch(
            [text[shared:] for text in texts], add_special_tokens=False
        )
        return [
            (
                ids + tail.ids,
                offsets + [(start + shared, end + shared) for start, end in tail.offsets],
            )
            for tail in tails
        ]

    def decode(self, ids, *, skip_special: bool = False) -> str:
        """Text of ids, special tokens included.

        Args:
            skip_special: leave them out, as generated text is read: those that tokenizer.json marks
                as special, and eos, bos and pad, marked or not.
        """
        if skip_special:
            named = {*self.eos_ids, self.bos_id, self.pad_id}
            ids = [token for token in ids if token not in named]
        return self._backend.decode(list(ids), skip_special_tokens=skip_special)

    def starts_with(self, text: str, token_id: int | None) -> bool:
        """Whether `text` begins with the string of a special token."""
        return token_id is not None and text.startswith(self.decode([token_id]))

    def token(self, token_id: int) -> str | None:
        """The vocabulary's string of an id."""
        return self._backend.id_to_token(token_id)

    def save(self, folder) -> None:
        """Writes tokenizer.json and tokenizer_config.json, or copies the files that it was loaded
        from.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.folder is not None:
            for path in self.folder.iterdir():
                if path.is_file():
                    shutil.copyfile(path, folder / path.name)
            return
        files.write_text(folder / "tokenizer.json", self._source)
        named = {"eos_token": self.eos_id, "bos_token": self.bos_id, "pad_token": self.pad_id}
        wrapper = {name: self.token(value) for name, value in named.items() if value is not None}
        files.write_json(
            folder / "tokenizer_config.json",
            {"tokenizer_class": "PreTrainedTokenizerFast", **wrapper},
        )


def open_tokenizer(path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, of a folder with one, or of a converted checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return Tokenizer.from_file(path)
    return Tokenizer.load(path / "tokenizer" if (path / "tokenizer").is_dir() else path)


def _read_backend(path):
    if not Path(path).is_file():
        raise CheckpointError(
            "tokenizer.json is missing", where=path, hint="give a folder that has it: --tokenizer=…"
        )
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"not a tokenizer: {error}", where=path) from error


def _optional(path):
    return files.read_json(path) if path.is_file() else {}


def _text(path):
    return path.read_text() if path.is_file() else ""


def _first(value):
    return (
        value[0] if isinstance(value, list) and value else value if isinstance(value, int) else None
    )


def _all(value):
    """Ids of a configuration field that holds one, several or none."""
    return [token for token in (value if isinstance(value, list) else [value]) if token is not None]


def _id_of(backend, token):
    token = token.get("content") if isinstance(token, dict) else token
    return backend.token_to_id(token) if token else None


def _end_of_text(backend):
    return next(
        (number for number in map(backend.token_to_id, END_NAMES) if number is not None), None
    )


def _adds_bos(backend, bos):
    return bos is not None and backend.encode("a", add_special_tokens=True).ids[:1] == [bos]


def _known(backend, kind, token_id, where):
    if backend.id_to_token(token_id) is None:
        raise CheckpointError(
            f"{kind} id {token_id} is not in the vocabulary of {backend.get_vocab_size()}",
            where=where,
        )
    return token_id


def check_eos(tokenizer: Tokenizer, where: object = "tokenizer") -> str | None:
    """A warning where eos is not the vocabulary's end-of-text token (quirk 16), else None.

    In one OLMo tokenizer id 50279 is `|||IP_ADDRESS|||` and 0 is `<|endoftext|>`; in the other they
    are swapped. The wrong one trains a model that never stops.
    """
    expected = _end_of_text(tokenizer._backend)
    if expected is None or expected == tokenizer.eos_id:
        return None
    stated, end = tokenizer.token(tokenizer.eos_id), tokenizer.token(expected)
    return f"{where}: eos id {tokenizer.eos_id} is {stated!r}, but {end!r} is id {expected}"


CONTINUED = "<the message goes on here> "  # marks where a message that is to be continued ends


def render_chat(
    tokenizer: Tokenizer, messages: list[dict], *, generate: bool = False, go_on: bool = False
) -> str:
    """Messages under the tokenizer's own chat template, as transformers renders them.

    Args:
        generate: end with the beginning of an assistant's message.
        go_on: end within the last message, which is to be continued, instead of closing it.

    Raises:
        DataError: the tokenizer has no template, the template refuses the messages, or `go_on` with
            a template that leaves the last message out.
    """
    import jinja2

    if not tokenizer.chat_template:
        raise DataError("the tokenizer has no chat template", where=tokenizer.folder)
    names = {
        "eos_token": tokenizer.token(tokenizer.own_eos_id),
        "bos_token": tokenizer.token(tokenizer.bos_id) if tokenizer.bos_id is not None else "",
    }
    if tokenizer.pad_id is not None:
        names["pad_token"] = tokenizer.token(tokenizer.pad_id)
    if go_on:
        last = messages[-1]
        messages = [*messages[:-1], last | {"content": last["content"] + CONTINUED}]
    try:
        template = _compiled_template(tokenizer.chat_template)
        text = template.render(messages=messages, add_generation_prompt=generate, **names)
    except jinja2.exceptions.TemplateError as error:
        raise DataError(f"the chat template refuses: {error}", where=tokenizer.folder) from error
    if not go_on:
        return text
    end = text.rfind(CONTINUED.strip())
    if end < 0:
        raise DataError("the chat template drops the last message", where=tokenizer.folder)
    # A template that strips contents strips the mark's space, and what precedes the mark.
    return text[:end] if text.startswith(CONTINUED, end) else text[:end].rstrip()


@functools.lru_cache(maxsize=8)
def _compiled_template(source: str):
    """A chat template with the functions and tags that transformers gives to templates."""
    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which marks the assistant's text for training: its content alone."""

        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    def to_json(value, ensure_ascii=False, **options):
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)  # no HTML escapes

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment.from_string(source)
