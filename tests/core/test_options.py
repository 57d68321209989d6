"""References and options: text to frozen dataclass and back, every fault at once."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superbench.errors import PluginError, UsageError
from superbench.options import OptionFact, build_options, describe_options, format_reference, split_reference
from superbench.plugin import NoOptions

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True)
class Options:
    checkpoint: str
    layers: int = 12
    rate: float = 1e-3
    norm: bool = False
    pool: Literal["mean", "Max", 3] = "mean"
    sizes: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] = ()
    cache: Path | None = None
    layer: int | Literal["all"] = "all"


# -- split_reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "given"),
    [
        ("fbank", "fbank", {}),
        ("mine:a=1", "mine", {"a": "1"}),
        ("mine:a=1,b=", "mine", {"a": "1", "b": ""}),
        ("mine:url=https://host:80/x?y=z,b=2", "mine", {"url": "https://host:80/x?y=z", "b": "2"}),
        ("mine:path=C:\\data\\x.pt", "mine", {"path": "C:\\data\\x.pt"}),
        ('mine:a="1,2",b=3', "mine", {"a": "1,2", "b": "3"}),
        ('mine:a="say ""hi"", twice"', "mine", {"a": 'say "hi", twice'}),
        ('mine:a=5" disk', "mine", {"a": '5" disk'}),
        ('mine:a=""', "mine", {"a": ""}),
        ("mine:a=1, b=2", "mine", {"a": "1", "b": "2"}),
        ("mine:a= x ", "mine", {"a": " x "}),
    ],
)
def test_a_reference_is_cut_into_name_and_options(text, name, given):
    assert split_reference(text) == (name, given)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "does not begin with a name"),
        (":a=1", "does not begin with a name"),
        ("mine:", "is not option=value"),
        ("mine:a", "'a' is not option=value"),
        ("mine:a=1,", "is not option=value"),
        ("mine:a=1,,b=2", "is not option=value"),
        ("mine:=1", "'=1' is not option=value"),
        ('mine:a="1', "is not option=value"),
        ('mine:a="1"2', "is not option=value"),
        ("mine:a=1,a=2", "'a' is given twice"),
    ],
)
def test_a_bad_reference_is_shown_in_its_error(text, word):
    with pytest.raises(UsageError) as refused:
        split_reference(text)
    assert repr(text) in refused.value.message
    assert word in refused.value.message
    assert refused.value.hint


# -- build_options -----------------------------------------------------------------------------------------------------


def test_text_becomes_what_the_annotation_says():
    given = {
        "checkpoint": "128",
        "layers": "128",
        "rate": "1e-3",
        "norm": "true",
        "pool": "Max",
        "sizes": "3|4",
        "names": "a",
        "cache": "/tmp/x",
        "layer": "7",
    }
    built = build_options(Options, given, who="upstream mine")
    assert built == Options("128", 128, 1e-3, True, "Max", (3, 4), ("a",), Path("/tmp/x"), 7)
    assert type(built.rate) is float
    assert type(built.norm) is bool


def test_typed_values_of_a_configuration_file_are_taken_too():
    given = {"checkpoint": "x", "layers": 3, "rate": 1, "norm": True, "sizes": [5], "names": [], "cache": None}
    built = build_options(Options, given, who="upstream mine")
    assert built == Options("x", 3, 1.0, True, "mean", (5,), (), None)
    assert type(built.rate) is float


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("pool", "3", 3),
        ("sizes", "", ()),
        ("sizes", "[7,8]", (7, 8)),
        ("names", '["a|b","c,d"]', ("a|b", "c,d")),
        ("cache", "none", None),
        ("layer", "all", "all"),
    ],
)
def test_spellings_of_text(option, text, value):
    assert getattr(build_options(Options, {"checkpoint": "x", option: text}, who="upstream mine"), option) == value


def test_every_fault_is_reported_at_once():
    given = {"layrs": "3", "rate": "fast", "norm": "perhaps", "sizes": "1|two|3|four"}
    with pytest.raises(UsageError) as refused:
        build_options(Options, given, who="upstream mine")
    message = refused.value.message
    assert message.startswith("upstream mine: 6 faults in the options")
    assert "there is no option 'layrs': did you mean 'layers'" in message
    assert "the option 'checkpoint' is missing" in message
    assert "the option 'rate' is 'fast': input should be a valid number" in message
    assert "the option 'norm' is 'perhaps'" in message
    assert "the option 'sizes' is ['1', 'two', '3', 'four'] at 1" in message
    assert "the option 'sizes' is ['1', 'two', '3', 'four'] at 3" in message
    assert "checkpoint (str, required)" in refused.value.hint
    assert "layers (int, default 12)" in refused.value.hint


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("layers", "1.5", "integer"),
        ("rate", "nan", "finite"),
        ("rate", float("inf"), "finite"),
        ("pool", "max", "'mean', 'Max'"),
        ("checkpoint", 5, "string"),
        ("sizes", "[1,", "tuple"),
    ],
)
def test_a_value_that_does_not_fit_is_named(option, value, word):
    with pytest.raises(UsageError, match=f"the option '{option}' is .*{word}"):
        build_options(Options, {"checkpoint": "x", option: value}, who="upstream mine")


def test_something_without_options_says_so():
    assert build_options(NoOptions, {}, who="upstream fbank") == NoOptions()
    with pytest.raises(UsageError) as refused:
        build_options(NoOptions, {"deltas": "2"}, who="upstream fbank")
    assert "there is no option 'deltas'" in refused.value.message
    assert refused.value.hint == "upstream fbank takes no options"


def test_what_the_dataclass_itself_refuses_is_a_usage_error():
    @dataclass(frozen=True)
    class Even:
        layers: int = 2

        def __post_init__(self):
            if self.layers % 2:
                raise ValueError(f"layers must be even, not {self.layers}")

    assert build_options(Even, {"layers": "4"}, who="upstream even").layers == 4
    with pytest.raises(UsageError, match="upstream even: layers must be even, not 3"):
        build_options(Even, {"layers": "3"}, who="upstream even")


def test_annotations_that_cannot_be_used_are_the_plugins_fault():
    @dataclass(frozen=True)
    class Hidden:
        price: Decimal = 0  # the name exists for the type checker only

    class Opaque:
        pass

    opaque = dataclasses.make_dataclass("O", [("x", Opaque, None)], frozen=True)
    with pytest.raises(PluginError, match=r"upstream hidden: an annotation of its options .*Decimal"):
        build_options(Hidden, {"price": "1"}, who="upstream hidden")
    with pytest.raises(PluginError, match="upstream opaque, option 'x': nothing can be read as"):
        build_options(opaque, {"x": "1"}, who="upstream opaque")


def test_options_of_a_module_with_postponed_annotations(tmp_path, monkeypatch):
    """This file postpones its own annotations; a module made at run time is looked up in sys.modules by its name."""
    file = tmp_path / "late.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Late:\n"
        "    path: Path | None = None\n"
        "    sizes: tuple[float, ...] = ()\n"
    )
    spec = importlib.util.spec_from_file_location("late_options_of_a_test", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    built = build_options(module.Late, {"path": "x", "sizes": "1|2.5"}, who="upstream late")
    assert built == module.Late(path=Path("x"), sizes=(1.0, 2.5))
    assert describe_options(module.Late)[0] == OptionFact(name="path", type="Path | None", default="none")


# -- describe_options --------------------------------------------------------------------------------------------------


def test_options_are_described_as_a_user_would_type_them():
    facts = {fact.name: (fact.type, fact.default) for fact in describe_options(Options)}
    assert list(facts) == [f.name for f in dataclasses.fields(Options)]
    assert facts["checkpoint"] == ("str", "required")
    assert facts["rate"] == ("float", "0.001")
    assert facts["norm"] == ("bool", "false")
    assert facts["sizes"] == ("tuple[int, ...]", "1|2")
    assert facts["cache"] == ("Path | None", "none")
    assert describe_options(NoOptions) == ()


def test_annotations_that_are_types_are_described_by_their_names():
    kind = dataclasses.make_dataclass(
        "Now", [("a", int, 1), ("b", tuple[float, ...], field(default_factory=lambda: (0.5,)))], frozen=True
    )
    assert [(f.type, f.default) for f in describe_options(kind)] == [("int", "1"), ("tuple[float, ...]", "0.5")]


# -- format_reference --------------------------------------------------------------------------------------------------


def test_the_canonical_text_holds_what_differs_from_the_defaults_sorted():
    assert format_reference("fbank", NoOptions()) == "fbank"
    assert format_reference("mine", Options("a=b:c")) == "mine:checkpoint=a=b:c"
    built = Options("a,b", norm=True, sizes=(3,), rate=1e-5, layers=12)
    assert format_reference("mine", built) == 'mine:checkpoint="a,b",norm=true,rate=1e-05,sizes=3'


TEXTS = st.text(max_size=8) | st.text('",|=:[]n \\', max_size=6) | st.sampled_from(["none", "true", "1", "[1]", ""])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=150, deadline=None)
@given(
    st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,9}", fullmatch=True),
    st.builds(
        Options,
        checkpoint=TEXTS,
        layers=st.integers(-(2**70), 2**70),
        rate=NUMBERS,
        norm=st.booleans(),
        pool=st.sampled_from(["mean", "Max", 3]),
        sizes=st.lists(st.integers(-5, 5), max_size=3).map(tuple),
        names=st.lists(TEXTS, max_size=3).map(tuple),
        cache=st.none() | st.text("ab/.,=:", max_size=6).map(Path),
        layer=st.integers() | st.just("all"),
    ),
)
def test_the_text_of_options_gives_equal_options(name, options):
    text = format_reference(name, options)
    head, given = split_reference(text)
    assert head == name
    built = build_options(Options, given, who=name)
    assert built == options
    assert format_reference(name, built) == text


@settings(max_examples=150, deadline=None)
@given(st.text('a:=,"\n ', max_size=12))
def test_any_text_is_split_or_refused(text):
    try:
        name, given = split_reference(text)
    except UsageError:
        return
    assert name.strip()
    assert text.startswith(name)
    assert all(key.strip() == key != "" for key in given)


def test_a_value_no_text_gives_back_is_refused_by_name():
    optional = dataclasses.make_dataclass("Optional", [("a", str | None, None), ("b", object, 0)], frozen=True)
    with pytest.raises(UsageError, match="'a' is 'none', which cannot be written as text"):
        format_reference("mine", optional("none"))
    with pytest.raises(UsageError, match="'b' is "):
        format_reference("mine", optional(None, {1: 2}))


def test_pydantic_is_loaded_only_when_options_are_built():
    code = "import sys, superbench.options; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
