"""`avtomatika completion`: the scripts, and what real shells make of them."""

import os
import pty
import re
import select
import shutil
import subprocess
import time
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
    """What bash offers for the last of *words*, in a folder with files."""
    (script.parent / "blueprints").mkdir()
    (script.parent / "production.toml").touch()
    bash = shutil.which("bash")
    assert bash is not None
    ended = subprocess.run(
        [bash, "--norc", "-c", _PRESS_TAB, "bash", str(script), "avtomatika", *words],
        capture_output=True,
        cwd=script.parent,
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
        (["job", "list", "--js"], ["--json"]),
        (["blueprint", "check", "blue"], ["blueprints"]),
        (["serve", "--config", "prod"], ["production.toml"]),
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


#: What makes a shell complete by a script, as the help says, and shows what it has come to.
_SET_UP = {
    "bash": """source '{script}'; avtomatika() {{ printf 'GOT<%s>\\n' "$*"; }}""",
    "zsh": (
        "autoload -U compinit; compinit -u -D; eval \"$(cat '{script}')\";"
        ' avtomatika() {{ print -r -- "GOT<$*>" }}'
    ),
    "fish": "cat '{script}' | source; function avtomatika; echo \"GOT<$argv>\"; end",
}
_START = {"bash": ["--norc", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"]}


def pressed(shell: str, script: Path, typed: str) -> str:
    """What a real *shell* calls `avtomatika` with when *typed*, keys and TABs, is entered."""
    path = shutil.which(shell)
    if path is None:
        pytest.fail(f"no {shell}; install it: apt-get install {shell}")
    ours, theirs = pty.openpty()
    # The terminal that the leader of a session opens first is its own; fish needs one.
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$@" <>"$TTY" >&0 2>&0', "sh", path, *_START[shell]],
        cwd=script.parent,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(script.parent),
            "TERM": "xterm",
            "TTY": os.ttyname(theirs),
        },
        start_new_session=True,
    )
    try:
        os.write(ours, f"{_SET_UP[shell].format(script=script)}\n{typed}\n".encode())
        return _shown(ours)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)


def _shown(terminal: int) -> str:
    """What stands between the marks; if they never come, what *terminal* has shown instead."""
    shown, until = "", time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
        # Not the line that was typed: that has `$` in it.
        if found := re.search(r"GOT<([^$%>]*)>", shown):
            return found[1].strip().removesuffix("/")
    return f"nothing: {shown[-2000:]!r}"


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "shell",
    [
        "bash",
        # They come from the system alone.
        pytest.param("zsh", marks=pytest.mark.e2e),
        pytest.param("fish", marks=pytest.mark.e2e),
    ],
)
@pytest.mark.parametrize(
    ("typed", "called_with"),
    [
        ("avtomatika job wa\t", "job watch"),
        ("avtomatika job list --stat\t quar\t", "job list --status quarantined"),
        ("avtomatika serve --blueprints blue\t", "serve --blueprints blueprints"),
        ("avtomatika blueprint check blue\t", "blueprint check blueprints"),
    ],
)
def test_a_real_shell_completes(
    run: Run, tmp_path: Path, shell: str, typed: str, called_with: str
) -> None:
    script = tmp_path / "script"
    script.write_text(run("completion", shell).out)
    (tmp_path / "blueprints").mkdir()
    assert pressed(shell, script, typed) == called_with


def test_help_says_how_to_install_it(run: Run) -> None:
    told = run("completion", "--help").out
    assert "source <(avtomatika completion bash)" in told
    # `source <(...)` would not do: the script takes that for being loaded out of fpath.
    assert 'compinit; eval "$(avtomatika completion zsh)"' in told
    assert "~/.config/fish/completions/avtomatika.fish" in told
