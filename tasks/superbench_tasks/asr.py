"""Automatic speech recognition: characters by CTC on LibriSpeech train-clean-100, scored by word error rate.

Constants are those of s3prl@ec8064b, downstream/asr (config.yaml, expert.py, dataset.py, char.dict):

- data train-clean-100 / dev-clean / test-clean; the other subsets play no part;
- head: Linear to 1024, two BLSTM layers of 1024 per direction, Linear to 32 (the `blstm` downstream);
- 200,000 steps of Adam, gradient norm clipped at 1, dev-clean scored every 2,000;
- batch 16: config.yaml says 32, and the data set halves every batch of it (HALF_BATCHSIZE_TIME is compared with
  samples), so that 16 is what has always been trained;
- vocabulary: fairseq's four specials, then char.dict in its order; blank is `<s>`; `</s>` ends every target;
- learning rates: config.yaml has 1e-4; SUPERB's rule is a search on a log scale, chosen on dev (docs/superb.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from superbench.contracts import Row
from superbench.labels import Labels, TokenLabels
from superbench.plugin import NoOptions, TaskProtocol, TaskSpec
from superbench_tasks.librispeech import FOLDER, read_librispeech

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
CHARACTERS = tuple("|ETAONIHSRDLUMWCFGYPBVK'XJQZ")


def split_characters(transcript: str) -> list[str]:
    """Upper-case a transcript and cut it into characters, with `|` after every word.

    Only ASCII letters have a case here: Python would make two letters of the alphabet out of one outside it (`ß`).
    """
    words = "".join(c.upper() if c.isascii() else c for c in transcript).split()
    if "|" in "".join(words):
        raise KeyError("|")  # the word boundary is no character of a word
    return [c for word in words for c in (*word, "|")]


def join_characters(tokens: Sequence[str]) -> str:
    """Put characters together again: words with single spaces between."""
    return " ".join("".join(tokens).replace("|", " ").split())


def labels(references: Sequence[str], official: bool) -> Labels:
    """Return the 32 symbols, whatever the references are."""
    return TokenLabels(
        names=(*SPECIALS, *CHARACTERS),
        blank=0,
        ending=("</s>",),
        silent=SPECIALS,
        split=split_characters,
        join=join_characters,
    )


def read(root: Path, options: NoOptions) -> tuple[Row, ...]:
    """Read the official tree."""
    return read_librispeech(root)


TASK = TaskSpec(
    name="asr",
    version="0.1",
    departures=(
        "batches are shuffled epochs without end, in place of buckets of like length whose last, short one is dropped",
    ),
    unfinished=(
        "SpecAugment on the weighted sum (time warp, 4 frequency and 2 time masks)",
        "greedy decoding only: no lexicon and n-gram beam search",
    ),
    protocol=TaskProtocol(
        head="blstm",
        objective="ctc",
        metrics=("wer", "cer"),
        steps=200_000,
        batch=16,
        accumulate=1,
        eval_every=2_000,
        clip=1.0,
        lr_grid=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    ),
    column="text",
    labels=labels,
    read=read,
    folders=(FOLDER,),
    speakers="disjoint",
    summary="automatic speech recognition (LibriSpeech 100 h, WER)",
)
