"""`avtomatika serve` when it cannot: one clear message, no traceback."""

import socket
import time
from pathlib import Path

import attrs
import pytest
import trio
from tests.cli.commands import Run

from avtomatika_trio._config import OrchestratorSettings, Secret
from avtomatika_trio.cli import Exit
from avtomatika_trio.cli._serve import _tokens
from avtomatika_trio.cli._tasktree import render_task_tree
from avtomatika_trio.orchestrator._build import create_context, server_settings
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.storage import MemoryStorage


@pytest.mark.parametrize(
    ("argv", "code", "fault"),
    [
        (
            ["--port", "abc"],
            Exit.USAGE,
            "--port: 'abc' is not a whole number; give a whole number from 0 to 65535",
        ),
        (
            ["--host", "0.0.0.0"],
            Exit.USAGE,
            (
                "0.0.0.0 can be reached from other machines, and has no token of its own; set"
                " CLIENT_TOKEN and WORKER_TOKEN (or CLIENT_TOKEN_FILE and WORKER_TOKEN_FILE),"
                " or name each in clients.toml and workers.toml, or listen on 127.0.0.1"
            ),
        ),
        (
            ["--storage", "sqlite:data/x.db"],
            Exit.FAILED,
            (
                "there is no folder data for the database; make it (mkdir -p data),"
                " or give another --storage"
            ),
        ),
        (
            ["--storage", "sqlite:notes.txt"],
            Exit.FAILED,
            (
                "notes.txt cannot be used: file is not a database;"
                " name another file (--storage sqlite:PATH)"
            ),
        ),
        (
            ["--storage", "postgres://db"],
            Exit.USAGE,
            (
                "--storage: 'postgres://db' is not a storage that is known; give memory:,"
                " sqlite:PATH, redis://HOST:PORT, redis+sentinel://HOST:PORT,.../SERVICE or"
                " redis+cluster://HOST:PORT,...; rediss for TLS"
            ),
        ),
        (
            ["--log-format", "xml"],
            Exit.USAGE,
            "--log-format: 'xml' is not known; give one of text, json",
        ),
        (
            ["--storage", "memory:", "--port", "0"],
            Exit.USAGE,
            ".avtomatika: cannot be made (File exists); set CLIENT_TOKEN and WORKER_TOKEN",
        ),
    ],
)
def test_what_is_wrong_is_said_and_what_to_do(
    run: Run, tmp_path: Path, argv: list[str], code: Exit, fault: str
) -> None:
    (tmp_path / "notes.txt").write_text("no database\n" * 100)
    (tmp_path / ".avtomatika").write_text("no folder")
    ran = run("serve", *argv)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == f"avtomatika: {fault}\n"


def test_half_the_tokens_are_not_enough_for_other_machines(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIENT_TOKEN", "x")
    ran = run("serve", "--host", "::")
    assert ran.code == Exit.USAGE
    assert ran.err == (
        "avtomatika: :: can be reached from other machines, and has no token of its own;"
        " set WORKER_TOKEN (or WORKER_TOKEN_FILE), or name each in workers.toml,"
        " or listen on 127.0.0.1\n"
    )


def test_half_a_configuration_of_s3_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("S3_ACCESS_KEY", "key")
    monkeypatch.setenv("S3_SECRET_KEY", "never-shown")
    ran = run("serve", "--storage", "memory:", "--port", "0")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "but S3_BUCKET is missing: set it to the bucket that files go to" in ran.err
    assert "never-shown" not in ran.err


def test_an_address_in_use(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = run("serve", "--storage", "memory:", "--port", str(port))
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert ran.err == (
        f"avtomatika: cannot listen on 127.0.0.1:{port}: Address already in use;"
        " is another process using it? choose another host or port\n"
    )


def test_generated_tokens_are_kept_and_for_their_owner_only(tmp_path: Path) -> None:
    settings = OrchestratorSettings(storage_url=f"sqlite:{tmp_path}/x.db")
    client, worker, path = _tokens(settings)
    assert client != worker
    assert path == tmp_path / "avtomatika.tokens"
    assert path.stat().st_mode & 0o777 == 0o600
    assert _tokens(settings) == (client, worker, path)


def test_generated_tokens_are_told_once_and_to_people_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_terminal in (False, True):
        settings = OrchestratorSettings(storage_url=f"sqlite:{tmp_path}/{is_terminal}/x.db")
        monkeypatch.setattr("sys.stderr.isatty", lambda it=is_terminal: it)
        client, worker, _ = _tokens(settings)
        first = capsys.readouterr().err
        _tokens(settings)
        assert capsys.readouterr().err == ""
        assert client is not None
        assert worker is not None
        assert (client in first, worker in first) == (is_terminal, is_terminal)


def test_a_configured_token_stands_beside_a_generated_one(tmp_path: Path) -> None:
    generated = OrchestratorSettings(storage_url=f"sqlite:{tmp_path}/x.db")
    client, _, path = _tokens(generated)
    half = attrs.evolve(generated, worker_token=Secret("mine"))
    assert _tokens(half) == (client, "mine", path)


def test_configured_tokens_make_no_file(tmp_path: Path) -> None:
    settings = OrchestratorSettings(
        storage_url=f"sqlite:{tmp_path}/x.db",
        client_token=Secret("client-secret"),
        worker_token=Secret("worker-secret"),
    )
    assert _tokens(settings) == ("client-secret", "worker-secret", None)
    assert list(tmp_path.iterdir()) == []


def test_every_setting_has_its_effect() -> None:
    settings = OrchestratorSettings(
        host="::1",
        port=1,
        max_body_bytes=2,
        max_params_bytes=3,
        lease_seconds=4.0,
        poll_hold_seconds=5.0,
        handler_timeout_seconds=6.0,
        max_transitions_per_job=7,
        max_lost_attempts=8,
        blocked_loop_seconds=9.0,
        grace_seconds=10.5,
        max_file_bytes=11,
        files_retention_seconds=12.0,
        jobs_retention_seconds=14.0,
        task_files_dir=Path("13"),
    )
    context = create_context(
        settings,
        MemoryStorage(time.time),
        Blueprints(),
        blobs=None,
        client_token="c",
        worker_token="w",
    )
    server = server_settings(settings)
    assert (server.host, server.port, server.max_message_bytes, server.grace_seconds) == (
        "::1",
        1,
        2,
        10.5,
    )
    rules, limits = context.rules, context.limits
    assert (rules.lease_seconds, rules.max_lost_attempts, rules.blocked_loop_seconds) == (4, 8, 9)
    assert (limits.max_body_bytes, limits.max_params_bytes, limits.max_transitions) == (2, 3, 7)
    assert (limits.poll_hold_seconds, limits.handler_timeout_seconds) == (5, 6)
    assert (limits.max_file_bytes, rules.files_retention_seconds) == (11, 12)
    assert rules.jobs_retention_seconds == 14
    assert context.task_files_dir == Path("13")
    assert (context.client_token, context.worker_token) == ("c", "w")


async def test_the_task_tree_shows_who_waits_where() -> None:
    async def sleeper() -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper)
        await trio.testing.wait_all_tasks_blocked()
        lines = render_task_tree().splitlines()
        nursery.cancel_scope.cancel()
    at = next(n for n, line in enumerate(lines) if line.endswith("<locals>.sleeper"))
    assert "test_serve.py:" in lines[at + 1]
    assert lines[at + 1].endswith("<locals>.sleeper")
