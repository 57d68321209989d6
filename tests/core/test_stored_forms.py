"""What a stored number costs and loses: exact sizes, proven bounds of rounding, and refusal in place of infinity."""

from __future__ import annotations

import pytest
import torch

from superbench.errors import NumericalError
from superbench.features import stored_forms
from superbench.features.shards import read_header
from superbench.features.store import FeatureStore
from superbench.features.store_catalog import place_of
from superbench.features.stored_forms import NUMBERS, MeasuredCost, bytes_of, folder_name, told_cost

KEY = "ab" * 32


def stored(root, tensors, dtype, form="frames"):
    FeatureStore(root, KEY, form, dtype).write({"a": tensors})
    return FeatureStore(root, KEY, form, dtype).read("a")


def features(frames=50, width=40):
    generator = torch.Generator().manual_seed(0)
    x_LTD = torch.randn(3, frames, width, generator=generator)
    return x_LTD * torch.logspace(-3, 3, width)  # dimensions of very different size, as encoders have them


def test_every_form_has_a_folder_of_its_own():
    assert folder_name("pooled") == "pooled"
    assert folder_name("frames", "float32") == "frames"
    assert folder_name("pooled", "float64") == "pooled-float64"
    assert folder_name("frames", "int8") == "frames-int8"
    for form, dtype in (("pooled", "int8"), ("frames", "float8"), ("sound", "float32")):
        with pytest.raises(AssertionError):
            folder_name(form, dtype)


def test_float32_and_float64_come_back_as_they_were(tmp_path):
    x_LTD = features()
    (found,) = stored(tmp_path, [x_LTD], "float32")
    assert found.dtype == torch.float32
    assert torch.equal(found, x_LTD)
    wide = x_LTD.double() / 3
    for form in ("frames", "pooled"):
        (found,) = stored(tmp_path, [wide], "float64", form)
        assert found.dtype == torch.float64
        assert torch.equal(found, wide)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_a_lossy_form_loses_no_more_than_it_says(dtype, tmp_path):
    x_LTD = features()
    (found,) = stored(tmp_path, [x_LTD], dtype)
    assert found.dtype == torch.float32
    number = NUMBERS[dtype]
    if number.of == "value":
        scale = x_LTD.double().abs().clamp(min=torch.finfo(getattr(torch, dtype)).tiny)
    else:
        scale = x_LTD.double().abs().amax(dim=1, keepdim=True)
    worst = float(((found.double() - x_LTD.double()).abs() / scale).max())
    assert number.rounding / 2 < worst <= number.rounding * (1 + 1e-4)


def test_the_bounds_are_those_of_the_number_formats():
    assert (NUMBERS["float16"].rounding, NUMBERS["float16"].largest) == (2**-11, torch.finfo(torch.float16).max)
    assert (NUMBERS["bfloat16"].rounding, NUMBERS["bfloat16"].largest) == (2**-8, torch.finfo(torch.bfloat16).max)
    assert (NUMBERS["int8"].rounding, NUMBERS["float32"].rounding) == (1 / 254, 0.0)


def test_int8_keeps_zeros_signs_and_the_largest_value_of_each_dimension(tmp_path):
    x_LTD = torch.tensor(
        [[[0.0, 1.0, -2.0, 1e-3], [0.0, -1.0, 4.0, -5e-4]], [[0.0, 0.5, 3e4, 0.0], [1.0, 0.25, 0.0, 0.0]]]
    )
    (found,) = stored(tmp_path, [x_LTD], "int8")
    assert torch.equal(found == 0, x_LTD == 0)
    assert torch.equal(found.sign(), x_LTD.sign())
    assert torch.allclose(found.abs().amax(dim=1), x_LTD.abs().amax(dim=1), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("dtype", "value", "words"),
    [
        ("float16", 65520.0, (r"65520: it cannot be stored as float16, which holds no more than 65504", "bfloat16 or")),
        ("float16", -1e6, ("1e\\+06", "bfloat16 or float32")),
        ("bfloat16", 3.4e38, ("3.4e\\+38", "float32")),
        ("int8", float("inf"), ("inf", "float32")),
        ("int8", float("nan"), ("nan", "float32")),
    ],
)
def test_what_a_form_cannot_hold_is_refused_and_nothing_is_written(dtype, value, words, tmp_path):
    store = FeatureStore(tmp_path, KEY, "frames", dtype)
    x_LTD = torch.ones(2, 3, 4)
    x_LTD[1, 2, 3] = value
    with pytest.raises(NumericalError) as caught:
        store.write({"fine": [torch.ones(2, 3, 4)], "broken": [x_LTD]})
    assert "segment broken" in str(caught.value)
    for word in words:
        assert caught.match(word)
    assert not list(store.folder.glob("*.safetensors"))


def test_the_largest_number_is_held(tmp_path):
    (found,) = stored(tmp_path, [torch.full((1, 1, 1), 65504.0)], "float16")
    assert found.item() == 65504.0


@pytest.mark.parametrize("dtype", list(NUMBERS))
@pytest.mark.parametrize("stacked", [True, False])
def test_bytes_are_counted_exactly(dtype, stacked, tmp_path):
    frames, widths = ((5, 5, 5), (4, 4, 4)) if stacked else ((5, 10, 3), (4, 2, 7))
    tensors = [torch.randn(f, w) for f, w in zip(frames, widths, strict=True)]
    store = FeatureStore(tmp_path, KEY, "frames", dtype)
    store.write({"a": [torch.stack(tensors)] if stacked else tensors, "b": [torch.randn(1, 1)]})
    (shard,) = store.folder.glob("*.safetensors")
    header = read_header(shard, place_of(store.folder))
    counted = bytes_of(frames, widths, "frames", dtype) + bytes_of((1,), (1,), "frames", dtype)
    assert header.size - header.begin == counted
    assert [t.shape for t in store.read("a")] == ([(3, 5, 4)] if stacked else [(5, 4), (10, 2), (3, 7)])


def test_bytes_of_time_means():
    assert bytes_of((5, 10), (4, 2), "pooled") == 4 * 6
    assert bytes_of((5, 10), (4, 2), "pooled", "float64") == 8 * 6
    assert bytes_of((5, 10), (4, 2), "frames", "int8") == 40 + 4 * 6


def test_rows_of_a_larger_tensor_are_stored_as_they_are(tmp_path):
    x_TLD = torch.randn(5, 3, 4)
    for dtype in ("float32", "int8"):
        (found,) = stored(tmp_path, [x_TLD.transpose(0, 1)], dtype)
        assert found.shape == (3, 5, 4)
        assert torch.allclose(found, x_TLD.transpose(0, 1), atol=0.0 if dtype == "float32" else 0.02)


def test_only_lossy_forms_have_a_cost():
    assert [f for f in ("pooled", "frames", "pooled-float64", "frames-float64") if told_cost(f, "pr")] == []
    assert {n for n, number in NUMBERS.items() if number.cost} == {
        n for n, number in NUMBERS.items() if number.rounding
    }


def test_a_cost_is_told_with_what_was_measured(monkeypatch):
    def measured(task, metric, seeds, int8):
        return MeasuredCost(task=task, metric=metric, features="f", seeds=seeds, differences={"int8": int8})

    monkeypatch.setattr(
        stored_forms, "MEASURED", (measured("a", "per", 2.0, (-0.34, 1.06)), measured("b", "wer", 0.5, (0.0, 0.0)))
    )
    opening = (
        "a quarter of the bytes; rounding of 1/254 of each dimension's largest value; measured on real recordings, "
        "points of test score less float32's, mean ± SD over 5 seeds (SD of the seeds alone): "
    )
    of_a, of_b = "a per with f -0.3 ± 1.1 (2.0)", "b wer with f +0.0 ± 0.0 (0.5)"
    assert told_cost("frames-int8", "a") == opening + of_a
    assert told_cost("frames-int8", "b") == opening + of_b
    assert told_cost("frames-int8", "another") == f"{opening}{of_a}, {of_b}"
