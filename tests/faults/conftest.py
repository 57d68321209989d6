"""A bench for bad input: a good corpus to spoil, and a stranger's upstream with one line to break."""

from __future__ import annotations

import csv
import json
import os
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from driver import Driver, Order
from homes import Undisturbed, contents
from sounds import RATE, make_tones, write_manifest
from struck_plugins import FAULTS, TINY

YEAR_2000 = 946684800  # seconds
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


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A process that forks `superbench` processes, each quick because all modules are loaded already."""
    folder = tmp_path_factory.mktemp("driver")
    tones = make_tones(folder / "tones", {"train": 3, "dev": 3, "test": 3})
    run = "run -q -u fbank_no_cmvn -t ks --steps 2 --eval-every 2 --lr 1e-2"
    started = Driver(folder, ["--home", folder / "home", *run.split(), "--data", tones])
    yield started
    started.end()


@pytest.fixture(scope="session")
def struck(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """A command line in a home: the upstream `tiny` on 68 sounds, two shards, with the plugin that brings faults."""
    folder = tmp_path_factory.mktemp("struck")
    tones = make_tones(folder / "tones", {"train": 44, "dev": 12, "test": 12})
    for path in tones.parent.glob("*.wav"):
        os.utime(path, (YEAR_2000, YEAR_2000))  # of a file that is younger than two seconds nothing is remembered
    plugins = []
    for name, text in (("tiny.py", TINY), ("faults.py", FAULTS)):
        (folder / name).write_text(text)
        plugins += ["-p", str(folder / name)]

    def command(home: Path, given: str) -> list[str]:
        return ["--home", str(home), *plugins, "run", "-q", "-u", "tiny", "--data", str(tones), *given.split()]

    return command


@pytest.fixture(scope="session")
def undisturbed(
    driver: Driver, struck: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Undisturbed]:
    """Run with some options where nothing befalls it, once, and see what it leaves."""
    known: dict[str, Undisturbed] = {}

    def run(given: str) -> Undisturbed:
        if given not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            home, log = folder / "home", folder / "log"
            (ended,) = driver.run(Order(arguments=struck(home, given), log=log))
            assert ended.code == 0, ended.err
            writes = [json.loads(line) for line in log.read_text().splitlines()]
            known[given] = Undisturbed(
                given=given,
                home=home,
                told=ended.err,
                contents=contents(home),
                writes=tuple(Path(w["target"]) for w in writes),
                unsynced=tuple(Path(w["target"]) for w in writes if not w["synced"]),
            )
        return known[given]

    return run
