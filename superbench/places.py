"""Where things live: one home, and an override for each of its parts."""

from __future__ import annotations

import os
from pathlib import Path

from superbench.contracts import Settings
from superbench.errors import UsageError

HOME = "SUPERBENCH_HOME"


def home_folder(given: str | Path | None = None) -> Path:
    """The given home, else SUPERBENCH_HOME, else the platform's folder for user data."""
    if given is not None and not str(given).strip():
        raise UsageError("--home is empty", "give a folder, or leave it out")
    chosen = given or os.environ.get(HOME)
    if chosen:
        return Path(chosen).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_data_dir("superbench"))


def places(
    home: str | Path | None = None, *, store: str | None = None, runs: str | None = None, database: str | None = None
) -> Settings:
    """Store, runs and database: each as given, else by its environment variable, else under the home.

    What was found in recordings is remembered under the home.
    """
    root = home_folder(home)

    def part(given: str | None, variable: str, name: str) -> Path:
        chosen = given or os.environ.get(variable)
        return Path(chosen).expanduser().resolve() if chosen else root / name

    url = database or os.environ.get("SUPERBENCH_DATABASE") or str(root / "leaderboard.sqlite")
    if "://" in url and not url.startswith(("sqlite", "postgresql")):
        raise UsageError(
            f"--database {url}: no such database", "a file's path, sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    return Settings(
        store=part(store, "SUPERBENCH_STORE", "store"),
        runs=part(runs, "SUPERBENCH_RUNS", "runs"),
        database=url if "://" in url else str(Path(url).expanduser().resolve()),
        recordings=root / "recordings.sqlite",
    )
