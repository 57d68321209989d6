"""A bench for bad input: a good corpus to spoil, and a stranger's upstream with one line to break."""

from __future__ import annotations

import csv
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE, write_manifest

UPSTREAM = """
    from superbench.plugin import Layers, UpstreamSpec, hookimpl

    def load(options, device):
        import torch

        class Mine:
            sample_rate, strides, widths = 16000, (320, 320), (2, 2)

            def num_frames(self, samples):
                return samples // 320

            def __call__(self, waves):
                x = [w[: len(w) // 320 * 320].view(-1, 320) for w in waves]
                x = [torch.stack((f.abs().mean(1), f.std(1)), 1) for f in x]
                return [Layers((f, f)) for f in x]

        return Mine()

    @hookimpl
    def superbench_upstreams():
        yield UpstreamSpec(name="mine", load=load)
"""


class Bench:
    """Paths of one test: `m.csv` beside its sounds, `home`, and what a case wrote for itself."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.manifest = folder / "m.csv"

    def path(self, name: str) -> Path:
        return self.folder / name

    def rows(self) -> list[dict[str, str]]:
        with self.manifest.open(newline="") as stream:
            return list(csv.DictReader(stream))

    def change(self, number: int, **cells: str) -> None:
        """Write other cells into one line of the manifest."""
        rows = self.rows()
        rows[number] |= cells
        write_manifest(self.manifest, rows)

    def sound(self, name: str, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> None:
        soundfile.write(self.path(name), samples, rate, subtype=subtype)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.path(name)
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return path

    def upstream(self, old: str, new: str) -> Path:
        """The file `mine.py` with one piece of it put another way."""
        assert UPSTREAM.count(old) == 1, f"{old!r} is not once in the upstream"
        return self.write("mine.py", textwrap.dedent(UPSTREAM.replace(old, new)))


@pytest.fixture
def bench(tones: Path, tmp_path: Path) -> Bench:
    folder = tmp_path / "corpus"
    shutil.copytree(tones.parent, folder)
    shutil.move(folder / tones.name, folder / "m.csv")
    return Bench(folder, tmp_path / "home")


@pytest.fixture
def refused(superbench: Callable[..., object], bench: Bench) -> Callable[..., None]:
    """Run a command on the bench: it must end with this code, say these words on stderr, and store no result."""

    def run(command: str, code: int, words: tuple[str, ...]) -> None:
        arguments = [a.format(at=bench.folder) for a in command.split()]
        ended = superbench("--home", bench.home, *arguments)
        assert ended.code == code, ended.err
        assert [w for w in words if w not in ended.err] == [], ended.err
        assert "Traceback" not in ended.err
        assert not list(bench.home.rglob("result.json"))

    return run
