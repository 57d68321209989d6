"""Options of upstreams, heads, tasks and recipes: from text to a checked frozen dataclass and back.

A reference is what stands after `--upstream`: a name and its options, three of them being

    hubert_base
    mine:checkpoint=/data/student.pt,layer_norm=true
    mine:checkpoint="/data/a,b.pt",layers=1|5|9

Options end at a comma; a value may hold `=` and `:`. A value with a comma stands in double quotes, and a double quote
inside them is doubled.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from superbench.errors import PluginError, UsageError, did_you_mean

_OPTION = re.compile(r'(?P<key>[^=,"]*)=(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>(?!")[^,]*))(?P<end>,|\Z)')


@dataclass(frozen=True, kw_only=True)
class OptionFact:
    """One option as `superbench show` prints it."""

    name: str
    type: str
    default: str  # "required" where there is none


def split_reference(text: str) -> tuple[str, dict[str, str]]:
    """Cut `name:option=value,option2=value` into the name and its options, all of them text.

    Raises `UsageError` for an empty name, an empty or repeated option, a missing `=` and an unfinished quote.
    """
    name, colon, rest = text.partition(":")
    if not name.strip():
        raise UsageError(f"{text!r} does not begin with a name", "write NAME or NAME:option=value,option2=value")
    given: dict[str, str] = {}
    position, more = 0, bool(colon)
    while more:
        found = _OPTION.match(rest, position)
        key = found["key"].strip() if found else ""
        if not found or not key:
            message = f"{text!r}: {rest[position:]!r} is not option=value"
            raise UsageError(message, 'write NAME:option=value,option2=value, and "..." round a value with a comma')
        if key in given:
            raise UsageError(f"{text!r}: the option {key!r} is given twice", "keep one of them")
        given[key] = found["plain"] if found["quoted"] is None else found["quoted"].replace('""', '"')
        position, more = found.end(), bool(found["end"])
    return name, given


def build_options(kind: type, given: Mapping[str, object], *, who: str) -> Any:
    """Check `given` against the frozen dataclass `kind` and return an instance of it.

    Values may be text (of a command line) or typed (of a configuration file); they are turned into what the field's
    annotation says, as pydantic does it: "128" is an int, "1e-3" a float, "true" a bool. Text for a tuple is `a|b`
    (nothing: the empty tuple), or a JSON array where an element holds `|`; text for a field that admits None is None
    if it is `none`; in a union the members are tried from left to right. Numbers must be finite.

    `who` names the owner in errors, such as "upstream mine". Raises one `UsageError` with every fault: unknown
    options, missing ones, and values that do not fit. Raises `PluginError` where the annotations themselves are wrong.
    """
    fields = {field.name: field for field in _fields(kind)}
    unknown = [str(key) for key in given if key not in fields]
    missing = [name for name, field in fields.items() if _default(field) is dataclasses.MISSING and name not in given]
    faults = [
        f"there is no option {name!r}" + (f": {did_you_mean(name, fields)}" if fields else "") for name in unknown
    ]
    faults += [f"the option {name!r} is missing" for name in missing]
    values: dict[str, Any] = {}
    for name, hint in _hints(kind, who).items():
        if name in fields and name in given:
            value, wrong = _coerce(given[name], hint, f"{who}, option {name!r}")
            values[name] = value
            faults += [f"the option {name!r} {fault}" for fault in wrong]
    if not faults:
        try:
            return kind(**values)
        except ValueError as problem:  # raised by the dataclass's own __post_init__
            faults.append(str(problem))
    lines = faults if len(faults) == 1 else [f"{len(faults)} faults in the options", *faults]
    raise UsageError(f"{who}: " + "\n    ".join(lines), _listing(kind, who))


def describe_options(kind: type) -> tuple[OptionFact, ...]:
    """Name, type and default of every option of `kind`, in the order of its fields."""
    return tuple(
        OptionFact(name=field.name, type=_type_text(field.type), default=_default_text(_default(field)))
        for field in _fields(kind)
    )


def format_reference(name: str, options: Any) -> str:
    """The one text of a name with its options: those that differ from their defaults, sorted, quoted where needed.

    `split_reference` and `build_options` of it give equal options: that is checked here. Raises `UsageError` for a
    value that no text gives back, such as the word "none" in a field of type `str | None`.
    """
    kind = type(options)
    chosen = {}
    for field in _fields(kind):
        value = getattr(options, field.name)
        if value != _default(field):
            text = _as_text(value)
            if text is None:
                raise _unspeakable(name, field.name, value)
            chosen[field.name] = text
    pieces = [f"{key}={_quote(chosen[key])}" for key in sorted(chosen)]
    reference = f"{name}:{','.join(pieces)}" if pieces else name
    again = build_options(kind, split_reference(reference)[1], who=name)
    for field in _fields(kind):
        if getattr(again, field.name) != getattr(options, field.name):
            raise _unspeakable(name, field.name, getattr(options, field.name))
    return reference


def _fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(field for field in dataclasses.fields(kind) if field.init)


def _default(field: dataclasses.Field[Any]) -> Any:
    """The default value, `dataclasses.MISSING` where the option is required."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _hints(kind: type, who: str) -> dict[str, Any]:
    """Annotations of the fields as types, also where the module has `from __future__ import annotations`."""
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as problem:
        message = f"{who}: an annotation of its options ({kind.__qualname__}) does not resolve: {problem}"
        raise PluginError(message, "import the type where the module is read, not under TYPE_CHECKING") from problem


def _coerce(value: object, hint: Any, where: str) -> tuple[Any, list[str]]:
    """The value as the annotation wants it, and what is wrong with it."""
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    hints = [hint]
    if isinstance(value, str):
        value = _untext(value, hint)
        hints = [member for member in _alternatives(hint) if value is None or member is not type(None)]
    wrong: list[str] = []
    for one in hints:
        try:
            return TypeAdapter(one, config=ConfigDict(allow_inf_nan=False)).validate_python(value), []
        except PydanticUserError as problem:
            message = f"{where}: nothing can be read as {_type_text(one)}"
            raise PluginError(
                message, "annotate options with bool, int, float, str, Path, Literal, tuples"
            ) from problem
        except ValidationError as problem:
            for fault in problem.errors():
                place = " at " + ".".join(str(part) for part in fault["loc"]) if fault["loc"] else ""
                wrong.append(f"is {value!r}{place}: {fault['msg'][:1].lower()}{fault['msg'][1:]}")
    return None, wrong


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union in their order, else the hint itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _untext(text: str, hint: Any) -> object:
    """What a text stands for where the annotation is no plain type: None, a list, or a choice of a Literal."""
    members = tuple(_members(hint))
    if type(None) in members and text == "none":
        return None
    for member in members:
        if get_origin(member) is Literal:
            for choice in get_args(member):
                if _as_text(choice) == text:
                    return choice
    if str not in members and any((get_origin(m) or m) in (tuple, list, set, frozenset) for m in members):
        if text.startswith("["):
            try:
                return json.loads(text)
            except ValueError:
                return text  # refused by the annotation, with the text in the message
        return text.split("|") if text else []
    return text


def _members(hint: Any) -> Iterator[Any]:
    """The types a hint admits: the members of a union, else the one type; `Annotated` is looked through."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    for member in _alternatives(hint):
        if member is hint:
            yield hint
        else:
            yield from _members(member)


def _as_text(value: Any) -> str | None:
    """The text a user would type for a value; None where there is none."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, (str, PurePath)):
        return str(value)
    if isinstance(value, (tuple, list)):
        return _sequence_text(value)
    return None


def _sequence_text(value: tuple[Any, ...] | list[Any]) -> str | None:
    texts = [_as_text(item) for item in value if not isinstance(item, (tuple, list))]
    plain = [text for text in texts if text and "|" not in text]
    if len(plain) == len(value) and None not in value and not "".join(plain[:1]).startswith("["):
        return "|".join(plain)
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):
        return None


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if "," in text or text.startswith('"') else text


def _type_text(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default_text(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    text = _as_text(value)
    return repr(value) if text is None or value == "" else text


def _listing(kind: type, who: str) -> str:
    facts = describe_options(kind)
    if not facts:
        return f"{who} takes no options"
    return f"{who} takes: " + ", ".join(
        f"{fact.name} ({fact.type}, {fact.default if fact.default == 'required' else 'default ' + fact.default})"
        for fact in facts
    )


def _unspeakable(name: str, option: str, value: object) -> UsageError:
    message = f"{name}: the option {option!r} is {value!r}, which cannot be written as text"
    return UsageError(message, "choose another value; for its author: choose another type for the option")
