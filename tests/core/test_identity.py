"""The key of an upstream: every byte that decides its features is in it, and no name or place is."""

from __future__ import annotations

import functools
import textwrap

import pytest
import torch

from superbench.features import batching, identity
from superbench.features.identity import file_sha, module_sha
from superbench.pipeline.opening import open_upstream
from superbench.registry import Registry

# The weights stand in a file; `scale` is an option; what `load` does is the source.
PLUGIN = """
    from dataclasses import dataclass
    from superbench.plugin import Layers, UpstreamSpec, hookimpl

    @dataclass(frozen=True)
    class Options:
        weights: str = ""
        scale: float = 1.0
        prompt: str = ""

    def load(options, device):
        import torch

        class Mine:
            sample_rate, strides, widths = 16000, (160,), (1,)

            def __init__(self):
                self.net = torch.nn.Linear(160, 1)
                with torch.no_grad():
                    self.net.weight.fill_(1.0)
                    self.net.bias.fill_(0.5)

            def num_frames(self, samples):
                return samples // 160

            def __call__(self, waves):
                return [Layers((self.net(w[: len(w) // 160 * 160].view(-1, 160)) * options.scale,)) for w in waves]

        return Mine()

    @hookimpl
    def superbench_upstreams():
        yield UpstreamSpec(name="mine", load=load, options=Options)
"""


@pytest.fixture
def key(tmp_path):
    def of(reference="mine", *, old="", new="", name="mine.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        assert old in PLUGIN
        path.write_text(textwrap.dedent(PLUGIN.replace(old, new) if old else PLUGIN))
        return open_upstream(reference, Registry.load([str(path)], entry_points=False), "cpu").key

    return of


def test_the_same_is_the_same_wherever_it_lies_and_whatever_it_is_called(key, tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.pt").write_bytes(b"weights")
    keys = {
        key(f"mine:weights={tmp_path / 'here/here.pt'}"),
        key(f"mine:weights={tmp_path / 'there/there.pt'}"),
        key(f"mine:weights={tmp_path / 'there/there.pt'}", name="moved/other.py"),
        key(f"mine:scale=1.0,weights={tmp_path / 'here/here.pt'}"),
    }
    assert len(keys) == 1


def test_every_change_gives_another_key(key, tmp_path, monkeypatch):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    keys = [key(f"mine:weights={weights}"), key(), key("mine:scale=2")]
    weights.write_bytes(b"weightt")
    keys.append(key(f"mine:weights={weights}"))
    keys.append(key(old="fill_(1.0)", new="fill_(1.0000001)"))
    keys.append(key(old="* options.scale", new="* (options.scale + 0)"))
    assert key(old="* options.scale", new="*  options.scale") == keys[1]
    monkeypatch.setattr(identity, "SCHEMA", identity.SCHEMA + 1)
    keys.append(key())
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_the_rule_for_batches_is_in_the_key_of_what_comes_in_batches(key, monkeypatch):
    widths = "(160,), (1,)"
    claims = {"old": widths, "new": f"{widths}; exact_batches = True"}
    states = {"old": widths, "new": f"{widths}; exact_batches, batch_samples = True, 16000"}
    before = (key(), key(**claims), key(**states))
    monkeypatch.setattr(batching, "SECONDS", {"cpu": 8.0})
    after = (key(), key(**claims), key(**states))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    assert len({*before, *after}) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [("load", "other"), ("functools.partial(load, extra=1)", "functools.partial(load, extra=2)")],
    ids=["two functions of one file", "two partial functions"],
)
def test_two_upstreams_of_one_file_with_the_same_weights_are_not_the_same(first, second, tmp_path):
    source = PLUGIN.replace("load=load", f"load={first}").replace("(options, device):", "(options, device, extra=1):")
    source = source.replace("    from dataclasses", "    import functools\n    from dataclasses")
    source += f"""        yield UpstreamSpec(name="second", load={second}, options=Options)

    def other(options, device):
        return load(options, device)
"""
    path = tmp_path / "both.py"
    path.write_text(textwrap.dedent(source))
    registry = Registry.load([str(path)], entry_points=False)
    assert open_upstream("mine", registry, "cpu").key != open_upstream("second", registry, "cpu").key


def test_an_option_that_is_long_text_is_no_path(key):
    assert key(f"mine:prompt={'long ' * 200}") != key()


def test_hashes_of_files_folders_and_modules(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / "a.bin").write_bytes(b"a")
    assert file_sha(tmp_path / "one") == file_sha(tmp_path / "two")
    (tmp_path / "two" / "sub" / "a.bin").rename(tmp_path / "two" / "sub" / "b.bin")
    assert file_sha(tmp_path / "one") != file_sha(tmp_path / "two")
    make = functools.partial(torch.nn.utils.skip_init, torch.nn.Linear, 3, 2)
    one, two = make(), make()
    two.load_state_dict(one.state_dict())
    assert module_sha(one) == module_sha(two)
    with torch.no_grad():
        two.bias.view(torch.int32)[0] ^= 1  # the least bit
    assert module_sha(one) != module_sha(two)
