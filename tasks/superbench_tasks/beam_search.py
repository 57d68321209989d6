"""Beam search over the words of a spelling lexicon, with an n-gram language model, for CTC on characters.

What is searched for is the path with the highest

    acoustic + lm_weight * language + word_score * words + silence_score * frames of `|`

where `acoustic` is the sum of the frames' log probabilities (natural logarithm) along one alignment, and `language` the
log10 probability that KenLM gives the words and the end of the sentence after its start. Nobody converts log10 to the
natural logarithm, neither flashlight (decoder/lm/KenLM.cpp) nor fairseq nor s3prl: an `lm_weight` of 2 weighs natural
log probabilities by 2 / ln 10 = 0.87.

Flashlight-text brings the search and, in its wheel, KenLM. It is used without torchaudio's wrapper, which reads one
lexicon file and checks none of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superbench.contracts import sha256_of
from superbench.errors import ContractError, DataError, MissingExtraError, NumericalError, UsageError
from superbench.labels import TokenLabels
from superbench_tasks.lexicon import lexicon_lines

if TYPE_CHECKING:
    import torch

BOUNDARY = "|"
UNKNOWN = "<unk>"
MARKS = ("<s>", "</s>", UNKNOWN)  # what a language model has besides words
FORMAT = "a line is a word and its spelling, which ends with the word boundary: HELLO<tab>H E L L O |"


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """The constants of the search; the defaults are SUPERB's.

    Sources: s3prl downstream/asr/config.yaml (`decoder_args`), expert.py and w2l_decoder.py (after fairseq's
    W2lKenLMDecoder) for the values; flashlight/lib/text/decoder/LexiconDecoder.{h,cpp} for what they do. What s3prl
    fixes is fixed here too: the CTC criterion; every token of the vocabulary tried at every frame (`beam_size_token`);
    -inf for a word outside the lexicon (`unk_weight`), so that none comes out; `|` as the silence, which may be held
    for any number of frames between words; a look-ahead in the trie by the best score a word has at the start of a
    sentence, which steers the pruning and cancels at the end of each word. Raises `UsageError` for a value that makes
    no search.
    """

    beam_size: int = 5  # hypotheses kept after each frame
    beam_threshold: float = 25.0  # what is worse than the best by more is dropped
    lm_weight: float = 2.0  # times log10 probabilities
    word_score: float = -1.0  # added for every word
    silence_score: float = 0.0  # added for every frame of `|`
    log_add: bool = False  # add the probabilities of alignments that meet, in place of the best one's

    def __post_init__(self) -> None:
        numbers = (self.beam_threshold, self.lm_weight, self.word_score, self.silence_score)
        if self.beam_size < 1 or not all(map(math.isfinite, numbers)) or self.beam_threshold <= 0:
            raise UsageError(
                f"this is no beam search: {self}",
                "the beam size is at least 1, its threshold above 0, and every number finite",
            )


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """The best path of one utterance, with what its score is made of."""

    text: str  # words with single spaces between
    score: float  # the weighted sum
    acoustic: float  # natural logarithm
    language: float  # log10


@dataclass(frozen=True, kw_only=True)
class WordDecoder:
    """A search made ready: call it with the log probabilities of one utterance to get its text.

    It holds the state of the utterance at hand, so that each thread needs its own, and it cannot be pickled.
    """

    words: tuple[str, ...] = field(repr=False)  # of the lexicon, in sorted order
    unknown: tuple[str, ...] = field(repr=False)  # those of them that the language model scores as it does `<unk>`
    classes: int
    search: Any = field(repr=False)  # flashlight's LexiconDecoder; a word's index is its place in `words`

    def __call__(self, log_probs_TC: torch.Tensor) -> str:
        """Text of the best hypothesis; '' where it has no words."""
        return self.best(log_probs_TC).text

    def best(self, log_probs_TC: torch.Tensor) -> Hypothesis:
        """Find the best hypothesis for log probabilities [T, C]; T may be 0.

        They are read as float32 on the CPU. Of several hypotheses with exactly the best score the first text in sorted
        order is taken (which of equals flashlight drops from a full beam hangs on their addresses). A path that ends
        within a word, where no other survives, is without that word. Raises `ContractError` for another shape and
        `NumericalError` for NaN and +inf.
        """
        emissions_TC = log_probs_TC.detach().float().cpu().contiguous()  # flashlight reads bare memory
        if emissions_TC.ndim != 2 or emissions_TC.shape[1] != self.classes:
            raise ContractError(
                f"the decoder was given {list(emissions_TC.shape)} and expects [frames, {self.classes}]",
                "a head for CTC gives one log probability per frame and symbol",
            )
        if not bool((emissions_TC < math.inf).all()):
            raise NumericalError("the log probabilities have a NaN or an infinity", "look at the loss of the head")
        found = self.search.decode(emissions_TC.data_ptr(), *emissions_TC.shape)
        return min((self._hypothesis(path) for path in found), key=lambda h: (-h.score, h.text))

    def _hypothesis(self, path: Any) -> Hypothesis:
        return Hypothesis(
            text=" ".join(self.words[i] for i in path.words if i >= 0),  # -1: no word ends at this frame
            score=path.score,
            acoustic=path.emittingModelScore,
            language=path.lmScore,
        )


def build_decoder(
    constants: BeamSearch, labels: TokenLabels, lexicon_paths: Sequence[Path], lm_path: Path
) -> WordDecoder:
    """Read lexicons and language model and make the search ready.

    The language model is an ARPA file, plain or compressed, or a KenLM binary; KenLM tells them by their content. It
    reads an ARPA file whole and finds what is wrong in it. Of a binary it checks the head and the size, and trusts the
    rest: damage inside can end the process. Its progress bar, which nothing else switches off, is not shown.

    Raises `MissingExtraError` without flashlight-text, and `DataError` where a file cannot be read or is not what it
    should be. A word that the language model does not know is scored as `<unk>` (log10 -100 where the model has none);
    `WordDecoder.unknown` lists them.
    """
    if BOUNDARY not in labels.names:
        raise ContractError(
            f"the vocabulary has no word boundary {BOUNDARY!r}", "beam search is for words in characters"
        )
    flashlight = _flashlight()
    spellings = read_spellings(lexicon_paths, labels)
    words = tuple(spellings)
    try:
        with _silenced_stderr():
            model = flashlight.decoder.kenlm.KenLM(str(lm_path), flashlight.dictionary.Dictionary([*words, UNKNOWN]))
    except (RuntimeError, ValueError) as error:  # what pybind11 makes of KenLM's exceptions
        raise DataError(
            f"the language model {lm_path} cannot be read: {str(error).splitlines()[-1]}",
            "give an ARPA file (plain or .gz) or a KenLM binary, whole, with n-grams of order 2 or more",
        ) from error
    silence = labels.names.index(BOUNDARY)
    search = flashlight.decoder.LexiconDecoder(
        flashlight.decoder.LexiconDecoderOptions(
            beam_size=constants.beam_size,
            beam_size_token=labels.size,
            beam_threshold=constants.beam_threshold,
            lm_weight=constants.lm_weight,
            word_score=constants.word_score,
            unk_score=-math.inf,
            sil_score=constants.silence_score,
            log_add=constants.log_add,
            criterion_type=flashlight.decoder.CriterionType.CTC,
        ),
        _trie(spellings, labels.size, silence, model),
        model,
        silence,
        labels.blank,
        len(words),  # the index of `<unk>`
        [],  # transitions, of another criterion
        False,  # the language model is of words, not of tokens
    )
    return WordDecoder(words=words, unknown=_unknown(words, model), classes=labels.size, search=search)


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Send to nowhere what C++ writes to the process's own stderr."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def decoding_sha(constants: BeamSearch, lexicon_paths: Sequence[Path], lm_path: Path) -> str:
    """Hash what a decoded text depends on besides the log probabilities.

    That is the constants, the bytes of the files as they lie there, and the version of flashlight-text. The order of
    the lexicons and one given twice make no difference, as they make none to the text.
    """
    version = _flashlight().__version__
    lexicons = sorted({_file_sha(path) for path in lexicon_paths})
    return sha256_of([repr(constants), lexicons, _file_sha(lm_path), version])


# Three lines of fairseq's librispeech_lexicon.lst; between the word and its spelling is a tab:
#   AND<tab>A N D |
#   IT'S<tab>I T ' S |
#   THE<tab>T H E |
def read_spellings(paths: Sequence[Path], labels: TokenLabels) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Read spelling lexicons, plain or .gz, into word -> all its spellings as indices, both in sorted order.

    Raises `DataError` for a file that cannot be read, a line without a spelling, one that heads it with a mark of the
    language model, for tokens that are not in the vocabulary (all of them), for spellings that do not end with the word
    boundary, and where there are no words.
    """
    silent = {*labels.silent, *MARKS, labels.names[labels.blank]}
    indices = {name: i for i, name in enumerate(labels.names) if name not in silent}
    spellings: dict[str, set[tuple[int, ...]]] = {}
    foreign: dict[str, str] = {}
    unbounded: list[str] = []
    for where, line in (located for path in paths for located in lexicon_lines(path)):
        word, *tokens = line.split()
        if not tokens:
            raise DataError(f"{where}: no spelling after {word!r}", FORMAT)
        if word in MARKS:
            raise DataError(f"{where}: {word!r} is a mark of the language model, not a word", "leave this line out")
        missing = [token for token in tokens if token not in indices]
        for token in missing:
            foreign.setdefault(token, where)
        if not missing:
            if len(tokens) == 1 or tokens.count(BOUNDARY) != 1 or tokens[-1] != BOUNDARY:
                unbounded.append(f"{word} (at {where})")
            spellings.setdefault(word, set()).add(tuple(indices[token] for token in tokens))
    if foreign:
        raise DataError(
            f"{len(foreign)} tokens of the lexicon are not in the vocabulary: "
            + ", ".join(f"{token} (at {where})" for token, where in sorted(foreign.items())),
            f"{FORMAT}; a pronunciation lexicon, which has phones, is another thing and cannot be used here",
        )
    if unbounded:
        raise DataError(
            f"{len(unbounded)} spellings are not letters and then one {BOUNDARY!r}: {', '.join(unbounded[:10])}", FORMAT
        )
    if not spellings:
        raise DataError(f"there are no words in the lexicon {', '.join(map(str, paths))}", FORMAT)
    return {word: tuple(sorted(spellings[word])) for word in sorted(spellings)}


def _trie(spellings: Mapping[str, Sequence[Sequence[int]]], classes: int, silence: int, model: Any) -> Any:
    """Spellings as a tree of tokens, each node with the best language score, at the start of a sentence, below it."""
    decoder = _flashlight().decoder
    trie, start = decoder.Trie(classes, silence), model.start(False)
    for index, (word, spelled) in enumerate(spellings.items()):
        _, score = model.score(start, index)
        for spelling in spelled:
            homographs = trie.insert(list(spelling), index, score).labels
            if homographs[-1] != index:  # flashlight drops the seventh, and says so on stderr only
                raise DataError(
                    f"more than {len(homographs)} words of the lexicon have the spelling of {word!r}",
                    "flashlight tells no more of them apart: leave some out",
                )
    trie.smear(decoder.SmearingMode.MAX)
    return trie


def _unknown(words: Sequence[str], model: Any) -> tuple[str, ...]:
    """Words that the model scores as it does `<unk>`, alone and with the end after it: it can be asked nothing else."""
    nothing = model.start(True)

    def scores(index: int) -> tuple[float, float]:
        after, score = model.score(nothing, index)
        return score, model.finish(after)[1]

    unknown = scores(len(words))
    return tuple(word for index, word in enumerate(words) if scores(index) == unknown)


def _flashlight() -> Any:
    """The package, with the modules used here as its attributes; it has no types."""
    try:
        importlib.import_module("flashlight.lib.text.decoder.kenlm")
        importlib.import_module("flashlight.lib.text.dictionary")
        return importlib.import_module("flashlight.lib.text")
    except ImportError as error:
        raise MissingExtraError(
            f"beam search with a language model needs flashlight-text with KenLM, which does not import: {error}",
            "pip install 'superbench[decode]'",
        ) from error


def _file_sha(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", "check the paths of lexicon and language model") from error
