"""Where things live: an option, else an environment variable, else the home; and what progress says of time."""

from __future__ import annotations

from pathlib import Path

import pytest

from superbench.places import home_folder, places
from superbench.progress import StderrProgress, duration


def test_options_win_over_variables_and_these_over_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("SUPERBENCH_HOME", str(tmp_path / "home"))
    found = places()
    assert (found.store, found.runs) == (tmp_path / "home/store", tmp_path / "home/runs")
    assert found.database == str(tmp_path / "home/leaderboard.sqlite")
    monkeypatch.setenv("SUPERBENCH_STORE", str(tmp_path / "big disk"))
    monkeypatch.setenv("SUPERBENCH_DATABASE", "postgresql://host/board")
    found = places(tmp_path / "other", runs=str(tmp_path / "runs"))
    assert (found.store, found.runs) == (tmp_path / "big disk", tmp_path / "runs")
    assert found.database == "postgresql://host/board"
    assert places(store=str(tmp_path), database=str(tmp_path / "b.db")).database == str(tmp_path / "b.db")


def test_places_are_absolute_whatever_the_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert home_folder("here") == tmp_path / "here"
    assert home_folder("~") == Path.home()
    found = places("here", store="store", database="board.sqlite")
    assert (found.store, found.database) == (tmp_path / "store", str(tmp_path / "board.sqlite"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7530, "2 h 05 min"),
    ],
)
def test_durations_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_a_stage_says_what_was_done_and_says_so_when_it_fails_too(capsys):
    with StderrProgress().stage("features", 3) as bar:
        bar.advance(3, "well")
    with pytest.raises(KeyError), StderrProgress().stage("training", 5) as bar:
        {}[bar.advance(2)]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["features: 3/3 in 0 s  well", "training: 2/5 in 0 s"]
