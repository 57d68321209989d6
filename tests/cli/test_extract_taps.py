"""`superbench extract --tap`: what else an upstream can say beside its layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superbench.api import load_upstream

# Layers of two numbers per 10 ms; logits of three per 20 ms; codes, two per 10 ms; a pair of code books unlike in size.
TAPPED = """
    from superbench.plugin import Layers, UpstreamSpec, hookimpl

    def load(options, device):
        import torch

        class Mine:
            sample_rate, exact_batches = 16000, True
            taps = ("logits", "codes", "books", "broken")

            def __init__(self, name="hidden", hop=160, widths=(2, 2), integers=False):
                self.name, self.hop, self.widths, self.integers = name, hop, widths, integers
                self.strides, self.dtype = (hop,) * len(widths), torch.float32

            def tap(self, name):
                if name == "logits":
                    return Mine(name, hop=320, widths=(3,))
                if name == "codes":
                    return Mine(name, widths=(2,), integers=True)
                if name == "books":
                    return Mine(name, widths=(1, 2), integers=True)
                return Mine(name, widths=(2,))

            def astype(self, dtype):
                self.dtype = dtype
                return self

            def num_frames(self, samples):
                return samples // self.hop

            def __call__(self, waves):
                return [self.layers(w[: len(w) // self.hop * self.hop].view(-1, self.hop)) for w in waves]

            def layers(self, x):
                loud = x.to(self.dtype).abs().mean(1, keepdim=True)
                codes = (1000 * loud).long()
                return Layers({
                    "hidden": lambda: (loud.expand(-1, 2), loud.expand(-1, 2) ** 2),
                    "logits": lambda: (loud.expand(-1, 3),),
                    "codes": lambda: (codes.expand(-1, 2),),
                    "books": lambda: (codes.int(), codes.expand(-1, 2)),
                    "broken": lambda: (codes.expand(-1, 2),),
                }[self.name]())

        return Mine()

    @hookimpl
    def superbench_upstreams():
        yield UpstreamSpec(name="mine", load=load)
"""


@pytest.fixture
def extract(superbench, plugin, tones, tmp_path):
    """Run `extract` on two sounds of 4000 and 4097 samples; the archive, and how the command ended."""
    file, out = plugin(TAPPED), tmp_path / "features.npz"
    sounds = [tones.with_name("dev00.wav"), tones.with_name("dev01.wav")]

    def run(*arguments):
        ended = superbench("extract", "-p", file, "-u", "mine", "--out", out, "--json", *arguments, *sounds)
        return (dict(np.load(out)) if ended.code == 0 else None), ended

    return run


def test_without_a_tap_it_is_the_layers(extract):
    arrays, ended = extract()
    assert (ended.code, ended.json["tap"]) == (0, "hidden")
    assert ended.json["arrays"] == {"dev00": [2, 25, 2], "dev01": [2, 25, 2]}
    assert ended.json["dtypes"] == {"dev00": "float32", "dev01": "float32"}
    named, _ = extract("--tap", "hidden")
    assert all(np.array_equal(named[stem], arrays[stem]) for stem in arrays)


def test_a_tap_has_its_own_rate_width_and_dtype(extract):
    arrays, ended = extract("--tap", "logits", "--dtype", "float64", "--batch-size", 2)
    assert ended.code == 0, ended.err
    assert (ended.json["tap"], ended.json["dtype"]) == ("logits", "float64")
    assert ended.json["arrays"] == {"dev00": [1, 12, 3], "dev01": [1, 12, 3]}
    assert ended.json["dtypes"] == {"dev00": "float64", "dev01": "float64"}
    layers, _ = extract("--dtype", "float64")
    pairs = layers["dev00"][0, :24, 0].reshape(12, 2).mean(1)
    np.testing.assert_allclose(arrays["dev00"][0, :, 0], pairs, rtol=1e-12)


def test_codes_are_written_as_integers(extract):
    arrays, ended = extract("--tap", "codes")
    assert ended.code == 0, ended.err
    assert ended.json["arrays"] == {"dev00": [1, 25, 2], "dev01": [1, 25, 2]}
    assert ended.json["dtypes"] == {"dev00": "int64", "dev01": "int64"}
    layers, _ = extract()
    assert np.array_equal(arrays["dev00"][0], (1000 * layers["dev00"][0]).astype("int64"))


def test_code_books_unlike_in_size_are_one_array_each(extract):
    arrays, ended = extract("--tap", "books")
    assert ended.code == 0, ended.err
    assert {name: (a.shape, str(a.dtype)) for name, a in arrays.items()} == {
        "dev00/0": ((25, 1), "int32"),
        "dev00/1": ((25, 2), "int64"),
        "dev01/0": ((25, 1), "int32"),
        "dev01/1": ((25, 2), "int64"),
    }


def test_an_unknown_tap_is_refused_with_what_there_is(extract):
    _, ended = extract("--tap", "logit")
    assert ended.code == 2
    assert "has no tap 'logit'; it has hidden, logits, codes, books, broken" in ended.err
    assert "did you mean 'logits'?" in ended.err


def test_an_upstream_without_taps_has_its_layers_alone(superbench, tones, tmp_path):
    sound = tones.with_name("dev00.wav")
    ended = superbench("extract", "-u", "fbank", "--tap", "codes", "--out", tmp_path / "x.npz", sound)
    assert ended.code == 2
    assert "has no tap 'codes'; it has hidden" in ended.err
    assert not (tmp_path / "x.npz").exists()


def test_integers_that_are_not_stated_are_no_features(extract):
    _, ended = extract("--tap", "broken")
    assert ended.code == 4
    assert "tap 'broken' of upstream 'mine'" in ended.err
    assert "expected floating point, got torch.int64" in ended.err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('("logits", "codes", "books", "broken")', '"logits"', "states taps = 'logits'"),
        ("return Mine(name, hop=320, widths=(3,))", "return None", "tap 'logits' of upstream 'mine'"),
        ("def tap(", "def tip(", "AttributeError"),
    ],
    ids=["one name", "nothing behind it", "no door to it"],
)
def test_taps_that_do_not_hold_are_the_plugins_fault(superbench, plugin, tones, tmp_path, old, new, words):
    assert old in TAPPED
    file, sound = plugin(TAPPED.replace(old, new)), tones.with_name("dev00.wav")
    ended = superbench("extract", "-p", file, "-u", "mine", "--tap", "logits", "--out", tmp_path / "x.npz", sound)
    assert ended.code == 4
    assert words in ended.err


def test_a_tap_from_python_has_a_key_of_its_own(plugin):
    file = plugin(TAPPED)
    layers = load_upstream("mine", plugins=[str(file)])
    codes = load_upstream("mine", tap="codes", plugins=[str(file)])
    assert (layers.tap, codes.tap) == ("hidden", "codes")
    assert (layers.integers, codes.integers) == (False, True)
    assert len({layers.key, codes.key}) == 2
    (found,) = codes([torch.ones(320)])
    assert found.tensors[0].tolist() == [[1000, 1000]] * 2


@pytest.mark.parametrize("name", ["dev01.wav", "notes", "weights.safetensors", "folder.npz"])
def test_nothing_but_an_archive_is_written_over(superbench, tones, tmp_path, name):
    sound = tones.with_name("dev00.wav")
    (tmp_path / "folder.npz").mkdir()
    ended = superbench("extract", "-u", "fbank", "--out", tmp_path / name, sound)
    assert ended.code == 2
    assert "ends in .npz" in ended.err
    assert [p.name for p in tmp_path.iterdir()] == ["folder.npz"]


def test_an_archive_that_cannot_be_written_leaves_nothing(superbench, tones, tmp_path):
    ended = superbench("extract", "-u", "fbank", "--out", tmp_path / "no" / "x.npz", tones.with_name("dev00.wav"))
    assert ended.code == 5
    assert list(tmp_path.iterdir()) == []
