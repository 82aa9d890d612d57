"""`worker run --reload`: which files count, and what the child is called with."""

import os
from pathlib import Path

import pytest

from avtomatika_trio.cli._reload import folder_of, stamps_in, without_reload


def test_the_child_is_not_told_to_watch() -> None:
    given = ["worker", "run", "--reload", "a:b", "--id", "w"]
    assert without_reload(given) == ["worker", "run", "a:b", "--id", "w"]
    assert without_reload(["worker", "run", "--rel", "a:b"]) == ["worker", "run", "a:b"]


def test_python_files_below_count_and_those_of_others_do_not(tmp_path: Path) -> None:
    for name in ("a.py", "deep/b.py", "c.txt", ".git/d.py", "env/pyvenv.cfg", "env/lib/e.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    before = stamps_in([tmp_path])
    assert before.keys() == {f"{tmp_path}/a.py", f"{tmp_path}/deep/b.py"}
    os.utime(tmp_path / "c.txt", ns=(1, 1))
    assert stamps_in([tmp_path]) == before
    os.utime(tmp_path / "a.py", ns=(1, 1))
    assert stamps_in([tmp_path]) != before


def test_the_folder_is_that_of_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path / "there")])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "reloaded_module.py").write_text("raise AssertionError")
    assert folder_of("reloaded_module:worker") == tmp_path / "there"
    assert folder_of("not_there_at_all:worker") == tmp_path
