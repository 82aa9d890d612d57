"""Every error of the command line says what to do next."""

from pathlib import Path

import pytest
from tests.cli.commands import TOKENS, Run

from avtomatika_trio.cli import Exit

#: Port 1 of this machine: nobody listens there.
NOBODY = "http://127.0.0.1:1"

WITH_SERVER = [
    (("job", "submit", "quikc"), Exit.NOT_FOUND, "did you mean 'quick'?"),
    (
        ("job", "submit", "entirely-other"),
        Exit.NOT_FOUND,
        "known here: quick, waits; `avtomatika blueprint list` shows those there are",
    ),
    (("blueprint", "graph", "wait"), Exit.NOT_FOUND, "did you mean 'waits'?"),
    (("blueprint", "graph", "wait", "-o", "svg"), Exit.NOT_FOUND, "did you mean 'waits'?"),
    *(
        (("job", verb, "nosuch"), Exit.NOT_FOUND, "`avtomatika job list` shows those there are")
        for verb in ("get", "history", "watch", "cancel")
    ),
    (("job", "list", "--token", "wrong"), Exit.AUTH, "give the token it was started with: --token"),
    (("worker", "list", "--token", "wrong"), Exit.AUTH, "give the token it was started with"),
    (("job", "submit", "quick", "--data", "[]"), Exit.USAGE, "give a JSON object, such as"),
    (("job", "submit", "quick", "--data", "@nosuch"), Exit.USAGE, "give a JSON object, such as"),
    (("job", "watch", "x", "--url", "h"), Exit.USAGE, "give one such as http://127.0.0.1:8080"),
]

WITHOUT = [
    (
        ("worker", "list", "--url", NOBODY, "--token", "t"),
        Exit.FAILED,
        "the address is from --url; `avtomatika serve --blueprints SOURCE` starts one",
    ),
    (
        ("job", "watch", "x", "--url", NOBODY, "--token", "t"),
        Exit.FAILED,
        "If it listens elsewhere, give --url or set AVTOMATIKA_URL",
    ),
    (
        ("job", "list", "--url", NOBODY),
        Exit.AUTH,
        "who runs it can make one: avtomatika token create NAME --client",
    ),
    (("worker", "run", "nosuch"), Exit.USAGE, "MODULE:ATTR"),
    (("worker", "spool"), Exit.NOT_FOUND, "give --spool-dir or set WORKER_SPOOL_DIR"),
    (("worker", "status", "--url", NOBODY), Exit.FAILED, "give --url or set WORKER_PORT"),
    (("blueprint", "check", "empty.py"), Exit.FAILED, "make one: bp = Blueprint(...)"),
    (("blueprint", "check", "nosuch"), Exit.FAILED, "`avtomatika init` writes a folder of one"),
    (
        ("token", "create", "w", "--file", "nosuch/workers.toml"),
        Exit.FAILED,
        "make its folder writable, or give another --file",
    ),
    (
        ("serve", "--storage", "redis://127.0.0.1:1"),
        Exit.FAILED,
        "connection refused; start it there, or name another one with --storage or STORAGE_URL",
    ),
    (("submit", "quick"), Exit.USAGE, "did you mean `avtomatika job submit`?"),
    (("job", "list", "--config", "nosuch.toml"), Exit.USAGE, "give the path of a TOML file"),
    (("serve", "--port", "many"), Exit.USAGE, "give a whole number from 0 to 65535"),
    (("jbo",), Exit.USAGE, "choose from"),
    (("job", "list", "--lmit", "3"), Exit.USAGE, "did you mean --limit?"),
    (
        ("storage", "restore", "nosuch"),
        Exit.NOT_FOUND,
        "name one that `avtomatika storage backup` has written",
    ),
    (("completion", "csh"), Exit.USAGE, "choose from"),
]


@pytest.mark.parametrize(("argv", "code", "step"), WITH_SERVER)
def test_what_an_orchestrator_refuses(
    ask_for: Run, argv: tuple[str, ...], code: int, step: str
) -> None:
    ran = ask_for(*argv)
    assert (ran.code, ran.out) == (code, "")
    assert step in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(("argv", "code", "step"), WITHOUT)
def test_what_goes_wrong_without_one(
    run: Run, tmp_path: Path, argv: tuple[str, ...], code: int, step: str
) -> None:
    (tmp_path / "empty.py").write_text("")
    ran = run(*argv)
    assert (ran.code, ran.out) == (code, "")
    assert step in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("variable", "value", "source"),
    [
        ("AVTOMATIKA_URL", NOBODY, "the address is from AVTOMATIKA_URL"),
        ("API_PORT", "1", "nobody named an address, so it is that of `serve` here"),
    ],
)
def test_an_address_that_is_not_reached_is_told_with_its_source(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, source: str
) -> None:
    monkeypatch.setenv(variable, value)
    ran = run("job", "list", "--token", TOKENS.client_token)
    assert ran.code == Exit.FAILED
    assert f"{NOBODY} cannot be reached: " in ran.err
    assert source in ran.err
    assert "`avtomatika serve --blueprints SOURCE` starts one" in ran.err
