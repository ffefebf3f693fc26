"""The command's door: opens for this project, and says what is wrong when another package took its name."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

import watchdog
from watchdog import __main__ as door


def a_package(folder: Path, **attributes: str) -> ModuleType:
    package = ModuleType("watchdog")
    package.__file__ = str(folder / "__init__.py")
    vars(package).update(attributes)
    return package


def test_this_project_is_no_impostor() -> None:
    assert door.impostor(watchdog) is None


def test_the_file_watcher_is_one(tmp_path: Path) -> None:
    problem = door.impostor(a_package(tmp_path))
    assert problem is not None
    assert str(tmp_path) in problem
    assert "pip uninstall watchdog inference-watchdog && pip install inference-watchdog" in problem


def test_both_in_one_folder_are_one_too(tmp_path: Path) -> None:
    (tmp_path / "observers").mkdir()
    assert door.impostor(a_package(tmp_path, DISTRIBUTION="inference-watchdog")) is not None
    (tmp_path / "observers").rmdir()
    assert door.impostor(a_package(tmp_path, DISTRIBUTION="inference-watchdog")) is None


def test_a_package_without_a_file_is_one() -> None:
    assert door.impostor(ModuleType("watchdog")) is not None


def test_the_door_stays_shut_for_an_impostor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "DISTRIBUTION", "watchdog")
    with pytest.raises(SystemExit, match="watchdog: another package named 'watchdog'"):
        door.main()


def test_the_door_opens_for_this_project(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["watchdog", "--help"])
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    with pytest.raises(SystemExit) as ended:
        door.main()
    assert ended.value.code == 0
    assert "Usage" in capsys.readouterr().out
