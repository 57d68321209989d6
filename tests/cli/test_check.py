"""`superbench check`: a table or JSON on stdout, exit code 0 where every promise holds and 4 where one does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from superbench.cli.main import build_cli
from superbench.registry import Registry

WING = Path(__file__).parents[2] / "upstreams"
EXAMPLE = WING / "example.py"
NOISY = """
    from superbench.plugin import Layers, UpstreamSpec, hookimpl

    def load(options, device):
        import torch

        class Noisy:
            sample_rate, strides, widths = 16000, (160,), (201,)

            def num_frames(self, samples):
                return max(0, (samples - 400) // 160 + 1)

            def __call__(self, waves):
                print("listening")
                x = [torch.fft.rfft(w.unfold(0, 400, 160)).abs().log1p() for w in waves]
                return [Layers((f + torch.rand(1),)) for f in x]

        return Noisy()

    @hookimpl
    def superbench_upstreams():
        yield UpstreamSpec(name="noisy", load=load)
"""


def test_a_good_upstream_exits_with_0(superbench):
    ended = superbench("check", "-p", EXAMPLE, "--upstream", "spectrum", "-q")
    assert (ended.code, ended.err) == (0, "")
    title, _, columns, _, *rows = ended.out.rstrip("\n").splitlines()
    assert title == f"spectrum (example ({EXAMPLE})) on cpu, with 6 made, speech-like sounds"
    assert columns.split() == ["promise", "measured", "limit", "on"]
    assert len([row for row in rows if row.strip()]) == 14
    assert ("FAILED" in ended.out, "not claimed" in ended.out) == (False, True)


def test_a_broken_promise_exits_with_4_and_the_table_is_there(superbench, plugin):
    ended = superbench("check", "-p", plugin(NOISY), "-u", "noisy")
    assert ended.code == 4
    broken = re.findall(r"^ +(.+?) +FAILED", ended.out, flags=re.MULTILINE)
    assert broken == ["determinism", "global state"]
    assert ended.out.rstrip().splitlines()[-1].startswith("global state: draw random numbers from a torch.Generator")
    assert "breaks 2 of its promises: determinism, global state" in ended.err
    assert ("listening" in ended.out, "listening" in ended.err, "Traceback" in ended.err) == (False, True, False)


def test_facts_of_the_wrong_kind_are_one_failing_row(superbench, plugin):
    ended = superbench("check", "-p", plugin(NOISY.replace("(160,)", "160")), "-u", "noisy")
    assert ended.code == 4
    assert re.findall(r"^ *(.+?) +FAILED +(.+?)  ", ended.out, flags=re.MULTILINE) == [
        ("facts", "strides is 160 (int)")
    ]
    assert ended.out.rstrip().endswith("facts: strides must be a tuple with one number per layer")
    assert ("not tried" in ended.out, "TypeError" in ended.out) == (True, False)


def test_json_says_the_same(superbench, plugin):
    ended = superbench("check", "-p", plugin(NOISY), "-u", "noisy", "--json")
    assert (ended.code, ended.json["schema"], ended.json["holds"]) == (4, 1, False)
    verdicts = {f["promise"]: f["verdict"] for f in ended.json["findings"]}
    assert verdicts["determinism"] == verdicts["global state"] == "FAILED"
    assert (verdicts["facts"], verdicts["batches"]) == ("ok", "not claimed")
    (determinism,) = (f for f in ended.json["findings"] if f["promise"] == "determinism")
    assert 0 < determinism["figures"]["difference"] < 1
    assert superbench("check", "-p", EXAMPLE, "-u", "spectrum", "--json").json["holds"] is True


def test_sounds_are_read_and_named(superbench, tones):
    files = [tones.with_name(name) for name in ("train00.wav", "train02.wav")]
    ended = superbench("check", "-u", "fbank_no_cmvn", *files, "--json")
    assert ended.code == 0, ended.out
    assert ended.json["sounds"] == {"kind": "recorded", "names": [str(f) for f in files]}


def test_other_rates_want_resample(superbench, tmp_path, plugin):
    from sounds import make_tones

    file = make_tones(tmp_path / "slow", {"train": 1, "dev": 0, "test": 0}, rate=8000).with_name("train00.wav")
    refused = superbench("check", "-u", "fbank_no_cmvn", file)
    assert (refused.code, refused.out) == (3, "")
    assert "the upstream states 16000 Hz: " in refused.err
    assert "8000 Hz in place of 16000 Hz" in refused.err
    assert "--resample" in refused.err
    assert superbench("check", "-u", "fbank_no_cmvn", "--resample", file).code == 0
    unstated = superbench("check", "-p", plugin(NOISY.replace("16000", "'16k'")), "-u", "noisy", file)
    assert unstated.code == 4
    assert re.findall(r"FAILED +(.+?)  ", unstated.out) == ["sample_rate is '16k' (str)"]
    idle = superbench("check", "-u", "fbank_no_cmvn", "--resample")
    assert (idle.code, idle.out) == (2, "")
    assert "--resample is about recordings" in idle.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("-u", "fbnk"), 2, "fbank"),
        (("-u", "fbank", "--device", "tpu"), 2, "tpu"),
        (("-u", "fbank", "missing.wav"), 3, "missing.wav"),
        (("-p", "{broken}", "-u", "mine"), 4, "OSError: no weights"),
    ],
)
def test_what_cannot_be_opened_ends_with_the_usual_error(arguments, code, word, superbench, plugin):
    load = "raise OSError('no weights')\n\n        class Noisy"
    broken = plugin(NOISY.replace("class Noisy", load).replace('"noisy"', '"mine"'))
    ended = superbench("check", *(a.format(broken=broken) for a in arguments))
    assert (ended.code, ended.out) == (code, "")
    assert word in ended.err


def test_help_shows_the_command():
    command = build_cli(Registry.load()).commands["check"]
    assert {o for p in command.params for o in p.opts} == {
        *("-u", "--upstream", "--resample", "--device", "--json", "sounds"),
    }


def test_the_test_that_the_readme_shows_passes_and_fails(plugin, tmp_path, monkeypatch):
    text = (WING / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    (block,) = (b for b in blocks if "check_upstream" in b)
    monkeypatch.chdir(tmp_path)
    shown: dict = {}
    exec(compile(block, "README.md", "exec"), shown)
    plugin(EXAMPLE.read_text(encoding="utf-8").replace('"spectrum"', '"mine"'))
    shown["test_my_upstream_keeps_its_promises"]()
    plugin(NOISY.replace('"noisy"', '"mine"'))
    with pytest.raises(AssertionError, match=r"determinism +FAILED +largest difference 0\."):
        shown["test_my_upstream_keeps_its_promises"]()


def test_the_readme_tells_every_promise():
    from superbench.conformance import PROMISES

    text = (WING / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Check that they are kept")[2]
    told = re.findall(r"^\| ([a-z_, ]+) \|", section, flags=re.MULTILINE)
    assert [name for row in told[1:] for name in row.split(", ")] == [*(p.name for p in PROMISES), "taps"]
