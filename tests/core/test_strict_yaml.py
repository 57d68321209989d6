"""Strict YAML: what is typed is what is read; everything clever is refused by line and column."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superbench.errors import UsageError
from superbench.strict_yaml import MAX_BYTES, check_keys, dump, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("# only a comment\n", None),
        ("128", 128),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("1e-3", 1e-3),
        ("1E-3", 1e-3),
        ("-1.5e+2", -150.0),
        (".5", 0.5),
        ("1.", 1.0),
        ('"128"', "128"),
        ("'true'", "true"),
        ("|\n  12\n", "12\n"),
    ],
)
def test_numbers_booleans_and_null(text, value):
    read = load(text, where="a.yaml")
    assert read == value
    assert type(read) is type(value)


WORDS = [
    "yes",
    "no",
    "on",
    "off",
    "Yes",
    "NO",
    "y",
    "n",
    "True",
    "FALSE",
    "Null",
    "NULL",
    "NA",
    "<<",
    ".",
    ".inf",
    ".nan",
]
LIKE_NUMBERS = ["0o17", "0x10", "0b1", "1_000", "0005", "007.5", "1e", "1e5.5", "1.2.3", "12:30:00", "2024-01-31"]


@pytest.mark.parametrize("text", [*WORDS, *LIKE_NUMBERS])
def test_everything_else_stays_the_text_it_is(text):
    assert load(f"key: {text}", where="a.yaml") == {"key": text}


def test_labels_and_rates_of_the_fault_table_read_as_typed():
    data = load("labels: [yes, no, on, off]\nlr: 1e-3\nspeaker: 0005\n", where="a.yaml")
    assert data == {"labels": ["yes", "no", "on", "off"], "lr": 1e-3, "speaker": "0005"}


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "already in run.yaml, line 1"),
        ("a: {b: 1, b: 2}\n", 1, 11, "already in run.yaml, line 1"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, 4, "tag"),
        ("a: !mine 3\n", 1, 4, "tag"),
        ("a: !!str 3\n", 1, 4, "tag"),
        ("a: ! 3\n", 1, 4, "tag"),
        ("a: &x [1]\nb: *x\n", 1, 4, "anchor"),
        ("a: 1\nb: *x\n", 2, 4, "alias"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("1: a\n", 1, 1, "not text"),
        ("true: a\n", 1, 1, "not text"),
        ("a:\n  ~: b\n", 2, 3, "not text"),
        ("[a]: b\n", 1, 1, "not text"),
        ("a: [1, 2\n", 2, 1, "not YAML"),
        ("a: 'x\n", 2, 1, "not YAML"),
        ("a: b: c\n", 1, 5, "not YAML"),
        ("a:\n\t- b\n", 2, 1, "not YAML"),
        ("a: 1\nb: \x00\n", 2, 4, "cannot stand in YAML"),
        ("a: 1e999\n", 1, 4, "too large"),
        ("a: " + "9" * 5000 + "\n", 1, 4, "5000 digits"),
        ("[" * 3000, 1, 102, "nested deeper"),
    ],
)
def test_refused_by_line_and_column(text, line, column, word):
    with pytest.raises(UsageError) as refused:
        load(text, where="run.yaml")
    assert f"run.yaml, line {line}, column {column}: " in refused.value.message
    assert word in refused.value.message
    assert refused.value.hint


def test_an_alias_bomb_is_refused_at_its_first_anchor():
    bomb = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{m}, *{m}]\n" for m, n in zip("abcdefg", "bcdefgh", strict=True))
    with pytest.raises(UsageError, match=r"line 1, column 4: anchor or alias 'a'"):
        load(bomb, where="bomb.yaml")


def test_text_over_the_limit_is_refused_and_text_at_it_is_read():
    head = "a: "
    assert load(head + "x" * (MAX_BYTES - len(head)), where="a.yaml")["a"].endswith("x")
    with pytest.raises(UsageError, match="larger than 1,000,000 bytes"):
        load(head + "é" * (MAX_BYTES // 2), where="a.yaml")  # counted in bytes, not in characters


def test_dump_writes_block_style_in_the_order_given():
    value = {"upstream": "fbank:deltas=2", "lr": [1e-3, 1e-05], "b": {}, "a": {"x": None, "no": "no"}, "l": [[1], []]}
    assert dump(value) == (
        "upstream: fbank:deltas=2\n"
        "lr:\n  - 0.001\n  - 1.0e-05\n"
        "b: {}\n"
        'a:\n  x: null\n  "no": "no"\n'
        "l:\n  -\n    - 1\n  - []\n"
    )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=30)
    | st.text("0123456789.eE+-_:~#'\"!&*[]{}|>%@,?=\\ \n\tyesno", max_size=8)
    | st.sampled_from(["yes", "0005", "1e-3", "null", "~", "", "---", "...", "- a", "a: b", "a #b", "\ufeff", "a:"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_load_reads_what_dump_wrote(value):
    assert load(dump(value), where="round trip") == value


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30) | st.booleans())
def test_numbers_keep_their_type(value):
    assert type(load(dump({"a": [value]}), where="round trip")["a"][0]) is type(value)


@pytest.mark.parametrize("value", [object(), {1: "a"}, {"a": {2, 3}}, b"bytes"])
def test_dump_refuses_what_load_could_not_read(value):
    with pytest.raises(TypeError):
        dump(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a" * 1001: 1}])
def test_dump_refuses_numbers_without_end_and_keys_yaml_would_cut(value):
    with pytest.raises(ValueError):
        dump(value)


def test_tuples_come_back_as_lists():
    assert load(dump({"a": (1, (2,))}), where="round trip") == {"a": [1, [2]]}


def test_every_unknown_key_is_listed_with_its_suggestion():
    with pytest.raises(UsageError) as refused:
        check_keys({"taks": 1, "seeds": 2, "upsteam": 3}, ["task", "seeds", "upstream"], where="run.yaml")
    assert "run.yaml: unknown keys 'taks', 'upsteam'" in refused.value.message
    assert "did you mean 'task'" in refused.value.hint
    assert "did you mean 'upstream'" in refused.value.hint
    check_keys({"seeds": 2}, ["task", "seeds"], where="run.yaml")
