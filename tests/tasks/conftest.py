"""Small trees in the layout of the official ones, and where the shared data lie."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from superbench import audio, corpus


@pytest.fixture
def tree(tmp_path):
    """Write files below a corpus root: text as it is, sound (given in seconds) each of its own."""
    made = [0]

    def tree(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content)
            else:
                made[0] += 1
                noise = np.random.default_rng(made[0]).standard_normal(int(content * 16000)) * 0.05
                soundfile.write(path, noise, 16000)
        return tmp_path

    return tree


@pytest.fixture
def checked():
    """Check rows as the pipeline does."""

    def checked(task, rows, *, column=None, roots, official, left_out=0):
        return corpus.check(
            task,
            rows,
            column=column or task.column,
            inspect=functools.partial(
                audio.inspect, rate=task.protocol.sample_rate, resample=True, gain_db=task.protocol.gain_db
            ),
            roots=roots,
            official=official,
            left_out=left_out,
        )

    return checked


@pytest.fixture
def shared():
    """The folder of shared data, `data` in it."""
    folder = os.environ.get("SUPERBENCH_SHARED")
    if not folder:
        pytest.skip("SUPERBENCH_SHARED is not set: it names the folder with the shared data")
    return Path(folder) / "data"
