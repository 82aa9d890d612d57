"""Which orchestrator a command asks, and with which token."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.commands import TOKENS, Run

from avtomatika_trio.cli import Exit
from avtomatika_trio.orchestrator._tokens import make_tokens


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_an_orchestrator_that_is_not_there(run: Run, nobody: str) -> None:
    ran = run("job", "list", "--url", nobody, "--token", "x")
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert ran.err.startswith(f"avtomatika: {nobody} cannot be reached: ")
    assert ran.err.endswith(
        "; is `avtomatika serve` running there?"
        " If it listens elsewhere, give --url or set AVTOMATIKA_URL\n"
    )


def test_an_orchestrator_that_does_not_speak_tls(run: Run, url: str) -> None:
    ran = run("job", "list", "--url", url.replace("http:", "https:"), "--token", "x")
    assert ran.code == Exit.FAILED
    assert "it may not speak TLS: try http:// in place of https://" in ran.err


def test_a_wrong_token_is_refused(run: Run, url: str) -> None:
    ran = run("job", "list", "--url", url, "--token", "wrong")
    assert ran.code == Exit.AUTH
    assert ran.err == (
        f"avtomatika: {url} refused (401): this is not a token of a client (CLIENT_TOKEN, or one"
        " of clients.toml);"
        " give the token it was started with: --token, or CLIENT_TOKEN\n"
    )


def test_without_any_token_nothing_is_asked(run: Run, nobody: str) -> None:
    ran = run("job", "list", "--url", nobody)
    assert ran.code == Exit.AUTH
    assert ran.err == (
        f"avtomatika: there is no client token for {nobody}: give --token, or set CLIENT_TOKEN;"
        f" there is no avtomatika.tokens and no .avtomatika/avtomatika.tokens in {Path.cwd()}"
        " either: `avtomatika serve` makes one in the folder where it is started;"
        " who runs it can make one: avtomatika token create NAME --client\n"
    )


def test_generated_tokens_stay_on_this_machine(run: Run, tmp_path: Path) -> None:
    make_tokens(tmp_path / "avtomatika.tokens")
    ran = run("job", "list", "--url", "http://192.0.2.1:8080")
    assert ran.code == Exit.AUTH
    assert ran.err.endswith(
        "generated tokens are for orchestrators on this machine only;"
        " who runs it can make one: avtomatika token create NAME --client\n"
    )


@pytest.mark.parametrize("variable", ["CLIENT_TOKEN", "AVTOMATIKA_CLIENT_TOKEN"])
def test_the_token_may_come_from_the_environment(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, TOKENS.client_token)
    assert run("job", "list", "--url", url).code == Exit.OK


def test_the_token_may_come_from_a_file_of_its_own(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(f"{TOKENS.client_token}\n")
    monkeypatch.setenv("CLIENT_TOKEN_FILE", "secret")
    assert run("job", "list", "--url", url).code == Exit.OK


@pytest.mark.parametrize(
    ("storage", "place"),
    [
        (None, "avtomatika.tokens"),
        ("sqlite:data/x.db", "data/avtomatika.tokens"),
        ("memory:", ".avtomatika/avtomatika.tokens"),
        ("sqlite:other.db", ".avtomatika/avtomatika.tokens"),
    ],
)
def test_generated_tokens_are_found_beside_the_database(
    run: Run,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage: str | None,
    place: str,
) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"client_token": "client-secret", "worker_token": "worker-secret"}')
    if storage is not None:
        monkeypatch.setenv("STORAGE_URL", storage)
    assert run("job", "list", "--url", url).code == Exit.OK


def test_a_damaged_file_of_tokens_is_named(run: Run, url: str, tmp_path: Path) -> None:
    (tmp_path / "avtomatika.tokens").write_text("{")
    ran = run("job", "list", "--url", url)
    assert ran.code == Exit.USAGE
    assert ran.err.startswith("avtomatika: avtomatika.tokens: ")
    assert ran.err.endswith("; delete it, and new tokens are made\n")


def test_the_orchestrator_may_come_from_the_settings_file(
    run: Run, url: str, tmp_path: Path
) -> None:
    port = url.rpartition(":")[2]
    (tmp_path / "avtomatika.toml").write_text(f'api_port = {port}\nclient_token = "client-secret"')
    assert run("job", "list").code == Exit.OK


@pytest.mark.parametrize(
    "address", ["nonsense", "ftp://h", "http://", "http://h:99999", "http://a,http://b"]
)
def test_a_malformed_address_is_a_usage_error(run: Run, address: str) -> None:
    ran = run("job", "list", "--url", address, "--token", "x")
    assert ran.code == Exit.USAGE
    assert ran.err == (
        f"avtomatika: --url: '{address}' is not an address; give one such as"
        " http://127.0.0.1:8080\n"
    )


def test_an_empty_token_is_a_mistake(run: Run, url: str) -> None:
    ran = run("job", "list", "--url", url, "--token", "")
    assert ran.code == Exit.USAGE
    assert ran.err == (
        "avtomatika: --client-token: it is empty;"
        " give a token of printable ASCII characters without spaces\n"
    )
