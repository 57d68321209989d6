"""Sound per second of our encoder, in batches by length, against transformers on the same weights and the same sounds.

The weights are random, and HuBERT base's in shape, but of half its layers unless under `--full`. Recordings are real
where SUPERBENCH_SHARED names a folder of them, else noise of like lengths. There are three lists: words of a second,
longer utterances, and both mixed. B is always our encoder in float32 and in the batches that the one pass forms; A is,
on each list in turn:

- transformers, one by one: exact, as the `huggingface` upstream does it, and what the errors in the notes are against;
- transformers, padded: eight at a time in the order of the list, with an attention mask, which is what one writes
  without care. Its features are not those of a sound alone: by how much (relative L2) is in the note;
- ours, one by one;
- ours in bfloat16 (and on a GPU, compiled): an option that is not exact: by how much is in the note;
- the floor: the multiplications and additions that the architecture states for these sounds, at the rate that a product
  of two matrices of 2048 x 2048 has in the same round. Our positional convolution needs fewer of them than it states.

Every line is one round's time of A over that of B. The last line is peak memory, on the mixed list.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from superbench import torchaudio_loader
from superbench.contracts import Provenance
from superbench.features.batching import batch_samples, form_batches
from superbench.features.extraction import LoadedUpstream
from superbench_upstreams.hubert import load
from superbench_upstreams.options import EncoderOptions

from . import encoder
from .comparison import Comparison, alternate, seconds
from .memory import peak_memory
from .sound_lists import sound_lists

PADDED = 8  # sounds in a batch without care
TOLERANCE = 1e-4  # relative L2 between ours and transformers: rounding
EDGE = 2048  # of the matrices that the floor is measured with
OURS, ONE_BY_ONE, FLOOR = "ours, batches by length", "transformers, one by one", "floor"
Heard = list[tuple[Tensor, ...]]  # hidden states [T, D] of each sound

HEAR = """
import sys
sys.path.insert(0, sys.argv[1])
from bench.upstream_speed import hear
hear(*sys.argv[2:])
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    shape: encoder.Shape
    words: int
    utterances: int
    rounds: int


HALF = replace(encoder.BASE, layers=6)
SMALL = Size(shape=HALF, words=6, utterances=2, rounds=3)
FULL = replace(SMALL, shape=encoder.BASE, words=64, utterances=16)


class Contest:
    """Both encoders on one checkpoint and one device. Whatever hears sounds gives each one's hidden states [T, D]."""

    def __init__(self, checkpoint: Path, device: str) -> None:
        self.checkpoint, self.device = checkpoint, device

    def ours(self, **options: Any) -> LoadedUpstream:
        upstream = load(EncoderOptions(checkpoint=str(self.checkpoint), normalize="false", **options), self.device)
        return LoadedUpstream(name="hubert", upstream=upstream, provenance=Provenance(plugin=""), device=self.device)

    @cached_property
    def exact(self) -> LoadedUpstream:
        return self.ours()

    @cached_property
    def theirs(self) -> nn.Module:
        torchaudio_loader.load()  # before anything imports transformers
        import transformers

        model: nn.Module = transformers.HubertModel.from_pretrained(self.checkpoint)
        return model.eval().to(self.device)

    def in_batches(self, sounds: Sequence[Tensor], loaded: LoadedUpstream | None = None) -> Heard:
        """Our encoder in the batches of the one pass."""
        loaded = loaded or self.exact
        named = encoder.utterances(sounds)
        place = {u.id: i for i, u in enumerate(named)}
        found: Heard = [()] * len(sounds)
        for batch in form_batches(named, batch_samples(loaded)):
            heard = loaded.upstream([sounds[place[u.id]].to(self.device) for u in batch])
            for utterance, layers in zip(batch, heard, strict=True):
                found[place[utterance.id]] = layers.tensors
        return found

    def one_by_one(self, sounds: Sequence[Tensor]) -> Heard:
        """Our encoder, each sound alone."""
        return [self.exact.upstream([sound.to(self.device)])[0].tensors for sound in sounds]

    @torch.no_grad()
    def theirs_one_by_one(self, sounds: Sequence[Tensor]) -> Heard:
        """Transformers, each sound alone."""
        outputs = (self.theirs(s[None].to(self.device), output_hidden_states=True) for s in sounds)
        return [tuple(state[0] for state in output.hidden_states) for output in outputs]

    @torch.no_grad()
    def theirs_padded(self, sounds: Sequence[Tensor]) -> Heard:
        """Transformers, `PADDED` sounds at a time in the order given."""
        found: Heard = []
        for first in range(0, len(sounds), PADDED):
            some = sounds[first : first + PADDED]
            x = nn.utils.rnn.pad_sequence(list(some), batch_first=True).to(self.device)
            mask = nn.utils.rnn.pad_sequence([torch.ones(len(s), dtype=torch.long) for s in some], batch_first=True)
            states = self.theirs(x, attention_mask=mask.to(self.device), output_hidden_states=True).hidden_states
            frames = [self.exact.frames(len(s))[0] for s in some]
            found += [tuple(state[i, :t] for state in states) for i, t in enumerate(frames)]
        return found

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds of some work, until the device has done it."""

        def done() -> None:
            work()
            if self.device != "cpu":
                torch.cuda.synchronize()

        return seconds(done)

    def rate(self) -> float:
        """Multiplications and additions per second of a product of two matrices in float32."""
        a, b = (torch.randn(EDGE, EDGE, device=self.device) for _ in range(2))
        out = a @ b
        return 2 * EDGE**3 / self.timed(lambda: [torch.mm(a, b, out=out) for _ in range(3)]) * 3


def compare(size: Size) -> tuple[Comparison, ...]:
    """Five lines or so for each list and device, in seconds, and one in MiB."""
    lists = sound_lists(size.words, size.utterances)
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        encoder.random_encoder(root / "checkpoint", size.shape)
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            contest = Contest(root / "checkpoint", device)
            fast = {name: contest.ours(**options) for name, options in fast_options(device).items()}
            for name, sounds in lists.items():
                found += _compared(contest, name, sounds, fast, size.rounds)
        torch.save(lists["mixed"], root / "mixed.pt")
        found.append(_memory(root))
    return tuple(found)


def fast_options(device: str) -> dict[str, dict[str, Any]]:
    """Options of ours that give up exactness for speed, where the device gains by them."""
    half, compiled = {"dtype": "bfloat16"}, {"compile": True}
    if device != "cpu":
        return {"bfloat16": half, "compiled": compiled, "bfloat16, compiled": {**half, **compiled}}
    able = torch.cpu.get_capabilities()
    return {"bfloat16": half} if able.get("avx512_bf16") or able.get("amx_bf16") else {}


def _compared(
    contest: Contest, name: str, sounds: Sequence[Tensor], fast: dict[str, LoadedUpstream], rounds: int
) -> list[Comparison]:
    """One list on one device."""
    ways: dict[str, Callable[[Sequence[Tensor]], Heard]] = {
        ONE_BY_ONE: contest.theirs_one_by_one,
        OURS: contest.in_batches,
        f"transformers, padded in {PADDED}s": contest.theirs_padded,
        "ours, one by one": contest.one_by_one,
        **{f"ours, {n}": partial(contest.in_batches, loaded=loaded) for n, loaded in fast.items()},
    }
    right: Heard = []
    errors: dict[str, float] = {}

    def measure(way: str) -> float:
        heard: Heard = []
        taken = contest.timed(lambda: heard.extend(ways[way](sounds)))
        if not right:
            right.extend(heard)  # one by one by transformers is what all are held against
        if way not in errors:
            errors[way] = distance(heard, right)
        return taken

    for way in ways.values():
        way([sounds[0][: encoder.RATE]])  # warm up
    work = sum(encoder.operations(contest.theirs.config, len(s)) for s in sounds)
    measures: dict[str, Callable[[], float]] = {way: partial(measure, way) for way in ways}
    taken = alternate({**measures, FLOOR: lambda: work / contest.rate()}, rounds)
    assert errors[OURS] < TOLERANCE, f"ours and transformers differ by {errors[OURS]:.2g} on {name}"
    length = sum(len(s) for s in sounds) / encoder.RATE
    said = f"{len(sounds)} sounds, {length:.0f} s; ours {length / statistics.median(taken[OURS]):.3g} s per second"
    notes = {way: f"{said}; A is off by {error:.2g}" for way, error in errors.items()} | {ONE_BY_ONE: said}
    notes[FLOOR] = f"{said}; {work / 1e9:.0f} GFLOP at {work / 1e9 / statistics.median(taken[FLOOR]):.0f} a second"
    return [
        Comparison(
            benchmark=f"{name} on {contest.device}",
            a=way,
            b=OURS,
            unit="s",
            a_values=taken[way],
            b_values=taken[OURS],
            note=notes[way],
        )
        for way in taken
        if way != OURS
    ]


def distance(found: Sequence[Sequence[Tensor]], right: Sequence[Sequence[Tensor]]) -> float:
    """Relative L2 between two answers, over all sounds and layers."""
    pairs = [(x.double(), y.double()) for xs, ys in zip(found, right, strict=True) for x, y in zip(xs, ys, strict=True)]
    apart = sum(float((x - y).square().sum()) for x, y in pairs)
    return float((apart / sum(float(y.square().sum()) for _, y in pairs)) ** 0.5)


def _memory(root: Path) -> Comparison:
    """Peak of a process that hears the mixed list, ours and transformers' padded."""
    ways = ("theirs_padded", "in_batches")
    tests = str(Path(__file__).parents[1])
    taken = alternate({way: partial(peak_memory, HEAR, tests, str(root), way) for way in ways}, 1)
    return Comparison(
        benchmark="mixed, peak memory",
        a=f"transformers, padded in {PADDED}s",
        b=OURS,
        unit="MiB",
        a_values=taken["theirs_padded"],
        b_values=taken["in_batches"],
        note=f"a Python with torch alone: {peak_memory('import torch'):.0f} MiB; both hold all features of the list",
    )


def hear(root: str, way: str) -> None:
    """What a child process does: hear the mixed list in one way."""
    sounds = torch.load(Path(root) / "mixed.pt")
    getattr(Contest(Path(root) / "checkpoint", "cpu"), way)(sounds)
    sys.stdout.write("heard\n")
