"""Upstreams that keep their promises, and for every promise some that break it and no other."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from superbench.conformance import check
from superbench.contracts import Provenance
from superbench.errors import DataError
from superbench.features.extraction import LoadedUpstream
from superbench.plugin import Layers

HOP, WIDTH = 320, 8


def linear() -> nn.Linear:
    net = nn.Linear(HOP, WIDTH)
    with torch.no_grad():
        net.weight.copy_(torch.randn(WIDTH, HOP, generator=torch.Generator().manual_seed(1)) / 10)
        net.bias.zero_()
    return net.eval().requires_grad_(False)


class Plain:
    """A linear map of whole blocks of samples, padded and batched, as one layer."""

    sample_rate, strides, widths = 16000, (HOP,), (WIDTH,)
    exact_batches = True

    def __init__(self, net: nn.Linear):
        self.net = net

    def num_frames(self, samples):
        return samples // HOP

    def __call__(self, waves):
        if any(w.ndim != 1 or len(w) < HOP for w in waves):
            raise DataError("a wave is [n], with a whole block in it")
        longest = max(len(w) // HOP for w in waves)
        x_BTN = waves[0].new_zeros(len(waves), longest, HOP)
        for x_TN, wave in zip(x_BTN, waves, strict=True):
            blocks = wave.unfold(0, HOP, HOP)
            x_TN[: len(blocks)] = blocks
        x_BTD = self.net(x_BTN)
        return [Layers((x_TD[: len(w) // HOP],)) for x_TD, w in zip(x_BTD, waves, strict=True)]


class Precise(Plain):
    """The same, in float64 where that is asked for."""

    def astype(self, dtype):
        self.net.to(dtype)
        return self


class Codes(Precise):
    """The loudest of the features of each frame."""

    widths = (1,)
    integers = True

    def __call__(self, waves):
        return [Layers((layers.tensors[0].argmax(1, keepdim=True),)) for layers in super().__call__(waves)]


class Good(Precise):
    """Keeps every promise and makes them all."""

    strides, widths = (HOP, HOP), (WIDTH, WIDTH)
    weights_sha = "0a" * 32
    taps = ("codes", "first")

    def __init__(self):
        super().__init__(linear())

    def tap(self, name):
        return {"codes": Codes, "first": Precise}[name](self.net)

    def features(self, waves):
        return [layers.tensors[0] for layers in super().__call__(waves)]

    def __call__(self, waves):
        return [Layers((x_TD, x_TD.abs())) for x_TD in self.features(waves)]


class StatesOtherWidths(Good):
    widths = (WIDTH, WIDTH + 1)


class StatesAnotherStride(Good):
    strides = (HOP, HOP - 40)


class StatesOneWidth(Good):
    widths = (WIDTH,)


class CountsOneFrameMore(Good):
    def num_frames(self, samples):
        return samples // HOP + (samples > HOP and samples % HOP == 5)


class IsNoisy(Good):
    exact_batches = False

    def __init__(self):
        super().__init__()
        self.noise = torch.Generator().manual_seed(0)

    def features(self, waves):
        return [x + 1e-3 * torch.randn(x.shape, generator=self.noise, dtype=x.dtype) for x in super().features(waves)]


class Remembers(Good):
    """What came before decides, by a bit."""

    exact_batches, before = False, 0.0

    def features(self, waves):
        found = [x + self.before for x in super().features(waves)]
        self.before = 1e-6 * (len(waves[-1]) % 2)
        return found


class DropsLayers(Good):
    calls = 0

    def __call__(self, waves):
        self.calls += 1
        return [Layers(layers.tensors[: 1 + (self.calls % 3 > 0)]) for layers in super().__call__(waves)]


class HearsNeighbours(Good):
    """Where there are three or more waves, each hears how many."""

    def features(self, waves):
        return [x + 1e-3 * (len(waves) > 2) for x in super().features(waves)]


class SortsByLength(Good):
    """Computes the longest wave first, and leaves the results in that order."""

    def features(self, waves):
        return super().features(sorted(waves, key=len, reverse=True))


class HearsPadding(Good):
    """The shorter of two waves hears that it is much shorter."""

    def features(self, waves):
        longest = max(len(w) for w in waves)
        leak = [1e-3 * (len(waves) == 2 and longest > 3.9 * len(w)) for w in waves]
        return [x + more for x, more in zip(super().features(waves), leak, strict=True)]


class TakesMeansOfPaddedBatches(Good):
    """What people do: normalise by a mean that padding is part of."""

    def features(self, waves):
        frames = max(len(w) // HOP for w in waves)
        return [x - x.sum(0) / frames for x in super().features(waves)]


class TakesTheFirstChannel(Good):
    def features(self, waves):
        return super().features([w[0] if w.ndim == 2 else w for w in waves])


class GivesNothingForNothing(Good):
    def features(self, waves):
        if waves[0].ndim == 1 and len(waves[0]) < HOP:
            return [torch.zeros(0, WIDTH)]
        return super().features(waves)


class Trains(Good):
    def __init__(self):
        super().__init__()
        self.net.train()


class KeepsATrainingModuleInAList(Good):
    def __init__(self):
        super().__init__()
        self.blocks = [nn.Identity().eval(), nn.Identity().train()]


class Holder:
    def __init__(self, module):
        self.module = module


class KeepsATrainingModuleInAnObject(Good):
    holder = Holder(nn.Sequential(nn.Identity()).train())


class LeavesDropoutOn(Good):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5).train()

    def features(self, waves):
        return [self.dropout(x) for x in super().features(waves)]


class WantsGradients(Good):
    def __init__(self):
        super().__init__()
        self.net.requires_grad_(True)


class WantsGradientsInSecret(WantsGradients):
    """Its parameters want a gradient, its features have none: they are computed without."""

    def features(self, waves):
        with torch.no_grad():
            return super().features(waves)


class TakesLogarithms(Good):
    def __call__(self, waves):
        return [Layers((x, x.abs().log())) for x in self.features(waves)]


class GivesDoubles(Good):
    def features(self, waves):
        return [x.double() for x in super().features(waves)]


class HasAnIdleAstype(Good):
    def astype(self, dtype):
        return self

    def features(self, waves):
        return super().features([w.float() for w in waves])


class CentresInPlace(Good):
    def features(self, waves):
        if all(len(w) >= HOP and w.ndim == 1 for w in waves):
            for wave in waves:
                wave.sub_(wave.mean())
        return super().features(waves)


class EmptiesTheList(Good):
    def __call__(self, waves):
        found = super().__call__(waves)
        waves.clear()
        return found


def disturbing(act):
    class Disturbs(Good):
        def features(self, waves):
            act()
            return super().features(waves)

    return Disturbs


class GivesNothingForItsDtype(Good):
    def astype(self, dtype):
        self.net.to(dtype)


class HasAnOddHash(Good):
    weights_sha = "unknown"


class HasAHashThatChanges(Good):
    calls = 0

    def features(self, waves):
        self.calls += 1
        return super().features(waves)

    @property
    def weights_sha(self):
        return f"{self.calls:064x}"


class LacksATap(Good):
    taps = ("codes", "first", "third")


class NamesAnotherOutputHidden(Good):
    taps = ("hidden",)

    def tap(self, name):
        return Precise(self.net)


class StatesTapsAsText(Good):
    taps = "codes"


def with_codes(kind):
    class Coded(Good):
        taps = ("codes",)

        def tap(self, name):
            return kind(self.net)

    return Coded


class FloatCodes(Codes):
    def __call__(self, waves):
        return [Layers((layers.tensors[0].to(waves[0].dtype),)) for layers in super().__call__(waves)]


class CodesBelowZero(Codes):
    def __call__(self, waves):
        return [Layers((layers.tensors[0] - 1,)) for layers in super().__call__(waves)]


class CodesOneTooFew(Codes):
    def num_frames(self, samples):
        return max(0, samples // HOP - (samples == 16000))


class CodesOfBatches(Codes):
    def __call__(self, waves):
        return [Layers((layers.tensors[0] + (len(waves) > 2),)) for layers in super().__call__(waves)]


class CodesThatCount(Codes):
    exact_batches, calls = False, 0

    def __call__(self, waves):
        self.calls += 1
        return [Layers((layers.tensors[0] + self.calls,)) for layers in super().__call__(waves)]


def report_of(upstream, sounds=()):
    brought = Provenance(plugin="toys")
    return check(LoadedUpstream(name="toy", upstream=upstream, provenance=brought, device="cpu"), sounds)


def finding(report, promise):
    (found,) = (f for f in report.findings if f.promise == promise)
    return found


# the toy: the promises it breaks, all of them; a word that the finding of the first must hold
BROKEN = {
    StatesOtherWidths: (["facts"], "layer 1: [T, 9] stated, [115, 8] came out"),
    StatesAnotherStride: (["facts"], "layer 1: stride 280, but 50 strides more give 43 frames more"),
    StatesOneWidth: (["facts"], "2 strides and 1 widths are stated"),
    CountsOneFrameMore: (["frame counts"], "first 325 samples: 2 stated, 1 came out"),
    IsNoisy: (["determinism"], "largest difference 0.00"),
    Remembers: (["determinism"], "largest difference 1"),
    HearsNeighbours: (["batches"], "float32: 0.001, in layer 0 (wave "),
    SortsByLength: (["batches", "padding"], "float32: 6 waves in, their results in another order"),
    HearsPadding: (["padding"], "wave 1 of 2"),
    TakesMeansOfPaddedBatches: (["batches", "padding"], "float64: 0."),
    TakesTheFirstChannel: (["odd input"], "stereo: accepted, empty: DataError, 1 sample: DataError"),
    GivesNothingForNothing: (["odd input"], "stereo: DataError, empty: accepted, 1 sample: accepted"),
    Trains: (["eval mode"], "1 of 1 modules in training mode: upstream.net (Linear)"),
    KeepsATrainingModuleInAList: (["eval mode"], "1 of 3 modules in training mode: upstream.blocks[1] (Identity)"),
    KeepsATrainingModuleInAnObject: (["eval mode"], "upstream.holder.module (Sequential)"),
    LeavesDropoutOn: (["determinism", "batches", "padding", "eval mode", "global state"], "largest difference"),
    WantsGradients: (["no gradient"], "2 of 2 layers carry a graph; 2 of 2 parameters want a gradient"),
    TakesLogarithms: (["finite"], "400 values of digital silence"),
    GivesDoubles: (["dtype and device"], "float32 in, float64 on cpu out; float64 in, float64 on cpu out"),
    HasAnIdleAstype: (["dtype and device"], "float32 in, float32 on cpu out; float64 in, float32 on cpu out"),
    GivesNothingForItsDtype: (["dtype and device"], "float64 in, float64 on cpu out; astype returned None, not itself"),
    CentresInPlace: (["input untouched"], "5 of 6 waves changed"),  # the mean of silence is 0
    EmptiesTheList: (
        ["input untouched"],
        "0 of 6 waves changed, by up to 0; the list of waves itself was changed (1 wave in, 0 in it after)",
    ),
    disturbing(random.random): (["global state"], "changed: random state of Python"),
    disturbing(np.random.rand): (["global state"], "changed: random state of numpy"),
    disturbing(lambda: torch.rand(1)): (["global state"], "changed: random state of torch"),
    disturbing(lambda: torch.set_num_threads(3)): (["global state"], "changed: number of threads"),
    disturbing(lambda: torch.set_default_dtype(torch.float64)): (["global state"], "changed: default dtype"),
    disturbing(lambda: torch.set_grad_enabled(not torch.is_grad_enabled())): (["global state"], "changed: grad mode"),
    HasAnOddHash: (["weights_sha"], "unknown"),
    HasAHashThatChanges: (["weights_sha"], "before"),
    LacksATap: (["taps"], "KeyError: 'third' (broken_upstreams.py, line"),
    StatesTapsAsText: (["taps"], "taps is 'codes' (str)"),
    NamesAnotherOutputHidden: (["taps"], "hidden; tap 'hidden' differs from the layers"),
    with_codes(FloatCodes): (["tap codes: facts"], "integers stated, torch.float32 came out"),
    with_codes(CodesBelowZero): (["tap codes: facts"], "layer 0: code -1 came out"),
    with_codes(CodesOneTooFew): (["tap codes: frame counts"], "16000 samples: 49 stated, 50 came out"),
    with_codes(CodesOfBatches): (["tap codes: batches"], "codes differ"),
    with_codes(CodesThatCount): (["tap codes: determinism"], "largest difference"),
}
