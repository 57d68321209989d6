"""Where a number was made: versions, device, threads, and the commit of superbench itself."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from superbench.version import __version__

DISTRIBUTIONS = (
    "torch",
    "torchaudio",
    "numpy",
    "pandas",
    "scikit-learn",
    "jiwer",
    "soundfile",
    "soxr",
    "safetensors",
    "transformers",
    "pluggy",
)


def versions() -> dict[str, str]:
    """Versions of what may decide a score; an absent library is left out."""
    found = {"python": platform.python_version(), "superbench": __version__}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str:
    """The commit of the checkout superbench itself runs from (not of the current folder), `+` where it was edited."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "") if head.returncode == 0 else ""


def environment(device: str) -> dict[str, Any]:
    """Everything about this machine that may decide a bit of a score."""
    import torch

    kind = torch.device(device).type
    return {
        "versions": versions(),
        "git": git_commit(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device)
        if kind == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "matmul": torch.get_float32_matmul_precision(),
        "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "command": sys.argv[1:],
    }
