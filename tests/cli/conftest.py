"""An orchestrator in a thread, asked by commands that run in this process."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from tests.cli.commands import TOKENS, Ran, Run, quick, waits

from avtomatika_trio._config import OrchestratorSettings
from avtomatika_trio._config._load import known_variables
from avtomatika_trio._config._settings_worker import WorkerSettings
from avtomatika_trio.cli import main
from avtomatika_trio.orchestrator import _server
from avtomatika_trio.orchestrator._build import create_context, server_settings
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.orchestrator._service import run_orchestrator
from avtomatika_trio.storage import open_storage

_OTHER_VARIABLES = ("AVTOMATIKA_CONFIG", "AVTOMATIKA_URL", "AVTOMATIKA_CLIENT_TOKEN")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings, in an empty folder; what commands do to the process is undone."""
    settings = (*known_variables(OrchestratorSettings), *known_variables(WorkerSettings))
    for name in (*settings, *_OTHER_VARIABLES):
        # Set first: what a command sets is then undone too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command."""

    def run_command(*argv: str) -> Ran:
        capsys.readouterr()
        code = main(argv)
        printed = capsys.readouterr()
        return Ran(code=int(code), out=printed.out, err=printed.err)

    return run_command


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of an orchestrator in a thread of its own; it knows `quick` and `waits`."""
    started = threading.Event()
    urls: list[str] = []
    stops: list[Callable[[], None]] = []

    async def serve() -> None:
        token, stop = trio.lowlevel.current_trio_token(), trio.Event()
        stops.append(lambda: token.run_sync_soon(stop.set))
        settings = OrchestratorSettings(port=0, grace_seconds=0.1)
        async with open_storage("memory:") as storage, trio.open_nursery() as nursery:
            context = create_context(
                settings,
                storage,
                Blueprints([quick, waits]),
                blobs=None,
                client_token=TOKENS.client_token,
                worker_token=TOKENS.worker_token,
            )
            urls.extend(
                await nursery.start(
                    partial(
                        run_orchestrator,
                        context,
                        partial(_server.serve, settings=server_settings(settings)),
                        stop=stop.wait,
                    )
                )
            )
            started.set()

    thread = threading.Thread(target=trio.run, args=[serve])
    thread.start()
    assert started.wait(30), "the orchestrator did not start"
    yield urls[0]
    stops[0]()
    thread.join()


@pytest.fixture
def ask_for(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command that finds the orchestrator and its token in the environment."""
    monkeypatch.setenv("AVTOMATIKA_URL", url)
    monkeypatch.setenv("CLIENT_TOKEN", TOKENS.client_token)
    return run
