"""The folder of a run: gone with it, and with runs that died."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker._payload_folder import hold_payload_folder, remove_tree

DIES = """
import os, sys
from pathlib import Path
from avtomatika_trio.worker._payload_folder import hold_payload_folder
with hold_payload_folder(Path(sys.argv[1]), "dead") as own:
    (own / "t1").mkdir()
    (own / "t1" / "input").write_text("x")
    if sys.argv[2] == "die":
        os._exit(9)
    print("up", flush=True)
    sys.stdin.read()
"""


def start(folder: Path, how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", DIES, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_it_is_private_and_goes_with_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "payloads"
    with hold_payload_folder(folder, "i1") as own:
        assert own == folder / "run-i1"
        assert own.stat().st_mode & 0o777 == 0o700
        (own / "t1").mkdir()
    assert list(folder.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    child = start(tmp_path, "die")
    child.communicate()
    assert (tmp_path / "run-dead" / "t1" / "input").exists()
    with hold_payload_folder(tmp_path, "i2"):
        assert [it.name for it in tmp_path.iterdir()] == ["run-i2"]


def test_the_folder_of_a_run_that_lives_stays(tmp_path: Path) -> None:
    child = start(tmp_path, "live")
    assert child.stdout is not None
    child.stdout.readline()
    with hold_payload_folder(tmp_path, "i2"):
        assert (tmp_path / "run-dead" / "t1" / "input").exists()
    child.communicate()
    assert list(tmp_path.iterdir()) == []


def test_what_others_keep_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data").write_text("x")
    (tmp_path / "mine" / "lock").write_text("1")
    (tmp_path / "file").write_text("x")
    with hold_payload_folder(tmp_path, "i1"):
        pass
    assert sorted(it.name for it in tmp_path.iterdir()) == ["file", "mine"]
    assert (tmp_path / "mine" / "data").exists()


def test_folders_that_are_nested_very_deeply_are_removed_too(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for name in ("tree", *["d"] * 1500):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_what_was_never_finished_is_removed_once_it_is_old(tmp_path: Path) -> None:
    for name in (".new-run-young", ".new-run-old"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".new-run-old", (1, 1))
    with hold_payload_folder(tmp_path, "i1"):
        pass
    assert [it.name for it in tmp_path.iterdir()] == [".new-run-young"]


def test_a_folder_of_another_account_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="another account"), hold_payload_folder(tmp_path, "i1"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of root")
def test_a_folder_of_root_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with hold_payload_folder(tmp_path, "i1") as own:
        assert own.exists()


def test_a_folder_that_cannot_be_used_is_told_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError) as caught, hold_payload_folder(tmp_path / "file", "i1"):
        pass
    assert "WORKER_PAYLOAD_DIR" in str(caught.value)
    assert "give a folder that this account can write to" in str(caught.value)
