"""Where features come from while heads train: a store whose damage is mended, or the upstream itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from superbench.contracts import Layers, Provenance, Utterance
from superbench.errors import DamagedError
from superbench.features.examples import FeatureExamples
from superbench.features.extraction import LoadedUpstream
from superbench.features.reduction import Form
from superbench.features.sources import Stored, Streamed
from superbench.features.store import FeatureStore

POOLED, FRAMES = Form(name="pooled"), Form(name="frames")
LAYERS, WIDTH = 3, 4
KEY = "ab" * 32


def utterance(name):
    return Utterance(
        id=name,
        path=Path("u.wav"),
        start=0,
        stop=1000,
        native_rate=16000,
        samples=1000,
        rate=16000,
        content=name,
        split="train",
        fold="",
        speaker="",
        labels={},
        reference="",
    )


class Ones:
    """An upstream of one frame per 100 samples; it counts the waves that it gets."""

    sample_rate, strides, widths = 16000, (100,) * LAYERS, (WIDTH,) * LAYERS

    def __init__(self):
        self.heard = 0

    def num_frames(self, samples):
        return samples // 100

    def __call__(self, waves):
        self.heard += len(waves)
        return [
            Layers(tuple(w[: len(w) // 100 * 100].view(-1, 100)[:, :WIDTH] * (n + 1) for n in range(LAYERS)))
            for w in waves
        ]


def streamed(upstream, form=FRAMES, **more):
    loaded = LoadedUpstream(name="ones", upstream=upstream, provenance=Provenance(plugin="test"), device="cpu")
    return Streamed(loaded, form, read, **more)


def read(utterance):
    number = int(hashlib.sha256(utterance.content.encode()).hexdigest()[:8], 16)
    return torch.randn(utterance.samples, generator=torch.Generator().manual_seed(number))


NAMES = [utterance(name) for name in "abc"]
DTYPES = ["float32", "float16", "bfloat16", "int8"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_streamed_is_what_a_store_gives_back_to_the_bit(dtype, tmp_path):
    form = Form(name="frames", dtype=dtype)
    plain = dict(streamed(Ones()).fetch(NAMES))
    store = FeatureStore(tmp_path, KEY, "frames", dtype)
    store.write(plain)
    found = dict(streamed(Ones(), form).fetch(NAMES))
    for name in "abc":
        (stored,), (now,) = store.read(name), found[name]
        assert now.dtype == stored.dtype == torch.float32
        assert torch.equal(now, stored)
        assert torch.equal(now, plain[name][0]) is (dtype == "float32")


def test_what_is_streamed_is_counted_each_time():
    upstream = Ones()
    source = streamed(upstream)
    for _ in range(2):
        assert [content for content, _ in source.fetch(NAMES)] == ["a", "b", "c"]
    assert list(source.fetch([])) == []
    assert (source.encoded, upstream.heard) == (6, 6)


def test_what_is_stored_already_is_not_streamed(tmp_path):
    store = FeatureStore(tmp_path, KEY, "frames")
    store.write({"b": [torch.full((LAYERS, 10, WIDTH), 7.0)]})
    source = streamed(Ones(), store=store, kept=frozenset("b"))
    found = dict(source.fetch(NAMES))
    assert set(found) == set("abc")
    assert torch.equal(found["b"][0], torch.full((LAYERS, 10, WIDTH), 7.0))
    assert (source.encoded, source.kept) == (2, {"b"})


def damage(store, segment):
    """Another last byte in the file of a segment."""
    path = store.folder / store._index.where[segment]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_what_is_stored_and_damaged_is_streamed(tmp_path):
    expected = dict(streamed(Ones()).fetch(NAMES))
    store = FeatureStore(tmp_path, KEY, "frames")
    store.write({"b": expected["b"]})
    damage(store, "b")
    source = streamed(Ones(), store=store, kept=frozenset("b"))
    for encoded in (3, 6):
        found = dict(source.fetch(NAMES))
        assert all(torch.equal(found[name][0], expected[name][0]) for name in "abc")
        assert (source.encoded, source.kept) == (encoded, set())
    assert len(store.warnings) == 1


def test_what_is_damaged_in_a_store_is_mended_and_read_again(tmp_path):
    store = FeatureStore(tmp_path, KEY, "pooled")
    entries = {c: [torch.full((LAYERS, WIDTH), float(ord(c)))] for c in "abc"}
    store.write(entries)
    damage(store, "c")
    mended = []

    def mend():
        mended.append(store.missing(entries))
        store.write(entries)

    examples = FeatureExamples(Stored(store, mend), NAMES, [(0,)] * 3, form=POOLED, lengths=[1] * 3, sizes=[48] * 3)
    assert torch.equal(examples.batch([0, 1, 2])[0], torch.stack([entries[c][0] for c in "abc"]))
    assert mended == [["a", "b", "c"]]


def test_what_cannot_be_mended_is_an_error(tmp_path):
    store = FeatureStore(tmp_path, KEY, "pooled")
    with pytest.raises(DamagedError, match="the features of segment a are not in the store"):
        list(Stored(store, lambda: None).fetch(NAMES))
