"""Who speaks, and how one speaker's lines become samples."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from superbench.errors import MissingExtraError, PluginError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One speaker: an accent and a variant of espeak-ng, as it is asked for by name."""

    name: str  # "en-us+f2"
    gender: Literal["F", "M"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One text and how it is said, in espeak-ng's units."""

    text: str
    rate: int  # words per minute, 80 to 450
    pitch: int  # 0 to 99; 50 is the voice's own
    range: int  # 0 to 100; 50 is the voice's own
    volume: int  # 0 to 200, linear in amplitude; some voices clip at 100


# Variants of espeak-ng 1.52 that speak plainly (no robot, whisper or croak) and do not overload at volume 60.
WOMEN = (
    "f1", "linda", "f2", "Annie", "f3", "steph", "f5", "belinda", "f4", "grandma", "aunty", "anika", "Alicia", "shelby",
)  # fmt: skip
MEN = (
    "m1", "Mike", "m2", "Nguyen", "m3", "david", "m4", "Andy", "m5", "Marco", "m6", "adam", "m7", "quincy", "m8", "max",
    "Alex", "boris", "Hugo", "robert", "michel", "Denis", "ian", "victor", "grandpa", "rob",
)  # fmt: skip


def cast(accents: Sequence[str], count: int, *, skip: int = 0) -> tuple[Voice, ...]:
    """Return `count` different voices, women and men in turn, accents in turn, the first `skip` left out.

    Every (accent, variant) pair comes once, so that two calls with the same accents and disjoint ranges share nobody.
    """
    women = [Voice(name=f"{accent}+{variant}", gender="F") for variant in WOMEN for accent in accents]
    men = [Voice(name=f"{accent}+{variant}", gender="M") for variant in MEN for accent in accents]
    voices = [voice for pair in zip(women, men, strict=False) for voice in pair]
    assert skip + count <= len(voices), "the cast is smaller than the script asks for"
    return tuple(voices[skip : skip + count])


def speak(voice: Voice, lines: Sequence[Line]) -> list[npt.NDArray[np.int16]]:
    """Say `lines` in order in a fresh process; return int16 samples [n] at 22,050 Hz, one array per line."""
    import numpy as np

    answer = _ask(voice.name, [asdict(line) for line in lines])
    spoken = []
    at = 0
    while at < len(answer):
        (count,) = struct.unpack_from("<I", answer, at)
        spoken.append(np.frombuffer(answer, dtype="<i2", count=count, offset=at + 4).astype(np.int16))
        at += 4 + 2 * count
    assert len(spoken) == len(lines), "the child answers every line or fails"
    return spoken


def espeak_version() -> str:
    """Return the version of espeak-ng, such as "1.52.0"."""
    return _ask("", []).decode()


def _ask(voice: str, lines: Sequence[dict[str, Any]]) -> bytes:
    """Run the child; `MissingExtraError` without espeakng-loader, `PluginError` where espeak-ng refuses."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingExtraError(
            "the synthetic corpus is spoken by espeak-ng, and the package that brings it, espeakng-loader, is missing",
            'pip install "superbench[demo]"',
        ) from error
    library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    request = json.dumps({"library": library, "data": data, "voice": voice, "lines": lines})
    child = subprocess.run(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("espeak.py"))],
        input=request.encode(),
        capture_output=True,
        check=False,
    )
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {child.returncode}"]
        raise PluginError(
            f"espeak-ng failed with voice {voice!r}: {said[-1]}",
            'pip install --force-reinstall "espeakng-loader==0.2.4"',
        )
    return child.stdout
