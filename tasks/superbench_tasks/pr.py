"""Phone recognition: phones by CTC on LibriSpeech train-clean-100, scored by phone error rate.

Constants are those of s3prl@ec8064b, downstream/ctc (libriphone.yaml, expert.py, data.py, vocab/phoneme.txt) and
corpus/libriphone.py:

- data train-clean-100 / dev-clean / test-clean; phones are those of a lexicon, the first pronunciation of each word,
  with their stress digits and without silence between words;
- head: Linear to 256, Linear to 74, nothing non-linear (the `frame_linear` downstream), no SpecAugment;
- 100,000 steps of Adam, gradient norm clipped at 1, dev-clean scored every 1,000;
- batch 16, two of them per step. s3prl's batches are the 16 neighbours, in the order of phone counts, of a drawn
  utterance, so that an utterance comes up 16 times an epoch; here an epoch has it once;
- vocabulary: `<pad>` (also the CTC blank), `<eos>` (ends every target), `<unk>`, then SIL, SPN and the 39 ARPAbet
  phones, vowels three times over for stress: 74;
- learning rates: libriphone.yaml has 1e-2; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from superbench.contracts import Row
from superbench.errors import DataError, UsageError
from superbench.labels import Labels, TokenLabels
from superbench.plugin import TaskProtocol, TaskSpec
from superbench_tasks.lexicon import pronounce, read_lexicons
from superbench_tasks.librispeech import FOLDER, read_librispeech

SPECIALS = ("<pad>", "<eos>", "<unk>")
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
)
PHONES = ("SIL", "SPN", *sorted((*CONSONANTS, *(f"{vowel}{stress}" for vowel in VOWELS for stress in "012"))))


@dataclass(frozen=True)
class Options:
    """Where phones come from: lexicons, or (without any) the column `phones` of a manifest."""

    lexicon: tuple[str, ...] = ()  # paths: CMUdict or LibriSpeech format, the first that has a word wins


def split_phones(reference: str) -> list[str]:
    """Cut a reference at its spaces."""
    phones = reference.split()
    written = sorted({phone for phone in phones if phone in SPECIALS})
    if written:
        raise KeyError(*written)  # the blank and the ending are no phones
    return phones


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the 74 symbols; for a manifest, followed by the sorted symbols its training references have beside them.

    The 74 are SUPERB's; a corpus of one's own may have other phones (speechocean762 has vowels without stress).
    """
    further = {phone for reference in references for phone in reference.split()} - {*SPECIALS, *PHONES}
    return TokenLabels(
        names=(*SPECIALS, *PHONES, *(() if official else sorted(further))),
        blank=0,
        ending=("<eos>",),
        silent=SPECIALS,
        split=split_phones,
        join=" ".join,
    )


def read(root: Path, options: Options) -> tuple[Row, ...]:
    """Read the official tree, which has words and no phones, so that a lexicon is needed."""
    if not options.lexicon:
        raise UsageError(
            "pr needs a lexicon for the official LibriSpeech, which has no phones",
            "--lexicon PATH (SUPERB's are librispeech-lexicon-200k-g2p.txt and librispeech-lexicon-allothers-g2p.txt)",
        )
    return read_librispeech(root)


def complete(rows: Sequence[Row], options: Options) -> Sequence[Row]:
    """Add `phones` to every row by looking the words of its `text` up, where a lexicon is given.

    Raises `DataError` with all rows that have no text, and with all words that no lexicon has.
    """
    if not options.lexicon:
        return rows
    lexicon = read_lexicons([Path(path) for path in options.lexicon])
    silent = [row.where or row.id for row in rows if not row.labels.get("text", "").strip()]
    if silent:
        raise DataError(
            f"{len(silent)} rows have no text to look up: {', '.join(silent)}",
            "fill the column 'text', or leave --lexicon out and fill the column 'phones'",
        )
    phones = pronounce([(row.where or row.id, row.labels["text"]) for row in rows], lexicon)
    return [replace(row, labels={**row.labels, "phones": p}) for row, p in zip(rows, phones, strict=True)]


TASK = TaskSpec(
    name="pr",
    version="0.1",
    unfinished=("batches are shuffled epochs, not windows of 16 over the list sorted by number of phones",),
    protocol=TaskProtocol(
        head="frame_linear",
        objective="ctc",
        metrics=("per",),
        steps=100_000,
        batch=16,
        accumulate=2,
        eval_every=1_000,
        clip=1.0,
        lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    ),
    column="phones",
    labels=labels,
    read=read,
    folders=(FOLDER,),
    complete=complete,
    speakers="disjoint",
    options=Options,
    summary="phone recognition (LibriSpeech 100 h, PER)",
)
