"""`avtomatika completion`: the scripts, and what a real bash makes of one."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.commands import Run

from avtomatika_trio.cli import Exit

#: What bash does when TAB is pressed, without the terminal.
_PRESS_TAB = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_LINE="$*"
COMP_POINT=${#COMP_LINE}
COMP_TYPE=9
for word in $(complete -p avtomatika); do
    [ "$last" = -F ] && completer=$word
    last=$word
done
$completer avtomatika "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(run: Run, tmp_path: Path) -> Path:
    ran = run("completion", "bash")
    assert (ran.code, ran.err) == (Exit.OK, "")
    path = tmp_path / "avtomatika.bash"
    path.write_text(ran.out)
    return path


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of *words*."""
    bash = shutil.which("bash")
    assert bash is not None
    ended = subprocess.run(
        [bash, "--norc", "-c", _PRESS_TAB, "bash", str(script), "avtomatika", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""
    return [line.strip() for line in ended.stdout.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["blue"], ["blueprint"]),
        (["job", "wa"], ["watch"]),
        (["worker", ""], ["run", "list", "status", "spool"]),
        (["job", "list", "--lim"], ["--limit"]),
        (["job", "list", "--status", "quar"], ["quarantined"]),
        (["completion", "z"], ["zsh"]),
        (["nosuch", "wa"], []),
    ],
)
def test_bash_completes(script: Path, words: list[str], offered: list[str]) -> None:
    assert sorted(completed(script, *words)) == sorted(offered)


@pytest.mark.parametrize(
    ("shell", "mark"), [("zsh", "#compdef avtomatika"), ("fish", "complete -c avtomatika")]
)
def test_other_shells_get_every_command(run: Run, shell: str, mark: str) -> None:
    ran = run("completion", shell)
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert mark in ran.out
    for word in ("blueprint", "watch", "spool", "quarantined"):
        assert word in ran.out


def test_a_shell_that_is_not_known_is_a_usage_error(run: Run) -> None:
    ran = run("completion", "tcsh")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "invalid choice: 'tcsh' (choose from" in ran.err


def test_help_says_how_to_install_it(run: Run) -> None:
    told = run("completion", "--help").out
    assert "source <(avtomatika completion bash)" in told
    assert "~/.config/fish/completions/avtomatika.fish" in told
