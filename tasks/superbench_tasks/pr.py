"""Phone recognition: phones by CTC on LibriSpeech train-clean-100, scored by phone error rate.

The constants are those of s3prl@ec8064b, downstream/ctc (libriphone.yaml, expert.py, data.py), corpus/libriphone.py
and vocab/phoneme.txt, and stand in `PROTOCOL`; what is not said by their names:

- phones are those of two lexicons, the first pronunciation of each word, with their stress digits and without silence
  between words; a word that neither has is an error;
- a batch is a drawn utterance and the 15 that follow it in the order of phone counts, so that an utterance comes up 16
  times an epoch; where the first of them is longer than 18.75 s (300,000 samples), the first 8;
- vocabulary: `<pad>` (also the CTC blank), `<eos>` (ends every target), `<unk>`, then SIL, SPN and the 39 ARPAbet
  phones, vowels three times over for stress: 74; stress counts in the score;
- learning rates: libriphone.yaml has 1e-2; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).

Departures from the reference are in `TASK.departures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from superbench.contracts import Row
from superbench.errors import DataError, UsageError
from superbench.labels import Labels, TokenLabels
from superbench.plugin import TaskProtocol, TaskSpec
from superbench_tasks.departures import EXACT_FEATURES, FILE_ORDER, INFINITE_GRADIENTS, LEARNING_RATES
from superbench_tasks.lexicon import pronounce, read_lexicons
from superbench_tasks.librispeech import FOLDER, SIZES, SUBSETS, read_librispeech

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y",
    "Z", "ZH",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrProtocol(TaskProtocol):
    """What PR has beside the constants of every task."""

    subsets: tuple[tuple[str, str], ...]  # of LibriSpeech, and the split each one is
    specials: tuple[str, ...]  # of the vocabulary, in front; the first is the CTC blank
    silent: tuple[str, ...]  # of the specials: never written into a hypothesis
    phones: tuple[str, ...]
    ending: str  # of every target
    lexicons: tuple[tuple[str, int | None], ...]  # files, and the words of each; None: not published


PROTOCOL = PrProtocol(
    family="superb",
    source="s3prl@ec8064b downstream/ctc (libriphone.yaml), vocab/phoneme.txt; arXiv 2105.01051",
    head="frame_linear:projector=256",
    objective="ctc",
    metrics=("per",),
    steps=100_000,
    batch=16,
    accumulate=2,
    eval_every=1_000,
    clip=1.0,
    lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    sampling="label_windows",
    halve_above=18.75,
    sizes=SIZES,
    subsets=tuple(SUBSETS.items()),
    specials=("<pad>", "<eos>", "<unk>"),
    silent=("<pad>", "<eos>"),
    phones=("SIL", "SPN", *sorted((*CONSONANTS, *(f"{vowel}{stress}" for vowel in VOWELS for stress in "012")))),
    ending="<eos>",
    lexicons=(("librispeech-lexicon-200k-g2p.txt", None), ("librispeech-lexicon-allothers-g2p.txt", 14_716)),
)


@dataclass(frozen=True)
class Options:
    """Where phones come from: lexicons, or (without any) the column `phones` of a manifest."""

    lexicon: tuple[str, ...] = ()  # paths: CMUdict or LibriSpeech format, the first that has a word wins


def split_phones(reference: str) -> list[str]:
    """Cut a reference at its spaces."""
    phones = reference.split()
    written = sorted({phone for phone in phones if phone in PROTOCOL.specials})
    if written:
        raise KeyError(*written)  # the blank and the ending are no phones
    return phones


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the 74 symbols; for a manifest, followed by the sorted symbols its training references have beside them.

    The 74 are SUPERB's; a corpus of one's own may have other phones (speechocean762 has vowels without stress).
    """
    known = (*PROTOCOL.specials, *PROTOCOL.phones)
    further = {phone for reference in references for phone in reference.split()}.difference(known)
    return TokenLabels(
        names=(*known, *(() if official else sorted(further))),
        blank=0,
        ending=(PROTOCOL.ending,),
        silent=PROTOCOL.silent,
        split=split_phones,
        join=" ".join,
    )


def read(root: Path, options: Options) -> tuple[Row, ...]:
    """Read the official tree, which has words and no phones, so that a lexicon is needed."""
    if not options.lexicon:
        raise UsageError(
            "pr needs a lexicon for the official LibriSpeech, which has no phones",
            "--lexicon PATH, or pr=PATH beside another task's "
            "(SUPERB's are librispeech-lexicon-200k-g2p.txt and librispeech-lexicon-allothers-g2p.txt)",
        )
    return read_librispeech(root)


def complete(rows: Sequence[Row], options: Options) -> Sequence[Row]:
    """Add `phones` to every row by looking the words of its `text` up, where a lexicon is given.

    Raises `DataError` with all rows that have no text, and with all words that no lexicon has.
    """
    if not options.lexicon:
        return rows
    lexicon = read_lexicons([Path(path) for path in options.lexicon])
    spelled = [word for word, phones in lexicon.items() if phones.endswith(" |")]
    if spelled:
        raise DataError(
            f"{len(spelled)} words of the lexicon are spelled, not pronounced: {spelled[0]} {lexicon[spelled[0]]}",
            "PR wants phones (HELLO HH AH0 L OW1); give spellings to ASR: --lexicon asr=PATH --lexicon pr=PATH",
        )
    silent = [row.where or row.id for row in rows if not row.labels.get("text", "").strip()]
    if silent:
        raise DataError(
            f"{len(silent)} rows have no text to look up: {', '.join(silent)}",
            "fill the column 'text', or leave --lexicon out and fill the column 'phones'",
        )
    phones = pronounce([(row.where or row.id, row.labels["text"]) for row in rows], lexicon)
    return [replace(row, labels={**row.labels, "phones": p}) for row, p in zip(rows, phones, strict=True)]


def deviations(options: Options) -> list[str]:
    """Say what of the lexicons is not SUPERB's: their names, their number and, where it is published, their words."""
    found = [(Path(path).name, path) for path in options.lexicon]
    wanted = [name for name, _ in PROTOCOL.lexicons]
    if sorted(name for name, _ in found) != sorted(wanted):
        given = ", ".join(name for name, _ in found) or "none"
        return [f"lexicons: {given} in place of {' and '.join(wanted)}"]
    words = {name: len(read_lexicons([Path(path)])) for name, path in found}
    return [
        f"lexicon {name} has {words[name]:,} words, officially {official:,}"
        for name, official in PROTOCOL.lexicons
        if official is not None and words[name] != official
    ]


TASK = TaskSpec(
    name="pr",
    version="1.0",
    protocol=PROTOCOL,
    departures=(EXACT_FEATURES, FILE_ORDER, LEARNING_RATES, INFINITE_GRADIENTS),
    column="phones",
    labels=labels,
    read=read,
    folders=(FOLDER,),
    complete=complete,
    speakers="disjoint",
    options=Options,
    deviations=deviations,
    summary="phone recognition (LibriSpeech 100 h, PER)",
)
