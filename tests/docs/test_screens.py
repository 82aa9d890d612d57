"""The page of screens shows what commands print."""

import importlib.util
import os
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def screens() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_screens", DOCS / "screens.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_drawn_is_as_the_program_draws_it(screens: ModuleType) -> None:
    written = screens.PAGE.read_text("utf-8")
    assert written == screens.page(screens.demo_on(written)), "run: python docs/screens.py"


def structure(printed: str) -> list[str]:
    """The beginnings of lines; numbers do not count, nor how many lines of a kind there are."""
    lines = [re.sub(r"[\d,]+", "0", line) for line in printed.splitlines()]
    kinds = [re.match(r"[┏┡│└]|  |\W*\w*", line) for line in lines]
    return [kind for kind, _ in groupby(found[0] for found in kinds if found)]


@pytest.mark.e2e
def test_the_demo_still_prints_what_was_recorded(screens: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("one", "two", "three"):
        (tmp_path / "source" / f"{name}.py").write_text("def f():\n    pass\n")
    ended = subprocess.run(
        [sys.executable, "-m", "avtomatika_trio", "demo", "--root", "source"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    recorded = structure(screens.demo_on(screens.PAGE.read_text("utf-8")))
    assert len(recorded) > 10
    assert structure(ended.stdout) == recorded
