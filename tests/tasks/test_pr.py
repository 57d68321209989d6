"""Phone recognition: the 74 symbols, and lexicons."""

import gzip
from pathlib import Path

import pytest

from superbench.contracts import Row
from superbench.errors import DataError, UsageError
from superbench_tasks.lexicon import read_lexicons
from superbench_tasks.pr import PROTOCOL, Options, complete, deviations, labels, read

LABELS = labels(["IH UH"], True)
CMUDICT = ";;; a comment\nhello HH AH0 L OW1 # a greeting\nhello(2) HH EH0 L OW1\nWORLD  W ER1 L D\n\n#hash HH AE1 SH\n"
LIBRISPEECH = "HELLO\tHH EH0 L OW1\nHELLO\tHH AH0 L\nDAY\tD EY1\r\n"


@pytest.fixture
def lexicon(tmp_path):
    def lexicon(content, name="lexicon.txt"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return lexicon


def row(text, id_="u1"):
    return Row(id=id_, path=Path(f"/{id_}.wav"), labels={"text": text, "take": "1"}, where=f"m.csv:{id_}")


def test_the_74_symbols():
    assert LABELS.size == 74
    assert LABELS.names[:5] == ("<pad>", "<eos>", "<unk>", "SIL", "SPN")
    assert LABELS.blank == 0
    assert sum(name[-1] in "012" for name in LABELS.names) == 45
    assert len(set(LABELS.names)) == 74
    assert LABELS.names == (*PROTOCOL.specials, *PROTOCOL.phones)


def test_targets():
    assert [LABELS.names[i] for i in LABELS.encode("HH AH0  L OW1")] == ["HH", "AH0", "L", "OW1", "<eos>"]
    assert LABELS.decode(LABELS.encode("HH AH0  L OW1")) == "HH AH0 L OW1"


@pytest.mark.parametrize(
    ("phones", "symbols"), [("HH IH UH AH0", ("IH", "UH")), ("<pad> HH", ("<pad>",)), ("hh", ("hh",))]
)
def test_symbols_that_are_none(phones, symbols):
    with pytest.raises(KeyError) as caught:
        LABELS.encode(phones)
    assert caught.value.args == symbols


def test_a_manifest_may_have_further_phones_in_train():
    own = labels(["UH HH", "IH <eos>"], False)
    assert own.names == (*LABELS.names, "IH", "UH")
    assert labels(["HH AH0"], False).names == LABELS.names


def test_the_first_pronunciation_stays(lexicon):
    words = read_lexicons([lexicon(CMUDICT, "a.dict"), lexicon(LIBRISPEECH, "b.txt")])
    assert words == {"HELLO": "HH AH0 L OW1", "WORLD": "W ER1 L D", "#HASH": "HH AE1 SH", "DAY": "D EY1"}
    words = read_lexicons([lexicon(gzip.compress(LIBRISPEECH.encode()), "b.gz")])
    assert words["HELLO"] == "HH EH0 L OW1"
    assert read_lexicons([lexicon("CAFÉ K AE0 F EY1\n".encode("latin-1"))]) == {"CAFÉ": "K AE0 F EY1"}


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"HELLO\n", "a.txt"), (b"no gzip", "a.gz"), (gzip.compress(b"A B", mtime=0)[:-9], "b.gz")],
    ids=["no phones", "no gzip", "cut off"],
)
def test_files_that_are_no_lexicon(lexicon, content, name):
    with pytest.raises(DataError, match=name):
        read_lexicons([lexicon(content, name)])
    with pytest.raises(DataError, match="none"):
        read_lexicons([Path("none.txt")])


def test_phones_are_looked_up(lexicon):
    options = Options(lexicon=(str(lexicon(CMUDICT)), str(lexicon(LIBRISPEECH, "b.txt"))))
    found = complete([row("Hello  day"), row("WORLD", "u2")], options)
    assert [r.labels["phones"] for r in found] == ["HH AH0 L OW1 D EY1", "W ER1 L D"]
    assert found[0].labels["take"] == "1"


def test_all_words_without_pronunciation_are_said(lexicon):
    with pytest.raises(DataError) as caught:
        complete([row("HELLO ZAU"), row("WHILOME ZAU", "u2")], Options(lexicon=(str(lexicon(CMUDICT)),)))
    assert caught.value.message.startswith("2 words")
    assert "ZAU (in m.csv:u1)" in caught.value.message
    assert "WHILOME (in m.csv:u2)" in caught.value.message


def test_all_rows_without_text_are_said(lexicon):
    with pytest.raises(DataError, match=r"2 rows have no text.*u1, m\.csv:u3"):
        complete([row(""), row("HELLO", "u2"), row(" ", "u3")], Options(lexicon=(str(lexicon(CMUDICT)),)))


def test_without_a_lexicon_rows_stay_as_they_are_and_the_official_tree_is_refused(tree):
    given_rows = [row("ANYTHING")]
    assert complete(given_rows, Options()) is given_rows
    with pytest.raises(UsageError) as caught:
        read(tree({}), Options())
    assert "--lexicon PATH" in caught.value.hint


def test_what_of_the_lexicons_is_not_superbs_is_said(lexicon):
    first, second = (name for name, _ in PROTOCOL.lexicons)
    given = [str(lexicon(LIBRISPEECH, first)), str(lexicon("".join(f"W{i} AH0\n" for i in range(14_716)), second))]
    for order in (given, given[::-1]):
        assert deviations(Options(lexicon=tuple(order))) == []
    assert deviations(Options()) == [f"lexicons: none in place of {first} and {second}"]
    assert deviations(Options(lexicon=(given[0],))) == [f"lexicons: {first} in place of {first} and {second}"]
    twice = [f"lexicons: {first}, {first} in place of {first} and {second}"]
    assert deviations(Options(lexicon=(given[0], given[0]))) == twice
    more = str(lexicon("".join(f"W{i} AH0\n" for i in range(14_717)), second))
    assert deviations(Options(lexicon=(given[0], more))) == [f"lexicon {second} has 14,717 words, officially 14,716"]
