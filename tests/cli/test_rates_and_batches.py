"""What an upstream says of its rate and its batches is taken at its word."""

from __future__ import annotations

import pytest

UPSTREAM = """
    from superbench.plugin import Layers, UpstreamSpec, hookimpl

    def load(options, device):
        class Mine:
            sample_rate, strides, widths = {rate}, (160,), (160,)
            {claim}
            def num_frames(self, samples):
                return samples // 160
            def __call__(self, waves):
                return [Layers((w[: len(w) // 160 * 160].reshape(-1, 160),)) for w in waves]
        return Mine()

    @hookimpl
    def superbench_upstreams():
        yield UpstreamSpec(name="mine", load=load)
"""


def test_an_upstream_of_another_rate_is_refused_by_a_task_and_served_by_extract(superbench, plugin, tones, tmp_path):
    file = plugin(UPSTREAM.format(rate=8000, claim=""))
    ended = superbench("run", "-p", file, "-u", "mine", "-t", "ks", "--data", tones, "--steps", 2)
    assert ended.code == 4
    assert "wants 8000 Hz, task ks is fed at 16000 Hz" in ended.err
    sound = next(tones.parent.glob("*.wav"))
    ended = superbench("extract", "-p", file, "-u", "mine", "--resample", "--out", tmp_path / "f.npz", sound, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["arrays"][sound.stem][2] == 160


@pytest.mark.parametrize(("claim", "code"), [("", 2), ("exact_batches = True", 0)], ids=["no claim", "claimed"])
def test_waves_go_in_batches_only_where_that_is_claimed_not_to_matter(superbench, plugin, tones, tmp_path, claim, code):
    file = plugin(UPSTREAM.format(rate=16000, claim=claim))
    sounds = sorted(tones.parent.glob("*.wav"))[:3]
    ended = superbench("extract", "-p", file, "-u", "mine", "--batch-size", 3, "--out", tmp_path / "f.npz", *sounds)
    assert ended.code == code, ended.err
    assert ("exact_batches" in ended.err) == (code == 2)
