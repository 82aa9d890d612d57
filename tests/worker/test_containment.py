"""Names that stay in a folder, and files that are what they seem to be when they are opened."""

import os
from pathlib import Path

import pytest

from avtomatika_trio.errors import UnsafePath
from avtomatika_trio.worker._containment import LinkCount, open_inside, safe_component


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../7", "/etc", ".hidden", "a/b", "a\0b", "a\n", "é", "\ud800", "x" * 5000],
)
def test_whatever_an_id_is_it_names_one_folder(tmp_path: Path, text: str) -> None:
    name = safe_component(text)
    (tmp_path / name).mkdir()
    assert [it.name for it in tmp_path.iterdir()] == [name]
    assert name != text
    assert not name.startswith(".")


@pytest.mark.parametrize("text", ["p00-task-7", "_a.b", "x" * 200])
def test_an_id_that_can_be_a_name_is_one(text: str) -> None:
    assert safe_component(text) == text


def test_a_file_that_becomes_a_pipe_at_the_last_moment_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    real_open = os.open

    def replace_and_open(name: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return real_open(name, flags)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", replace_and_open)
        with pytest.raises(UnsafePath, match="not a regular file"):
            open_inside(tmp_path, path, LinkCount(tmp_path))


def test_a_refusal_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("secret")
    os.link(tmp_path / "secret", tmp_path / "root" / "hard")
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - its entries are gone at once
    with pytest.raises(UnsafePath):
        open_inside(tmp_path / "root", tmp_path / "root" / "hard", LinkCount(tmp_path / "root"))
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
