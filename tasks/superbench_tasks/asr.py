"""Automatic speech recognition: characters by CTC on LibriSpeech train-clean-100, scored by word error rate.

The constants are those of s3prl@ec8064b, downstream/asr (config.yaml, expert.py, dataset.py, model.py, char.dict) and
downstream/specaug.py, and stand in `PROTOCOL`; what is not said by their names:

- batch 16: config.yaml says 32, and the data set halves every batch of it (HALF_BATCHSIZE_TIME is compared with
  samples), so that 16 is what has always been trained;
- vocabulary: fairseq's four specials, then char.dict in its order; blank is `<s>`, and `</s>` ends every target;
- words are scored as they are after upper-casing; `uer` counts characters and the `|` after each word;
- a second decoding, with a lexicon and an n-gram model, is an extra: its scores are `wer_lm` and `uer_lm`, of the words
  it finds (where s3prl prints the greedy `uer` again);
- learning rates: config.yaml has 1e-4; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).

Departures from the reference are in `TASK.departures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from superbench.contracts import Row
from superbench.errors import DataError, UsageError
from superbench.labels import Labels, TokenLabels
from superbench.plugin import Decoder, SpecAugment, TaskProtocol, TaskSpec
from superbench_tasks.beam_search import BeamSearch, build_decoder, decoding_sha
from superbench_tasks.departures import (
    EXACT_FEATURES,
    FILE_ORDER,
    INFINITE_GRADIENTS,
    LEARNING_RATES,
    buckets,
)
from superbench_tasks.librispeech import FOLDER, SIZES, SUBSETS, read_librispeech


@dataclass(frozen=True, kw_only=True)
class AsrProtocol(TaskProtocol):
    """What ASR has beside the constants of every task."""

    subsets: tuple[tuple[str, str], ...]  # of LibriSpeech, and the split each one is
    specials: tuple[str, ...]  # of the vocabulary, in front
    characters: tuple[str, ...]
    silent: tuple[str, ...]  # of the specials: never written into a hypothesis
    blank: str
    ending: str  # of every target
    boundary: str  # written after every word
    beam_search: BeamSearch  # of the second decoding, where a lexicon and a language model are given


PROTOCOL = AsrProtocol(
    family="superb",
    source="s3prl@ec8064b downstream/asr, downstream/specaug.py; arXiv 2105.01051",
    head="blstm:projector=1024,hidden=1024,layers=2,dropout=0.2",
    objective="ctc",
    metrics=("wer", "uer"),
    steps=200_000,
    batch=16,
    accumulate=1,
    eval_every=2_000,
    clip=1.0,
    must_beat=1.0,
    lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    sampling="length_buckets",
    augment=SpecAugment(time_warp=5, frequency_masks=4, frequency_width=50, time_masks=2, time_width=40),
    sizes=SIZES,
    subsets=tuple(SUBSETS.items()),
    specials=("<s>", "<pad>", "</s>", "<unk>"),
    characters=tuple("|ETAONIHSRDLUMWCFGYPBVK'XJQZ"),
    silent=("<s>", "<pad>", "</s>"),
    blank="<s>",
    ending="</s>",
    boundary="|",
    beam_search=BeamSearch(),
)


@dataclass(frozen=True)
class Options:
    """What the second decoding needs."""

    lexicon: tuple[str, ...] = ()  # paths: a word and its spelling, `HI H I |`
    lm: str = ""  # path of an n-gram model: ARPA or KenLM's binary


def split_characters(transcript: str) -> list[str]:
    """Upper-case a transcript and cut it into characters, with `|` after every word.

    Only ASCII letters have a case here: Python would make two letters of the alphabet out of one outside it (`ß`).
    """
    words = "".join(c.upper() if c.isascii() else c for c in transcript).split()
    if PROTOCOL.boundary in "".join(words):
        raise KeyError(PROTOCOL.boundary)  # the word boundary is no character of a word
    return [c for word in words for c in (*word, PROTOCOL.boundary)]


def join_characters(tokens: Sequence[str]) -> str:
    """Put characters together again: words with single spaces between."""
    return " ".join("".join(tokens).replace(PROTOCOL.boundary, " ").split())


def labels(references: Sequence[str], official: bool) -> TokenLabels:
    """Return the 32 symbols, whatever the references are."""
    return TokenLabels(
        names=(*PROTOCOL.specials, *PROTOCOL.characters),
        blank=PROTOCOL.specials.index(PROTOCOL.blank),
        ending=(PROTOCOL.ending,),
        silent=PROTOCOL.silent,
        split=split_characters,
        join=join_characters,
    )


def read(root: Path, options: Options) -> tuple[Row, ...]:
    """Read the official tree."""
    return read_librispeech(root)


def decoder(options: Options, vocabulary: Labels) -> Decoder | None:
    """Build the beam search of `--lm`, which needs the spellings of `--lexicon`; without `--lm` there is none."""
    if not options.lm:
        if options.lexicon:
            raise UsageError(
                "--lexicon without --lm: ASR uses spellings for the search with a language model alone",
                "add --lm, or name the task that it is for: --lexicon pr=PATH",
            )
        return None
    if not options.lexicon:
        raise UsageError("--lm without --lexicon: the search wants each word's spelling", "--lexicon asr=PATH")
    assert isinstance(vocabulary, TokenLabels)
    lexicons, model = [Path(path) for path in options.lexicon], Path(options.lm)
    search = build_decoder(PROTOCOL.beam_search, vocabulary, lexicons, model)
    _refuse_unwritable(search.words, vocabulary)
    if len(search.unknown) == len(search.words):
        raise DataError(
            f"the language model {model} tells none of the {len(search.words)} words of the lexicon from unknown ones",
            "are both in upper case, and of one language?",
        )
    unknown = f"{len(search.unknown)} of {len(search.words)} words of the lexicon are unknown to the language model"
    return Decoder(
        name="lm",
        decode=search,
        sha=decoding_sha(PROTOCOL.beam_search, lexicons, model),
        constants=PROTOCOL.beam_search,
        warnings=(unknown,) if search.unknown else (),
    )


def _refuse_unwritable(words: Sequence[str], vocabulary: TokenLabels) -> None:
    """A word that is found is scored by its characters: all of them must be in the vocabulary."""
    wrong = []
    for word in words:
        try:
            vocabulary.encode(word)
        except KeyError as error:
            wrong.append(f"{word} ({' '.join(error.args)})")
    if wrong:
        raise DataError(
            f"{len(wrong)} words of the lexicon have characters outside the vocabulary: {', '.join(wrong[:20])}",
            "leave them out, or write them with A to Z and the apostrophe",
        )


TASK = TaskSpec(
    name="asr",
    version="1.0",
    protocol=PROTOCOL,
    departures=(EXACT_FEATURES, buckets(28_539), FILE_ORDER, LEARNING_RATES, INFINITE_GRADIENTS),
    column="text",
    labels=labels,
    read=read,
    folders=(FOLDER,),
    speakers="disjoint",
    options=Options,
    decoder=decoder,
    summary="automatic speech recognition (LibriSpeech 100 h, WER)",
)
