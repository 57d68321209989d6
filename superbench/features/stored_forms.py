"""The forms in which features are stored: as time means or as frames, and as which numbers.

A form's folder is its name where the numbers are float32, else with theirs: "pooled", "frames", "frames-int8",
"pooled-float64". Time means are never stored in a lossy form. int8 has one float32 scale per layer and dimension of
each entry, its absmax over time / 127: [L, D] beside codes [L, T, D].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FORMS = ("pooled", "frames")


@dataclass(frozen=True, kw_only=True)
class StoredNumber:
    """What one kind of stored number costs: bytes, and how far from float32 what is read back may be."""

    bytes: int
    code: str  # in the header of a safetensors file
    cost: str = ""  # of a lossy one, in bytes and in numbers, against float32
    rounding: float = 0.0  # largest error of a value, as a part of `of`; 0: none
    of: str = ""  # "value": of the value itself, where it is no subnormal; "absmax": of its dimension's absmax
    largest: float | None = None  # values beyond it are refused


NUMBERS: Mapping[str, StoredNumber] = {
    "float32": StoredNumber(bytes=4, code="F32"),
    "float64": StoredNumber(bytes=8, code="F64"),  # of a run in float64, which it loses nothing of
    "float16": StoredNumber(  # IEEE 754 binary16
        bytes=2,
        code="F16",
        cost="half the bytes; rounding of 2^-11",
        rounding=2**-11,
        of="value",
        largest=65504.0,
    ),
    "bfloat16": StoredNumber(
        bytes=2,
        code="BF16",
        cost="half the bytes; rounding of 2^-8",
        rounding=2**-8,
        of="value",
        largest=3.3895313892515355e38,
    ),
    "int8": StoredNumber(
        bytes=1,
        code="I8",
        cost="a quarter of the bytes; rounding of 1/254 of each dimension's largest value",
        rounding=1 / 254,
        of="absmax",
    ),
}


@dataclass(frozen=True, kw_only=True)
class MeasuredCost:
    """What lossy frames did to the test score of one task, in points, as mean and SD over `SEEDS` seeds.

    A difference is the lossy form's score less float32's of the same seed: more is better for an accuracy, and worse
    for a rate of errors (per, wer, uer).
    """

    task: str
    metric: str
    features: str
    seeds: float  # SD of float32's own scores: what another seed does
    differences: Mapping[str, tuple[float, float]]  # by dtype

    def __str__(self) -> str:
        return f"{self.task} {self.metric} with {self.features}"


SEEDS = 5
# Source: `python -m tests.bench.lossy SHARED`, where corpora (small), steps, rates and heads are. In pr and asr, with
# CTC, a rounding of 2^-11 is enough for another training: no mean there exceeds the SD of the seeds alone.
MEASURED = (
    MeasuredCost(
        task="ks",
        metric="accuracy",
        features="fbank_no_cmvn",
        seeds=8.15,
        differences={"float16": (0.00, 0.00), "bfloat16": (0.00, 0.00), "int8": (0.13, 0.30)},
    ),
    MeasuredCost(
        task="ks",
        metric="accuracy",
        features="a random HuBERT",
        seeds=1.8,
        differences={"float16": (0.00, 0.00), "bfloat16": (0.13, 0.30), "int8": (0.00, 0.00)},
    ),
    MeasuredCost(
        task="sid",
        metric="accuracy",
        features="fbank_no_cmvn",
        seeds=1.97,
        differences={"float16": (0.00, 0.00), "bfloat16": (0.27, 0.28), "int8": (0.07, 0.15)},
    ),
    MeasuredCost(
        task="sid",
        metric="accuracy",
        features="a random HuBERT",
        seeds=4.32,
        differences={"float16": (0.00, 0.00), "bfloat16": (-0.07, 0.15), "int8": (1.20, 2.87)},
    ),
    MeasuredCost(
        task="er",
        metric="accuracy",
        features="fbank_no_cmvn",
        seeds=5.46,
        differences={"float16": (0.00, 0.00), "bfloat16": (0.00, 0.00), "int8": (0.08, 0.18)},
    ),
    MeasuredCost(
        task="er",
        metric="accuracy",
        features="a random HuBERT",
        seeds=1.49,
        differences={"float16": (0.00, 0.00), "bfloat16": (0.00, 0.00), "int8": (-0.25, 0.43)},
    ),
    MeasuredCost(
        task="pr",
        metric="per",
        features="fbank",
        seeds=1.67,
        differences={"float16": (-0.28, 1.24), "bfloat16": (-0.34, 0.84), "int8": (-0.21, 1.39)},
    ),
    MeasuredCost(
        task="pr",
        metric="per",
        features="a random HuBERT",
        seeds=1.72,
        differences={"float16": (-1.23, 2.88), "bfloat16": (-0.73, 2.67), "int8": (-0.37, 1.76)},
    ),
    MeasuredCost(
        task="asr",
        metric="wer",
        features="fbank",
        seeds=2.67,
        differences={"float16": (-2.43, 2.00), "bfloat16": (-2.20, 2.08), "int8": (-1.97, 1.41)},
    ),
    MeasuredCost(
        task="asr",
        metric="uer",
        features="fbank",
        seeds=2.34,
        differences={"float16": (-1.76, 2.44), "bfloat16": (-1.15, 3.22), "int8": (-1.30, 1.41)},
    ),
)
STORED_DTYPES = tuple(n for n in NUMBERS if n != "float64")  # what frames of a run in float32 may be stored as


def folder_name(form: str, dtype: str = "float32") -> str:
    """ "pooled", "frames", "frames-int8", ...: the folder of a form, and its name in what is told."""
    assert form in FORMS, f"no form {form!r}"
    assert dtype in (NUMBERS if form == "frames" else ("float32", "float64")), f"{form} are not stored as {dtype}"
    return form if dtype == "float32" else f"{form}-{dtype}"


def bytes_of(frames: Sequence[int], widths: Sequence[int], form: str, dtype: str = "float32") -> int:
    """Bytes of one entry's numbers, scales included, from the frames and the width of each layer."""
    values = sum(widths if form == "pooled" else (f * w for f, w in zip(frames, widths, strict=True)))
    scales = 4 * sum(widths) if form == "frames" and dtype == "int8" else 0
    return NUMBERS[dtype].bytes * values + scales


def told_cost(form: str, task: str) -> str:
    """What a lossy form costs, in one line: of this task where it was measured, else of all; "" for a lossless form."""
    dtype = form.partition("-")[2]
    if dtype not in NUMBERS or not NUMBERS[dtype].cost:
        return ""
    measured = [c for c in MEASURED if c.task == task] or MEASURED
    found = ", ".join("{} {:+.1f} ± {:.1f} ({:.1f})".format(c, *c.differences[dtype], c.seeds) for c in measured)
    return (
        f"{NUMBERS[dtype].cost}; measured on real recordings, points of test score less float32's, mean ± SD over "
        f"{SEEDS} seeds (SD of the seeds alone): {found}"
    )
