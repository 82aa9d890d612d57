"""The shell of the docs is played, with real processes; see `plays.py`."""

import ast
import re

import pytest
from tests.docs.blocks import BLOCKS, ROOT
from tests.docs.plays import INCLUDED, PLAYS, REASONS
from tests.docs.stage import Stage

SHELL = {"bash", "sh", "shell", "zsh", "console"}


def test_every_block_of_shell_is_played_or_has_a_reason() -> None:
    there = [(it.page, it.first) for it in BLOCKS if it.language in SHELL]
    played = [(page, first) for page, play in PLAYS.items() for first in play.blocks]
    listed = [*played, *REASONS]
    unknown = [it for it in there if it not in listed]
    assert not unknown, f"add to PLAYS, or to REASONS, in tests/docs/plays.py: {unknown}"
    assert sorted(listed) == sorted(there), "a block is gone, or there twice"


def test_every_session_that_is_included_is_played() -> None:
    files = {(it.page, it.info.split()[1]) for it in BLOCKS if it.info.endswith(".console")}
    folders = {((ROOT / page).parent / file).resolve().parent for page, file in files}
    assert len(files) > 10
    names = {str(it.relative_to(ROOT / "docs" / "examples")) for it in folders}
    assert names == set(INCLUDED), "add the folder to INCLUDED in tests/docs/plays.py"


@pytest.mark.e2e
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", PLAYS)
def test_the_shell_of_a_page_is_played(page: str, stage: Stage) -> None:
    play = PLAYS[page]
    of_page = {it.first: it for it in BLOCKS if it.page == page and it.language in SHELL}
    play.function(stage, *(of_page[first] for first in play.blocks))


def test_what_is_not_played_names_sessions_that_there_are() -> None:
    noxfile = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    sessions = {it.name for it in noxfile.body if isinstance(it, ast.FunctionDef)}
    named = {name for _, first in REASONS for name in re.findall(r"nox -s (\S+)", first)}
    assert named == {"demo", "tests"} <= sessions
    [tests] = [first for _, first in REASONS if first.endswith("-s tests")]
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert tests.replace("python3.11", '"$python"') in ci
