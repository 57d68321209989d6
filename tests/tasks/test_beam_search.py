"""Beam search with lexicon and language model: scores worked out by hand and by brute force, and what it refuses."""

import base64
import gzip
import itertools
import math
import subprocess
import sys
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from superbench.errors import ContractError, DataError, MissingExtraError, NumericalError, UsageError
from superbench.labels import TokenLabels
from superbench_tasks.asr import labels
from superbench_tasks.beam_search import BeamSearch, build_decoder, decoding_sha, read_spellings

LABELS = labels([], True)
TINY = TokenLabels(names=("_", "|", "A", "B"), blank=0, ending=(), silent=("_",), split=list, join="".join)

UNIGRAMS = {  # log10 of probability and of back-off weight
    "<unk>": (-5.0, 0.0),
    "<s>": (-99.0, -0.5),
    "</s>": (-1.2, 0.0),
    "THE": (-0.7, -0.3),
    "CAT": (-1.0, -0.2),
    "CAR": (-1.1, -0.25),
}
BIGRAMS = {
    ("<s>", "THE"): -0.4,
    ("THE", "CAT"): -0.6,
    ("THE", "CAR"): -1.5,
    ("CAT", "</s>"): -0.5,
    ("CAR", "</s>"): -0.9,
}
# The same model as KenLM's build_binary writes it: probing hash tables, format version 5, with its vocabulary.
BINARY = zlib.decompress(
    base64.b64decode(
        "eNrLzU0sUMjJVcgoKSmw0tfPzkhNTMtMzUnRS87P1U/OT0lVSMsvyk0sUShLLSrOzM9TMOViQIAGeyCxnxFI/AcCkAgjVIYJTB6wRxZjg9Ks"
        "DKiADY2vJJL1OdJKhwuk7krya9MfeRyNzGhquHK+f6wtfpANskfnz6Fop0aF7SxAdkGd4l7LtlK4ndjBggMgxzMwHDsEcv+smTNB7mwwNja2"
        "B7L3gfx19ozPvrNneoDiDftgujg+MWW0bDQWnjVTcn/r+7q1HCLhfUA/7leInbKva4KNdlpa2n5cNmq2mV/Yc6hZAWRfY9HbD7XVNa1nz5zZ"
        "Z1Oal23HYFMMxPpAIsTDlcHZMQSIgxgAR2ReGw=="
    )
)


def arpa(unigrams, bigrams):
    """The text of an ARPA file."""
    ones = [f"{p}\t{word}\t{backoff}" for word, (p, backoff) in unigrams.items()]
    twos = [f"{p}\t{' '.join(words)}" for words, p in bigrams.items()]
    return "\n".join(
        [
            "\\data\\",
            *(f"ngram {order}={len(lines)}" for order, lines in ((1, ones), (2, twos))),
            *("", "\\1-grams:", *ones, "", "\\2-grams:", *twos, "", "\\end\\", ""),
        ]
    )


def spelled(*words):
    """Lines of a lexicon for words spelled as they are written."""
    return "".join(f"{word}\t{' '.join(word)} |\n" for word in words)


WHOLE = arpa(UNIGRAMS, BIGRAMS)


@pytest.fixture
def built(tmp_path):
    """Write a lexicon and a language model and make a decoder of them, with SUPERB's constants unless said."""
    pytest.importorskip(
        "flashlight.lib.text.decoder.kenlm", reason="flashlight-text is not installed: pip install 'superbench[decode]'"
    )

    def built(lexicon, model=WHOLE, vocabulary=LABELS, **constants):
        (tmp_path / "lexicon.txt").write_text(lexicon)
        lm = tmp_path / "lm"
        lm.write_bytes(model.encode() if isinstance(model, str) else model)
        return build_decoder(BeamSearch(**constants), vocabulary, [tmp_path / "lexicon.txt"], lm)

    return built


def heard(frames, vocabulary=LABELS):
    """Log probabilities [T, C]: each frame a symbol (`_` is the blank) of probability 0.9, or probabilities by symbol.

    What a frame does not name shares the rest.
    """
    rows = []
    for frame in frames:
        said = frame if isinstance(frame, dict) else {frame: 0.9}
        row = torch.full((vocabulary.size,), (1 - sum(said.values())) / (vocabulary.size - len(said)))
        for symbol, p in said.items():
            row[vocabulary.blank if symbol == "_" else vocabulary.names.index(symbol)] = p
        rows.append(row)
    return torch.stack(rows).log()


def greedy(log_probs_TC):
    best = [int(i) for i in log_probs_TC.argmax(dim=1).unique_consecutive() if i != LABELS.blank]
    return LABELS.decode(best)


LEXICON = spelled("THE", "CAT", "CAR")
THE_CAP = [*"THE|CA", {"P": 0.5, "T": 0.3, "R": 0.15}, "|"]
THE_CAR = [*"THE|CA", {"R": 0.6, "T": 0.3}, "|"]


# -- the search --------------------------------------------------------------------------------------------------------


def test_superb_s_constants():
    constants = BeamSearch()
    assert (constants.beam_size, constants.beam_threshold) == (5, 25)
    assert (constants.lm_weight, constants.word_score, constants.silence_score) == (2, -1, 0)
    assert constants.log_add is False


def test_lexicon_and_model_mend_a_word(built):
    said = heard(THE_CAP)
    assert greedy(said) == "THE CAP"
    assert built(LEXICON)(said) == "THE CAT"


def test_the_score_by_hand(built):
    best = built(LEXICON).best(heard(THE_CAP))
    assert best.acoustic == pytest.approx(7 * math.log(0.9) + math.log(0.3), abs=1e-5)
    assert best.language == pytest.approx(
        -0.4 - 0.6 - 0.5, abs=1e-5
    )  # <s> THE, THE CAT, CAT </s>, as the file has them
    assert best.score == pytest.approx(best.acoustic + 2 * (-1.5) + 2 * (-1), abs=1e-5)


def test_back_off_is_in_the_score(built):
    best = built(LEXICON).best(heard("CAT|THE|"))
    # <s> CAT, CAT THE and THE </s> are no bigrams of the model
    assert best.language == pytest.approx((-0.5 - 1.0) + (-0.2 - 0.7) + (-0.3 - 1.2), abs=1e-5)


def test_the_weight_of_the_model_decides(built):
    said = heard(THE_CAR)
    assert built(LEXICON, lm_weight=0)(said) == "THE CAR"
    assert built(LEXICON, lm_weight=2)(said) == "THE CAT"
    # CAR is ahead by ln 2 of sound and behind by 0.9 + 0.4 of log10 of language
    turn = math.log(2) / 1.3
    assert built(LEXICON, lm_weight=turn - 0.01)(said) == "THE CAR"
    assert built(LEXICON, lm_weight=turn + 0.01)(said) == "THE CAT"


def test_the_score_of_a_word_decides(built):
    said = heard(["A", {"_": 0.6, "|": 0.39}, "B", "|"])
    lexicon = spelled("A", "B", "AB")  # all unknown to the model, so that a word more costs 5 of log10
    assert built(lexicon, lm_weight=0, word_score=-1)(said) == "AB"
    assert built(lexicon, lm_weight=0, word_score=1)(said) == "A B"


def test_silence_is_scored_by_the_frame(built):
    said = heard("THE||")
    plain, scored = (built(LEXICON, silence_score=x).best(said) for x in (0, 0.25))
    assert plain.text == scored.text == "THE"
    assert scored.score - plain.score == pytest.approx(2 * 0.25, abs=1e-5)


@pytest.mark.parametrize("pruning", [{"beam_threshold": 0.1}, {"beam_size": 1}])
def test_what_is_pruned_early_is_lost(built, pruning):
    said = heard([{"A": 0.6, "B": 0.3}, "L", "|"])
    lexicon = spelled("AT", "BL")
    assert built(lexicon, lm_weight=0)(said) == "BL"
    assert built(lexicon, lm_weight=0, **pruning)(said) != "BL"


def test_a_homograph_by_its_context(built):
    unigrams = {"<unk>": (-5, 0), "<s>": (-99, 0), "</s>": (-1, 0), "LEAD": (-1, 0), "LED": (-1, 0), "HE": (-1, 0)}
    lexicon = "LEAD\tL E D |\nLEAD\tL E A D |\nLED\tL E D |\nHE\tH E |\n"
    decoder = built(lexicon, arpa(unigrams, {("HE", "LED"): -0.1, ("LEAD", "</s>"): -0.1}))
    assert decoder(heard("HE|LED|")) == "HE LED"
    assert decoder(heard("LED|")) == "LEAD"
    assert decoder(heard("HE|LEAD|")) == "HE LEAD"


def test_homographs_alike_come_out_in_order(built):
    for lexicon in ("AA\tA |\nAB\tA |\n", "AB\tA |\nAA\tA |\n"):
        assert built(lexicon, lm_weight=0)(heard("A|")) == "AA"


def test_letters_repeat_over_a_blank(built):
    decoder = built(spelled("BE", "BEE"), lm_weight=0)
    assert decoder(heard("BEE|")) == "BE"
    assert decoder(heard("BE_E|")) == "BEE"


def test_a_word_cut_off_is_left_out(built):
    assert built(LEXICON)(heard("THE|CA")) == "THE"


@pytest.mark.parametrize("frames", ["", "___", "_||_"])
def test_no_words(built, frames):
    said = heard(frames) if frames else torch.empty(0, LABELS.size)
    best = built(LEXICON).best(said)
    assert best.text == ""
    assert best.language == pytest.approx(-0.5 - 1.2)  # <s>, then </s>
    assert best.score == pytest.approx(2 * (-0.5 - 1.2) + len(frames) * math.log(0.9), abs=1e-4)


def test_any_float_tensor_is_read(built):
    decoder, said = built(LEXICON), heard(THE_CAP)
    strided = said.T.contiguous().T
    assert not strided.is_contiguous()
    double = said.double().requires_grad_()
    assert decoder.best(said) == decoder.best(strided) == decoder.best(double)


@pytest.mark.parametrize("shape", [(5,), (5, 31), (1, 5, 32), (32, 5)])
def test_another_shape_is_refused(built, shape):
    with pytest.raises(ContractError, match=r"expects \[frames, 32\]"):
        built(LEXICON)(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(built, value):
    said = heard(THE_CAP)
    said[3, 7] = value
    with pytest.raises(NumericalError):
        built(LEXICON)(said)


VOCABULARY = ("A", "ALL", "BEE", "BE", "IT'S", "THE", "CAT", "CAR", "ZZZ")


@given(st.lists(st.sampled_from(VOCABULARY), max_size=6), st.sampled_from([1e-9, 0.0]))
@settings(max_examples=40, deadline=None)
def test_what_is_heard_clearly_comes_back(clear, words, floor):
    spoken = [symbol for word in words for letter in f"{word}|" for symbol in (letter, "_")]
    said = torch.full((len(spoken), LABELS.size), floor)
    for t, symbol in enumerate(spoken):
        said[t, LABELS.blank if symbol == "_" else LABELS.names.index(symbol)] = 1.0
    assert clear(said.log()) == " ".join(words)


@pytest.fixture(scope="module")
def clear(tmp_path_factory):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm", reason="flashlight-text is not installed")
    folder = tmp_path_factory.mktemp("clear")
    (folder / "lexicon.txt").write_text(spelled(*VOCABULARY))
    (folder / "lm.arpa").write_text(arpa(UNIGRAMS, BIGRAMS))
    return build_decoder(BeamSearch(), LABELS, [folder / "lexicon.txt"], folder / "lm.arpa")


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_only_words_of_the_lexicon_come_out(clear, seed):
    said = (3 * torch.randn(60, LABELS.size, generator=torch.Generator().manual_seed(seed))).log_softmax(dim=1)
    first = clear.best(said)
    assert set(first.text.split()) <= set(VOCABULARY)
    assert clear.best(said) == first


# -- brute force -------------------------------------------------------------------------------------------------------

FRAMES = 6
HOMOGRAPHS = {"A": ["A"], "AB": ["AB"], "BA": ["BA", "BB"], "BEE": ["BB"]}
TINY_UNIGRAMS = {
    "<unk>": (-4.0, 0.0),  # BEE is
    "<s>": (-99.0, -0.3),
    "</s>": (-0.8, 0.0),
    "A": (-0.5, -0.2),
    "AB": (-0.9, -0.1),
    "BA": (-1.3, -0.4),
}
TINY_BIGRAMS = {("<s>", "BA"): -0.2, ("A", "AB"): -0.1, ("AB", "</s>"): -0.3, ("BA", "BA"): -1.9}


def language_score(words):
    """log10 of the probability of a sentence, by the definition of a back-off bigram model."""
    total, before = 0.0, "<s>"
    for word in (*words, "</s>"):
        known = word if word in TINY_UNIGRAMS else "<unk>"
        pair = TINY_BIGRAMS.get((before, known))
        total += pair if pair is not None else TINY_UNIGRAMS[before][1] + TINY_UNIGRAMS[known][0]
        before = known
    return total


def every_reading():
    """(path, words) of each path of symbols whose collapsed text is words of the lexicon, each with its boundary."""
    words_of = {}
    for word, spellings in HOMOGRAPHS.items():
        for spelling in spellings:
            words_of.setdefault(spelling, []).append(word)
    for path in itertools.product(range(TINY.size), repeat=FRAMES):
        collapsed = "".join(TINY.names[i] for i, _ in itertools.groupby(path) if i != TINY.blank)
        *spellings, rest = collapsed.split("|")
        if rest == "":
            for words in itertools.product(*(words_of.get(s, []) for s in spellings if s)):
                yield path, words


@pytest.fixture(scope="module")
def readings():
    found = list(every_reading())
    return torch.tensor([path for path, _ in found]), [words for _, words in found]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("log_add", [False, True])
def test_against_every_path_there_is(built, readings, seed, log_add):
    generator = torch.Generator().manual_seed(seed)
    said = (2 * torch.randn(FRAMES, TINY.size, generator=generator)).log_softmax(dim=1)
    weight, word_score, silence_score = (3 * torch.rand(3, generator=generator) - torch.tensor([0, 1.5, 1.5])).tolist()
    paths, words = readings
    acoustic = said.double()[torch.arange(FRAMES), paths].sum(dim=1) + silence_score * (paths == 1).sum(dim=1)
    scores = {}
    for sentence in set(words):
        of_it = acoustic[[w == sentence for w in words]]
        best = of_it.logsumexp(dim=0) if log_add else of_it.max()
        scores[sentence] = float(best) + weight * language_score(sentence) + word_score * len(sentence)
    expected = max(scores, key=lambda sentence: scores[sentence])

    lexicon = "".join(f"{word} {' '.join(s)} |\n" for word, spellings in HOMOGRAPHS.items() for s in spellings)
    decoder = built(
        lexicon,
        arpa(TINY_UNIGRAMS, TINY_BIGRAMS),
        TINY,
        beam_size=100_000,
        beam_threshold=1e6,
        lm_weight=weight,
        word_score=word_score,
        silence_score=silence_score,
        log_add=log_add,
    )
    assert decoder(said) == " ".join(expected)
    assert decoder.best(said).score == pytest.approx(scores[expected], abs=1e-4)


def test_brute_force_has_something_to_choose_from(readings):
    paths, words = readings
    assert len(paths) > 500
    assert {len(w) for w in words} == {0, 1, 2, 3}
    assert {("BEE",), ("A", "AB"), ("AB", "A"), ("BA",)} <= set(words)


# -- the lexicon -------------------------------------------------------------------------------------------------------


def written(tmp_path, *contents):
    paths = [tmp_path / f"{n}.txt" for n in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    return paths


def test_spellings_of_several_files_are_kept(tmp_path):
    paths = written(tmp_path, "\ufeffB\tB E E |\r\nA  A |\r\n", "\nB B |\nB B E E |\n")
    index = {name: i for i, name in enumerate(LABELS.names)}
    expected = {"A": (("A", "|"),), "B": (("B", "|"), ("B", "E", "E", "|"))}
    assert read_spellings(paths, LABELS) == {
        word: tuple(sorted(tuple(index[c] for c in s) for s in spellings)) for word, spellings in expected.items()
    }
    assert read_spellings(paths[::-1], LABELS) == read_spellings(paths, LABELS)


def test_a_compressed_lexicon(tmp_path):
    (plain,) = written(tmp_path, LEXICON)
    packed = tmp_path / "lexicon.txt.gz"
    packed.write_bytes(gzip.compress(LEXICON.encode()))
    assert read_spellings([packed], LABELS) == read_spellings([plain], LABELS)
    packed.write_bytes(gzip.compress(LEXICON.encode())[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        read_spellings([packed], LABELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("THE\tT H E |\nCAT\n", r"0\.txt:2: no spelling after 'CAT'"),
        ("", "no words"),
        ("\n \n", "no words"),
        ("THE T H E\nA A |\n", r"1 spellings are not letters and then one '\|': THE \(at .*0\.txt:1\)"),
        ("NEW-YORK N E W | Y O R K |\n", "1 spellings"),
        ("X |\n", "1 spellings"),
        ("<unk> U N K |\n", "'<unk>' is a mark of the language model"),
        ("</s> S |\n", "'</s>' is a mark"),
        ("É É |\nthe t h e |\n", r"4 tokens of the lexicon are not in the vocabulary: e \(at .*:2\), h .*, t .*, É \("),
        ("A <s> A <unk> |\n", "2 tokens .* <s> .*, <unk> "),
    ],
)
def test_lexicons_that_are_none(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_spellings(written(tmp_path, content), LABELS)


def test_a_pronunciation_lexicon_is_named_as_such(tmp_path):
    with pytest.raises(DataError, match=r"3 tokens .*AE1.*, EY1.*, IY0 ") as caught:
        read_spellings(written(tmp_path, "ABBEY\tAE1 B IY0\nA\tEY1\n"), LABELS)
    assert "pronunciation lexicon" in caught.value.hint


def test_lexicons_that_cannot_be_read(tmp_path):
    (tmp_path / "latin").write_bytes(b"CAF\xc9 C A F E |\n")
    (tmp_path / "no.gz").write_text(LEXICON)
    for name in ("missing", "", "latin", "no.gz"):
        with pytest.raises(DataError, match="cannot be read"):
            read_spellings([tmp_path / name], LABELS)


def test_more_homographs_than_flashlight_holds(built):
    lines = [f"A{letter}\tA |\n" for letter in "ABCDEFG"]
    assert len(built("".join(lines[:6])).words) == 6
    with pytest.raises(DataError, match="more than 6 words of the lexicon have the spelling of 'AG'"):
        built("".join(lines))


# -- the language model ------------------------------------------------------------------------------------------------


def test_text_packed_text_and_binary_say_the_same(built):
    expected = built(LEXICON).best(heard(THE_CAP))
    assert built(LEXICON, gzip.compress(WHOLE.encode())).best(heard(THE_CAP)) == expected
    assert built(LEXICON, BINARY).best(heard(THE_CAP)) == expected


def test_words_the_model_does_not_know(built):
    lexicon = LEXICON + spelled("DOG", "RARE")
    unigrams = {**UNIGRAMS, "RARE": (-5.0, -0.1)}  # as improbable as an unknown word, and yet known
    decoder = built(lexicon, arpa(unigrams, BIGRAMS))
    assert decoder.unknown == ("DOG",)
    assert decoder.words == ("CAR", "CAT", "DOG", "RARE", "THE")
    best = decoder.best(heard("DOG|"))
    assert best.text == "DOG"
    assert best.language == pytest.approx(-0.5 - 5.0 - 1.2, abs=1e-5)


def test_a_model_without_an_unknown_word(built):
    unigrams = {word: scores for word, scores in UNIGRAMS.items() if word != "<unk>"}
    decoder = built(LEXICON + spelled("DOG"), arpa(unigrams, BIGRAMS), lm_weight=0.01)
    assert decoder.unknown == ("DOG",)
    assert decoder.best(heard("DOG|")).language == pytest.approx(-0.5 - 100 - 1.2, abs=1e-4)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\nworld\n",
        b"\xff\xfe\n" * 200,  # KenLM quotes it, in what is no UTF-8
        WHOLE[: len(WHOLE) // 2],
        WHOLE.replace("\\end\\\n", ""),
        WHOLE.replace("ngram 1=6", "ngram 1=7"),
        WHOLE.replace("ngram 1=6", "ngram 1=99999999999999"),
        WHOLE.replace("-0.6\tTHE CAT", "0.6\tTHE CAT"),
        WHOLE.replace("-0.6\tTHE CAT", "nan\tTHE CAT"),
        WHOLE.replace("-0.6\tTHE CAT", "-0.6\tTHE DOG"),
        arpa(UNIGRAMS, {}).replace("ngram 2=0\n", "").replace("\\2-grams:\n\n", ""),
        gzip.compress(WHOLE.encode())[:-30],
        BINARY[:60],
        BINARY[:300],
        BINARY.replace(b"version 5", b"version 4"),
    ],
    ids=[
        *("empty", "text", "bytes", "half", "no end", "too few unigrams", "too large for memory", "above 1", "nan"),
        *(
            "unknown word in a bigram",
            "unigrams only",
            "half packed",
            "head of a binary",
            "half a binary",
            "old binary",
        ),
    ],
)
def test_models_that_are_none(built, content):
    with pytest.raises(DataError, match=r"the language model .* cannot be read"):
        built(LEXICON, content)


def test_a_missing_model_and_a_folder(built, tmp_path):
    built(LEXICON)
    for name in ("missing.arpa", ""):
        with pytest.raises(DataError, match="cannot be read"):
            build_decoder(BeamSearch(), LABELS, [tmp_path / "lexicon.txt"], tmp_path / name)


# -- the rest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam_size": 0},
        {"beam_threshold": 0.0},
        {"beam_threshold": math.inf},
        {"lm_weight": math.nan},
        {"word_score": -math.inf},
        {"silence_score": math.inf},
    ],
)
def test_constants_that_make_no_search(wrong):
    with pytest.raises(UsageError):
        BeamSearch(**wrong)


def test_a_vocabulary_without_words(built):
    phones = TokenLabels(names=("_", "A"), blank=0, ending=(), silent=("_",), split=str.split, join=" ".join)
    with pytest.raises(ContractError, match="word boundary"):
        built(LEXICON, vocabulary=phones)


def test_without_flashlight(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder.kenlm", None)
    paths = written(tmp_path, LEXICON, arpa(UNIGRAMS, BIGRAMS))
    for ask in (lambda: build_decoder(BeamSearch(), LABELS, *paths), lambda: decoding_sha(BeamSearch(), *paths)):
        with pytest.raises(MissingExtraError) as caught:
            ask()
        assert caught.value.hint == "pip install 'superbench[decode]'"


def test_the_hash_follows_what_the_text_depends_on(built, tmp_path):
    built(LEXICON)
    first, second, model, other = written(tmp_path, LEXICON, spelled("DOG"), WHOLE, WHOLE.replace("-0.6", "-0.7"))
    sha = decoding_sha(BeamSearch(), [first, second], model)
    assert sha == decoding_sha(BeamSearch(), [second, first, first], model)
    moved = tmp_path / "moved.arpa"
    moved.write_bytes(model.read_bytes())
    assert sha == decoding_sha(BeamSearch(), [first, second], moved)
    others = {
        decoding_sha(BeamSearch(lm_weight=1.5), [first, second], model),
        decoding_sha(BeamSearch(), [first], model),
        decoding_sha(BeamSearch(), [first, second], other),
    }
    assert len(others | {sha}) == 4
    with pytest.raises(DataError, match="cannot be read"):
        decoding_sha(BeamSearch(), [first], tmp_path / "missing")


def test_the_module_is_light():
    heavy = ("torch", "torchaudio", "numpy", "flashlight")
    code = f"import sys, superbench_tasks.beam_search; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
