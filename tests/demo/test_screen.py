"""What the demo prints on a terminal of any width."""

import pytest

from avtomatika_trio.demo._screen import Screen

_ROW = ("encodings", "32,340", "561", "592")
_COLUMNS = ("name", "lines", "functions", "classes")


@pytest.mark.parametrize(("columns", "shown"), [(80, 4), (40, 3), (20, 1)])
def test_a_narrow_terminal_gets_fewer_columns_but_whole_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, shown: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    Screen().table("The largest", _COLUMNS, [_ROW])
    printed = capsys.readouterr().out
    assert [cell in printed for cell in _ROW] == [index < shown for index in range(4)]
    assert max(map(len, printed.splitlines())) <= columns
