"""What workers note before they begin is there for those who ask afterwards."""

from pathlib import Path

import pytest

from avtomatika_trio.demo._notes import Begun, note, read_notes


def test_notes_of_all_processes_are_read(tmp_path: Path) -> None:
    notes = [
        Begun(name=name, task_id=f"task-{name}", attempt=attempt, pid=pid)
        for name, attempt, pid in (("json", 1, 11), ("ast", 2, 11), ("json", 2, 12))
    ]
    for begun in notes:
        note(tmp_path, begun)
    assert list(read_notes(tmp_path)) == notes


def test_a_note_that_cannot_be_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        note(tmp_path / "missing", Begun(name="json", task_id="t", attempt=1, pid=1))
