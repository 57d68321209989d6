"""Every promise has a toy that breaks it and no other, and the check says so; what keeps them all passes."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from broken_upstreams import (
    BROKEN,
    CentresInPlace,
    Codes,
    CodesOfBatches,
    DropsLayers,
    Good,
    HearsPadding,
    Plain,
    Trains,
    WantsGradientsInSecret,
    finding,
    linear,
    report_of,
    with_codes,
)

from superbench.api import load_upstream
from superbench.conformance import PROMISES, TAP_PROMISES
from superbench.conformance.report import COLUMNS, SCHEMA
from superbench.conformance.sounds import MADE, made_sounds, read_sounds
from superbench.errors import DataError, UsageError
from superbench.plugin import Layers
from superbench.testing import check_upstream

EXAMPLE = Path(__file__).parents[2] / "upstreams" / "example.py"
NAMES = [promise.name for promise in PROMISES]


def test_what_keeps_every_promise_passes():
    report = report_of(Good())
    taps = [f"tap {tap}: {p.name}" for tap in ("codes", "first") for p in TAP_PROMISES]
    assert [(f.promise, f.verdict) for f in report.findings] == [(name, "ok") for name in [*NAMES, "taps", *taps]]
    assert report.mends == ()
    report.raise_if_broken()


@pytest.mark.parametrize("toy", BROKEN, ids=lambda toy: f"{toy.__name__}-{BROKEN[toy][0][0]}")
def test_the_promise_that_is_broken_is_named_and_no_other(toy):
    promises, word = BROKEN[toy]
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    report = report_of(toy())
    assert [f.promise for f in report.broken] == promises, str(report)
    assert word in report.broken[0].measured
    assert all(f.mend for f in report.broken)
    assert (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()) == before


def test_every_promise_has_a_toy():
    assert {promise for promises, _ in BROKEN.values() for promise in promises} >= {*NAMES, "taps"}


def test_layers_that_come_and_go_are_found():
    report = report_of(DropsLayers())
    assert {"determinism", "batches"} <= {f.promise for f in report.broken}
    assert finding(report, "determinism").measured.startswith("largest difference inf")
    assert finding(report, "batches").measured.startswith("float32: other shapes than alone")
    assert json.loads(json.dumps(report.as_json(), allow_nan=False))["findings"][2]["figures"] == {"difference": None}


def test_parameters_may_want_a_gradient_where_features_have_none():
    found = finding(report_of(WantsGradientsInSecret()), "no gradient")
    assert (found.verdict, found.figures) == ("ok", {"layers": 0, "parameters": 2})


def test_figures_say_by_how_much():
    padding = finding(report_of(HearsPadding()), "padding")
    assert padding.figures["float32"] == pytest.approx(padding.figures["float64"], rel=1e-3)
    assert 2e-5 < padding.figures["float32"] <= 1.001e-3  # over the largest feature, at least 1
    assert padding.limit == "2e-05 in float32, 1e-10 in float64 of the largest feature"
    codes = finding(report_of(with_codes(CodesOfBatches)()), "tap codes: batches")
    assert codes.limit == "0.001 in float32, 0 in float64 of the codes"
    assert codes.figures["float32"] == codes.figures["float64"] > 0.5


def test_a_code_in_a_thousand_may_turn_over_in_float32_and_none_in_float64():
    class Turns(Codes):
        """One code of the first wave is another one in one of the batches of six."""

        def __call__(self, waves):
            found = super().__call__(waves)
            if (
                len(waves) == 6
                and [len(w) for w in waves] == sorted(len(w) for w in waves)
                and waves[0].dtype in self.dtypes
            ):
                found[0].tensors[0][0] += 1
            return found

    class TurnsInSingle(Turns):
        dtypes = (torch.float32,)

    class TurnsInBoth(Turns):
        dtypes = (torch.float32, torch.float64)

    single = finding(report_of(with_codes(TurnsInSingle)()), "tap codes: batches")
    assert single.verdict == "ok"
    assert 0 < single.figures["float32"] <= 1e-3
    assert single.measured.startswith("float32: 1 of ")
    both = finding(report_of(with_codes(TurnsInBoth)()), "tap codes: batches")
    assert (both.verdict, both.figures["float32"]) == ("FAILED", single.figures["float32"])


def test_the_tap_that_everything_has_is_not_tried_twice():
    class NamesItsLayers(Good):
        taps = ("hidden", "first")  # and tap("hidden") is a KeyError

    report = report_of(NamesItsLayers())
    assert report.broken == ()
    assert finding(report, "taps").measured == "hidden, first"
    assert [f.promise for f in report.findings][-5:] == [f"tap first: {p.name}" for p in TAP_PROMISES]
    assert len(report.findings) == len(PROMISES) + 1 + 5


def test_truths_are_no_codes():
    class Truths(Codes):
        def __call__(self, waves):
            return [Layers((layers.tensors[0] > 3,)) for layers in super().__call__(waves)]

    found = finding(report_of(with_codes(Truths)()), "tap codes: facts")
    assert (found.verdict, found.measured) == ("FAILED", "layer 0: integers stated, torch.bool came out")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_computes_as_before_when_the_check_is_over(dtype):
    class Rounds(Good):
        """Computes in the dtype of its weights, and gives that of the waves."""

        def features(self, waves):
            weights = self.net.weight.dtype
            return [x.to(waves[0].dtype) for x in super().features([w.to(weights) for w in waves])]

        def tap(self, name):
            raise AssertionError(name)

    toy = Rounds().astype(dtype)
    toy.taps = ()
    report = report_of(toy)
    assert report.broken == (), str(report)
    assert finding(report, "taps").measured == "none"
    assert {p.dtype for p in toy.net.parameters()} == {dtype}


def test_what_is_not_claimed_is_not_asked_for():
    class Modest(Plain):
        exact_batches = False

        def __init__(self):
            super().__init__(linear())

    report = report_of(Modest())
    verdicts = {f.promise: f.verdict for f in report.findings}
    assert [n for n, v in verdicts.items() if v == "not claimed"] == ["batches", "padding", "weights_sha", "taps"]
    assert not report.broken
    assert report.broken == ()
    assert "float64" not in finding(report, "dtype and device").measured


def test_features_on_another_device_are_told():
    class Elsewhere(Good):
        def features(self, waves):
            return [x.to("meta") for x in super().features(waves)]

    found = finding(report_of(Elsewhere()), "dtype and device")
    assert (found.verdict, found.measured.partition(";")[0]) == ("FAILED", "float32 in, float32 on meta out")


def test_an_error_is_the_failure_of_its_promise_and_never_the_end():
    class Refuses(Good):
        """Everything that is padded, and with an exit."""

        def features(self, waves):
            if len({len(w) for w in waves}) > 1:
                raise SystemExit(3)
            return super().features(waves)

    report = report_of(Refuses())
    assert [f.promise for f in report.broken] == ["batches", "padding"]
    assert finding(report, "batches").measured.startswith("SystemExit: 3 (test_conformance.py, line ")


def test_no_wave_is_longer_than_it_hears():
    class HearsASecond(Good):
        max_samples = 16000
        heard = 0

        def features(self, waves):
            self.heard = max(self.heard, *(len(w) for w in waves))
            assert self.heard <= 16000
            return super().features(waves)

    toy = HearsASecond()
    assert report_of(toy).broken == ()
    assert toy.heard == 16000


def test_made_sounds_are_the_same_everywhere_and_as_loud_as_they_say():
    sounds, again = made_sounds(16000), made_sounds(16000)
    assert all(torch.equal(a.wave, b.wave) for a, b in zip(sounds, again, strict=True))
    loudness = [float(s.wave.double().square().mean().sqrt()) for s in sounds]
    assert loudness == pytest.approx([m[1] for m in MADE] + [0.0], rel=1e-3)
    assert all(float(s.wave.abs().max()) <= 1 and s.wave.dtype == torch.float32 for s in sounds)
    assert [len(s.wave) for s in sounds] == [4800, 11521, 17602, 26403, 36964, 14400]
    assert [len(s.wave) for s in made_sounds(8000)][:2] == [2400, 5761]
    spoken, first, size = sounds[3].wave, 1350, 400  # three or four periods where the voice is highest: 139 Hz
    alike = [
        float(torch.corrcoef(torch.stack((spoken[first:][:size], spoken[first + lag :][:size])))[0, 1])
        for lag in range(60, 200)
    ]
    assert max(alike) > 0.9
    assert 60 + alike.index(max(alike)) == pytest.approx(16000 / 139, abs=2)


def test_sounds_of_ones_own_are_used_and_named():
    noise = torch.randn(5000, generator=torch.Generator().manual_seed(3)) / 10
    report = check_upstream(Good(), sounds=[noise, torch.zeros(100)])
    assert (report.sounds, report.made) == (("wave 0", "wave 1"), False)
    assert report.caption.endswith("on cpu, with 2 recordings")
    with pytest.raises(UsageError, match="digital silence"):
        check_upstream(Good(), sounds=[torch.zeros(16000)])


def test_the_error_of_a_test_is_the_table():
    with pytest.raises(AssertionError) as caught:
        check_upstream(Trains())
    lines = str(caught.value).splitlines()
    assert lines[2].split() == [c for c in COLUMNS if c]
    (row,) = (line for line in lines if "FAILED" in line)
    assert row.startswith("eval mode")
    assert lines[-1] == "eval mode: call eval() on the whole model in load"
    assert check_upstream(Good()).broken == ()


def test_a_loaded_upstream_and_a_reference_are_checked_alike():
    given = {"plugins": [str(EXAMPLE)]}
    by_name = check_upstream("spectrum", **given)
    loaded = check_upstream(load_upstream("spectrum", **given))
    assert by_name.findings == loaded.findings
    assert by_name.upstream == loaded.upstream == "spectrum"
    with pytest.raises(UsageError, match="spektrum"):
        check_upstream("spektrum", **given)


def test_json_has_one_shape():
    said = report_of(HearsPadding()).as_json()
    assert list(said) == ["schema", "upstream", "brought_by", "device", "holds", "sounds", "findings", "versions"]
    assert (said["schema"], SCHEMA, said["holds"]) == (1, 1, False)
    assert said["sounds"]["kind"] == "made"
    assert len(said["sounds"]["names"]) == len(MADE) + 1
    assert {tuple(f) for f in said["findings"]} == {
        ("promise", "verdict", "measured", "limit", "on", "mend", "figures")
    }
    assert {"python", "superbench", "torch"} <= set(said["versions"])
    assert all(math.isfinite(v) for f in said["findings"] for v in f["figures"].values())


@pytest.mark.parametrize("name", ["fbank", "fbank_no_cmvn", "mfcc", "spectrum"])
def test_upstreams_of_the_house_keep_their_promises(name):
    assert check_upstream(name, plugins=[str(EXAMPLE)]).broken == ()


def test_real_speech_will_do(shared):
    with (shared / "data" / "speechocean762" / "manifest.sid.csv").open(encoding="utf-8", newline="") as stream:
        paths = [shared / "data" / "speechocean762" / row["path"] for row in csv.DictReader(stream)][:3]
    report = check_upstream("fbank_no_cmvn", sounds=paths)
    assert (report.made, report.sounds) == (False, tuple(str(p) for p in paths))
    assert report.broken == ()
    sounds = read_sounds(paths, rate=16000, resample=False)
    for toy, promise in ((HearsPadding, "padding"), (CentresInPlace, "input untouched")):
        assert [f.promise for f in report_of(toy(), sounds).broken] == [promise]
    with pytest.raises(DataError, match="--resample"):
        check_upstream("fbank_no_cmvn", sounds=[next((shared / "data" / "fsdd").rglob("*.wav"))])
