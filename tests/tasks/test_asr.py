"""Speech recognition: the alphabet, and LibriSpeech's tree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superbench.errors import DataError
from superbench_tasks.asr import PROTOCOL, TASK, Options, decoder, labels, read

LABELS = labels([], True)


def test_the_32_symbols_in_the_order_of_fairseq():
    assert LABELS.size == 32
    assert LABELS.names[:8] == ("<s>", "<pad>", "</s>", "<unk>", "|", "E", "T", "A")
    assert LABELS.names[-4:] == ("X", "J", "Q", "Z")
    assert LABELS.names[LABELS.blank] == "<s>"
    assert LABELS.names == (*PROTOCOL.specials, *PROTOCOL.characters)
    assert set(PROTOCOL.characters) == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'|")


def test_a_target_ends_with_a_word_boundary_and_the_ending():
    assert [LABELS.names[i] for i in LABELS.encode("it's  a ")] == [*"IT'S|A|", "</s>"]
    assert LABELS.decode(LABELS.encode("it's  a ")) == "IT'S A"


@given(st.lists(st.text("ABCXYZ'", min_size=1, max_size=5), max_size=5))
def test_words_come_back(words):
    text = " ".join(words)
    assert LABELS.decode(LABELS.encode(text)) == text
    assert LABELS.encode(text.lower()) == LABELS.encode(text)


@pytest.mark.parametrize(
    ("text", "symbols"), [("A1É", ("1", "É")), ("STRAßE", ("ß",)), ("A|B", ("|",)), ("A-B", ("-",))]
)
def test_characters_outside_the_alphabet(text, symbols):
    with pytest.raises(KeyError) as caught:
        LABELS.encode(text)
    assert caught.value.args == symbols


def test_specials_are_not_written():
    assert LABELS.decode([1, 5, 4, 4, 6, 0, 2]) == "E T"
    assert LABELS.decode([5, 3, 4, 6]) == "E<unk> T"  # <unk> is an answer like any other


def test_units_are_symbols_as_they_came_without_specials():
    assert LABELS.units([1, 5, 4, 4, 6, 0, 2]) == "E | | T"
    assert LABELS.units([5, 3, 4, 6]) == "E <unk> | T"
    assert LABELS.units(LABELS.encode("hi you")) == "H I | Y O U |"
    assert LABELS.units([]) == ""


ARPA = """\\data\\
ngram 1=4
ngram 2=1

\\1-grams:
-1\t<unk>
-99\t<s>\t0
-1\t</s>
-0.5\tHI\t0

\\2-grams:
-0.1\t<s> HI

\\end\\
"""


@pytest.fixture
def searched(tmp_path):
    """Build the second decoding from a lexicon."""
    pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text (extra 'decode') is not installed")

    def build(lexicon):
        (tmp_path / "spelled.txt").write_text(lexicon, encoding="utf-8")
        (tmp_path / "lm.arpa").write_text(ARPA)
        return decoder(Options(lexicon=(str(tmp_path / "spelled.txt"),), lm=str(tmp_path / "lm.arpa")), LABELS)

    return build


def test_the_second_decoding_says_which_words_its_model_does_not_know(searched):
    assert searched("HI\tH I |\n").warnings == ()
    found = searched("HI\tH I |\nYOU\tY O U |\n")
    assert found.name == "lm"
    assert found.constants == PROTOCOL.beam_search
    assert found.warnings == ("1 of 2 words of the lexicon are unknown to the language model",)


def test_words_that_could_not_be_scored_are_refused_before_anything_is_trained(searched):
    with pytest.raises(DataError, match=r"2 words .*3D \(3\), áFTER \(á\)") as caught:
        searched("3D\tD |\náFTER\tA F T E R |\nHI\tH I |\n")
    assert "apostrophe" in caught.value.hint


def test_without_a_language_model_there_is_no_second_decoding():
    assert decoder(Options(), LABELS) is None


FILES = {
    "LibriSpeech/train-clean-100/19/198/19-198.trans.txt": "19-198-0000 GOOD DAY\n19-198-0001 TO YOU\n",
    "LibriSpeech/train-clean-100/19/198/19-198-0000.flac": 0.5,
    "LibriSpeech/train-clean-100/19/198/19-198-0001.flac": 0.5,
    "LibriSpeech/dev-clean/20/1/20-1.trans.txt": "20-1-0000 YES\n",
    "LibriSpeech/dev-clean/20/1/20-1-0000.flac": 0.5,
    "LibriSpeech/test-clean/21/1/21-1.trans.txt": "21-1-0000 NO\n",
    "LibriSpeech/test-clean/21/1/21-1-0000.flac": 0.5,
    "LibriSpeech/test-other/22/1/22-1.trans.txt": "22-1-0000 NOT READ, AND BROKEN\n",
    "LibriSpeech/dev-clean/20/1/._20-1-0000.flac": "left by a Mac",
    "LibriSpeech/dev-clean/20/1/._20-1.trans.txt": "left by a Mac",
}


def test_the_official_tree(tree, checked):
    root = tree(FILES)
    rows = read(root, Options())
    assert [(r.id, r.split, r.speaker, r.labels["text"]) for r in rows] == [
        ("19-198-0000", "train", "19", "GOOD DAY"),
        ("19-198-0001", "train", "19", "TO YOU"),
        ("20-1-0000", "dev", "20", "YES"),
        ("21-1-0000", "test", "21", "NO"),
    ]
    assert rows[1].where.endswith("19-198.trans.txt:2")
    corpus, _, problems = checked(TASK, rows, roots=[root / "LibriSpeech"], official=True)
    assert problems == ()
    assert corpus.official


def test_everything_wrong_with_the_tree_is_said(tree):
    root = tree(FILES)
    home = root / "LibriSpeech/train-clean-100/19/198"
    (home / "19-198-0001.flac").rename(home / "19-198-0009.flac")
    (root / "LibriSpeech/dev-clean/20/1/20-1.trans.txt").write_text("20-1-0000\n20_1 YES\n")
    (root / "LibriSpeech/test-clean/21/1/21-1.trans.txt").write_text("21-1-0000 NO\n21-1-0000 NO\n")
    with pytest.raises(DataError) as caught:
        read(root, Options())
    for part in (
        "19-198.trans.txt:2: there is no 19-198-0001.flac",
        "19-198-0009.flac: no transcript lists it",
        "20-1.trans.txt:1: not an utterance id",
        "20-1.trans.txt:2: not an utterance id",
        "21-1.trans.txt:2: 21-1-0000 is listed",
    ):
        assert part in caught.value.message


@pytest.mark.parametrize("missing", ["LibriSpeech", "LibriSpeech/dev-clean"])
def test_a_missing_folder(tree, missing):
    root = tree(FILES)
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(DataError, match=missing.rpartition("/")[2]) as caught:
        read(root, Options())
    assert caught.value.hint
