"""YAML as configuration needs it: what is typed is what is read, and nothing else is possible.

The value is built straight from PyYAML's events, so that no constructor or resolver ever runs. A file looks like

    upstream: hubert_base:layer=9
    seeds: [1, 2, 3]
    lr_grid: [1e-3, 1e-4]

and reads as YAML 1.2 does, only narrower: `true` and `false` are booleans (`yes`, `no`, `on`, `off` stay text),
`null`, `~` and nothing are null, a plain decimal such as `128`, `-3`, `1e-3` or `.5` is a number. Everything else
(`0005`, `0x10`, `1_000`, `12:30:00`, a date) stays the text it is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from superbench.errors import UsageError, did_you_mean

MAX_BYTES = 1_000_000
MAX_DEPTH = 100

_CONSTANTS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./:=|+,@-]*")
_QUOTED_FOR_OTHERS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}  # YAML 1.1 readers take them apart
_ESCAPED = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def load(text: str, *, where: str) -> Any:
    """Read one YAML document into None, bool, int, float, str, list and dict with text keys.

    `where` names the file in errors. Raises `UsageError` with line and column for bad syntax, a duplicate key, a key
    that is not text, a tag, an anchor or alias, a second document, nesting deeper than 100, a number that is not
    finite, and text over 1 MB.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise UsageError(f"{where} is larger than {MAX_BYTES:,} bytes", "a configuration is small: is this the file?")
    try:
        return _Reader(yaml.parse(text, Loader=yaml.SafeLoader), where).document()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        what = ", ".join(part for part in (problem.context, problem.problem) if part)
        message = f"{_place(where, mark)}: not YAML: {what}"
        raise UsageError(message, "check quotes, colons and indentation") from problem
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        column = problem.position - (text.rfind("\n", 0, problem.position) + 1) + 1
        message = f"{where}, line {line}, column {column}: character {problem.character!r} cannot stand in YAML"
        raise UsageError(message, "delete it, or write it as an escape in double quotes") from problem


def dump(value: Any) -> str:
    """Write a value so that `load` reads an equal one: block style, keys in the order given.

    Takes None, bool, int, finite float, str, lists, mappings with text keys, and tuples (which come back as lists).
    Raises `TypeError` for anything else and `ValueError` for a number that is not finite or a key over 1000 characters:
    our own mistakes, not a user's.
    """
    inline = _inline(value)
    return f"{inline}\n" if inline is not None else "\n".join(_block(value, "")) + "\n"


def check_keys(data: Mapping[str, Any], allowed: Iterable[str], *, where: str) -> None:
    """Raise one `UsageError` that lists every key of `data` that is not allowed, each with a suggestion."""
    known = tuple(allowed)
    unknown = [key for key in data if key not in known]
    if unknown:
        names = ", ".join(repr(key) for key in unknown)
        hints = "; ".join(f"{key!r}: {did_you_mean(key, known)}" for key in unknown)
        raise UsageError(f"{where}: unknown {'key' if len(unknown) == 1 else 'keys'} {names}", hints)


def _place(where: str, mark: Any) -> str:
    """File, line and column, counted from 1; `mark` is PyYAML's, counted from 0, or None."""
    return f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where


class _Reader:
    """Builds one value from a stream of YAML events."""

    def __init__(self, events: Iterator[yaml.Event], where: str) -> None:
        self.events = events
        self.where = where

    def document(self) -> Any:
        next(self.events)  # start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        value = self.value(next(self.events), depth=0)
        next(self.events)  # end of the document
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self.fault(after, "a second document begins", "keep one document to a file: remove '---'")
        return value

    def value(self, event: yaml.Event, depth: int) -> Any:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is not None:  # an alias has one too
            raise self.fault(event, f"anchor or alias {anchor!r}", "write the value out, or quote it if it is text")
        if tag is not None:
            raise self.fault(event, f"tag {tag!r}", "no tags: write plain values, or quote it if it is text")
        if depth > MAX_DEPTH:
            raise self.fault(event, f"nested deeper than {MAX_DEPTH}", "flatten it")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self.value(item, depth + 1) for item in self.until(yaml.SequenceEndEvent)]
        return self.mapping(depth)

    def until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self.events), end):
            yield event

    def mapping(self, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        places: dict[str, str] = {}
        for event in self.until(yaml.MappingEndEvent):
            key = self.value(event, depth + 1)
            if not isinstance(key, str):
                raise self.fault(event, f"the key {json.dumps(key)} is not text", 'put it in quotes: "..."')
            if key in data:
                raise self.fault(event, f"the key {key!r} stands already in {places[key]}", "keep one of them")
            places[key] = _place(self.where, event.start_mark)
            data[key] = self.value(next(self.events), depth + 1)
        return data

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # quoted, or a block of text
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            if len(text) > 1000:
                raise self.fault(event, f"a number of {len(text)} digits", "quote it if it is text")
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                raise self.fault(event, f"the number {text} is too large", "quote it if it is text")
            return number
        return text

    def fault(self, event: yaml.Event, what: str, hint: str) -> UsageError:
        return UsageError(f"{_place(self.where, event.start_mark)}: {what}", hint)


def _inline(value: Any) -> str | None:
    """The text of a value that fits on its line; None for a filled list or mapping."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be written: YAML here holds finite numbers only")
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")  # 1e-05 is text to a YAML 1.1 reader
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and not value.endswith(":") and value.lower() not in _QUOTED_FOR_OTHERS
        return value if plain else _quote(value)
    if isinstance(value, (list, tuple)):
        return None if value else "[]"
    if isinstance(value, Mapping):
        return None if value else "{}"
    raise TypeError(f"a {type(value).__name__} cannot be written as YAML: {value!r}")


def _block(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        heads = [(f"{indent}{_key(key)}:", item) for key, item in value.items()]
    else:
        heads = [(f"{indent}-", item) for item in value]
    for head, item in heads:
        inline = _inline(item)
        if inline is not None:
            yield f"{head} {inline}"
        else:
            yield head
            yield from _block(item, indent + "  ")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is not text")
    if len(key) > 1000:
        raise ValueError(f"a key of {len(key)} characters: YAML ends them at 1024")
    return _inline(key) or ""


def _quote(text: str) -> str:
    """Double quotes as in JSON, with every character escaped that YAML would fold or refuse."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
