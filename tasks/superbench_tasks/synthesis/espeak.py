"""The child process: one speaker says its lines through espeak-ng and exits.

This file is run by its path (`python -I -S espeak.py`), one fresh process per speaker, because what espeak-ng gives
depends on what the same process said before. It imports nothing but the standard library. A request comes as JSON on
stdin; on stdout goes, per line, the number of samples (uint32, little-endian) and the samples (int16, little-endian);
where no line is asked for, the version of espeak-ng as text.

    {"library": ".../libespeak-ng.so", "data": ".../espeak-ng-data", "voice": "en-us+f2",
     "lines": [{"text": "yes", "rate": 170, "pitch": 50, "range": 50, "volume": 100}]}
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

# Values of enums in espeak-ng 1.52's speak_lib.h.
SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples come to the callback
DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report a missing data folder instead of exit()
UTF8 = 1  # espeakCHARS_UTF8
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4}  # espeak_PARAMETER
RATE = 22050  # Hz, of every voice of the formant synthesiser
RANDOM_SEED = 1  # of espeak-ng's own generator and of libc's: breath, flutter and some klatt voices draw from them

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def open_library(path: str, data: str) -> ctypes.CDLL:
    """Load the library and initialise it with its data folder; a `RuntimeError` says what espeak-ng refused."""
    library = ctypes.CDLL(path)
    os.chdir(data)  # espeak-ng cuts paths of 160 letters: "." is short wherever the wheel lies
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, b".", DONT_EXIT)
    if rate != RATE:
        raise RuntimeError(f"espeak_Initialize gave {rate} for the data folder {data}, expected {RATE}")
    library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))
    libc = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
    libc.srand(RANDOM_SEED)
    return library


def version(library: ctypes.CDLL) -> str:
    """Return the version espeak-ng says it has, such as "1.52.0"."""
    library.espeak_Info.restype = ctypes.c_char_p
    return str(library.espeak_Info(None).decode())


def speak(library: ctypes.CDLL, voice: str, lines: list[dict[str, Any]]) -> list[bytes]:
    """Say `lines` in order with one voice; return int16 samples at 22,050 Hz, one `bytes` per line."""
    variant = voice.partition("+")[2]  # an unknown one would be replaced by the accent's own voice, in silence
    known = not variant or Path("voices", "!v", variant).is_file()
    if not known or library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise RuntimeError(f"espeak-ng has no voice {voice!r}")
    chunks: list[bytes] = []

    def collect(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    spoken = []
    for line in lines:
        chunks.clear()
        for name, parameter in PARAMETERS.items():
            library.espeak_SetParameter(parameter, int(line[name]), 0)
        text = line["text"].encode() + b"\0"
        status = library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, UTF8, None, None)
        library.espeak_Synchronize()
        if status != 0 or not chunks:
            raise RuntimeError(f"espeak-ng said nothing (status {status}) for {line!r} with voice {voice!r}")
        spoken.append(b"".join(chunks))
    return spoken


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    library = open_library(request["library"], request["data"])
    if not request["lines"]:
        sys.stdout.write(version(library))
        return
    for samples in speak(library, request["voice"], request["lines"]):
        sys.stdout.buffer.write(struct.pack("<I", len(samples) // 2) + samples)


if __name__ == "__main__":
    main()
