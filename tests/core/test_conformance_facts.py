"""What is stated wrongly is one row that says what is expected, and what is broken is told by its own name."""

from __future__ import annotations

import pytest
import torch
from broken_upstreams import HOP, Codes, FloatCodes, Good, HearsPadding, SortsByLength, finding, linear, report_of

from superbench.conformance import PROMISES
from superbench.plugin import Layers

NAMES = [promise.name for promise in PROMISES]
LENGTHS = "num_frames(samples) must return a whole number (int), or a tuple of one per layer"


@pytest.mark.parametrize(
    ("stated", "measured", "mend"),
    [
        ({"strides": 160}, "strides is 160 (int)", "strides must be a tuple with one number per layer"),
        ({"widths": torch.ones(2)}, "widths is a Tensor", "widths must be a tuple with one number per layer"),
        ({"widths": "88"}, "widths is '88' (str)", "widths must be a tuple with one number per layer"),
        ({"strides": (0, HOP)}, "strides is (0 (int), 320 (int))", "strides must be whole numbers above 0"),
        ({"widths": (8, 8.0)}, "widths is (8 (int), 8.0 (float))", "widths must be whole numbers above 0"),
        ({"sample_rate": "16k"}, "sample_rate is '16k' (str)", "sample_rate must be a whole number of Hz above 0"),
        ({"sample_rate": True}, "sample_rate is True", "sample_rate must be a whole number of Hz above 0"),
        ({"sample_rate": -1}, "sample_rate is -1 (int)", "sample_rate must be a whole number of Hz above 0"),
        ({"max_samples": "lots"}, "max_samples is 'lots' (str)", "max_samples must be a whole number of samples"),
        ({"exact_batches": "yes"}, "exact_batches is 'yes' (str)", "exact_batches must be True or False"),
        ({"integers": 1}, "integers is 1 (int)", "integers must be True or False"),
        ({"astype": None}, "astype is None", "astype must be a method"),
        ({"num_frames": 50}, "num_frames is 50 (int)", "num_frames must be a method"),
        ({"num_frames": lambda samples: samples / HOP}, "num_frames(1) gives 0.003125 (float)", LENGTHS),
        ({"num_frames": lambda samples: None}, "num_frames(1) gives None", LENGTHS),
        (
            {"num_frames": lambda samples: 0},
            "num_frames gives no frame for any length up to 160000 samples",
            "num_frames(samples) must say how many frames come out",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_facts_of_the_wrong_kind_are_one_row_and_the_rest_waits(stated, measured, mend):
    toy = Good()
    vars(toy).update(stated)
    report = report_of(toy)
    (broken,) = report.broken
    assert (broken.promise, broken.measured) == ("facts", measured)
    assert broken.mend.startswith(mend)
    assert [f.promise for f in report.findings] == [*NAMES, "taps"]
    assert {f.verdict for f in report.findings[1:]} == {"not tried"}


def test_what_is_no_upstream_is_one_row_too():
    for nothing, measured in (
        (None, "load returned None"),
        (object(), "it does not state sample_rate, strides, widths, num_frames; an object cannot be called"),
    ):
        (broken,) = report_of(nothing).broken
        assert (broken.promise, broken.measured) == ("facts", measured)

    class GivesNoTap(Good):
        def tap(self, name):
            return None if name == "codes" else super().tap(name)

    report = report_of(GivesNoTap())
    assert [(f.promise, f.measured) for f in report.broken] == [("tap codes: facts", "tap returned None")]
    assert finding(report, "tap codes: batches").verdict == "not tried"
    assert finding(report, "tap first: batches").verdict == "ok"


def test_a_length_rule_that_fails_is_told():
    class Fails(Good):
        def num_frames(self, samples):
            raise ZeroDivisionError("no stride")

    (broken,) = report_of(Fails()).broken
    assert broken.promise == "facts"
    assert broken.measured.startswith("ZeroDivisionError: no stride (test_conformance_facts.py, line ")


def test_results_in_another_order_and_leaks_are_told_apart():
    order = report_of(SortsByLength())
    assert {f.mend.partition(":")[0] for f in order.broken} == {"results come in the order of the waves"}
    leak = finding(report_of(HearsPadding()), "padding")
    assert leak.mend.startswith("padding and neighbours must not leak")


def test_calls_that_fail_and_layers_that_lack_are_no_wrong_counts():
    class Fails(Good):
        exact_batches = False

        def features(self, waves):
            if len(waves[0]) == 16001:
                raise ValueError("odd")
            return super().features(waves)

    found = finding(report_of(Fails()), "frame counts")
    assert found.measured.partition(" (test_")[0].endswith(
        "first 16001 samples: 50 stated, the call raised ValueError: odd"
    )
    assert found.mend == "mend the error of these calls, or have num_frames say 0 for a length that is refused"

    class Lacks(Good):
        def __call__(self, waves):
            return [Layers(layers.tensors[:1]) for layers in super().__call__(waves)]

    report = report_of(Lacks())
    assert [f.promise for f in report.broken] == ["facts", "frame counts"]
    assert finding(report, "facts").measured == "2 layers stated, 1 came out"
    assert finding(report, "frame counts").measured.endswith("first 320 samples: 2 layers stated, 1 came out")
    assert finding(report, "frame counts").mend.startswith("return one tensor per stride from each call")


def test_codes_and_features_are_told_apart():
    def coded(integers_stated, kind=Codes):
        class Coded(kind):
            integers = integers_stated

        return report_of(Coded(linear()))

    assert coded(True).broken == ()
    for report in (coded(False), coded(True, FloatCodes)):
        assert [f.promise for f in report.broken] == ["facts", "dtype and device"]
        assert all("integers = True" in f.mend for f in report.broken)


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (lambda found: None, "the call returned None, no list of Layers"),
        (lambda found: found[0], "the call returned a Layers, no list of Layers"),
        (lambda found: found[0].tensors[0], "the call returned a Tensor, no list of Layers"),
        (lambda found: [layers.tensors for layers in found], "a result is a tuple, no Layers of tensors"),
        (lambda found: [Layers(layers.tensors[0]) for layers in found], "a result is Layers of a Tensor, without a"),
        (
            lambda found: [Layers((x.tensors[0].numpy(),)) for x in found],
            "a result is Layers with a ndarray, no",
        ),
    ],
)
def test_what_is_no_layers_is_told_in_a_line(result, word):
    class Odd(Good):
        def __call__(self, waves):
            return result(super().__call__(waves))

    report = report_of(Odd())
    assert finding(report, "facts").measured.startswith(f"ContractError: {word}")
    assert finding(report, "frame counts").mend == finding(report, "facts").mend
    assert not any("\n" in cell for row in report.rows for cell in row)
