"""`avtomatika worker run` until the worker takes over: which Worker, and with which settings."""

import os
from pathlib import Path

import pytest
from tests.cli.commands import TOKENS, Run

from avtomatika_trio._config import Secret
from avtomatika_trio.cli import Exit
from avtomatika_trio.cli._parser import parse
from avtomatika_trio.cli._worker import _settle, import_worker
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import Worker

MODULE = """
from avtomatika_trio.worker import Worker

worker = Worker()
other = Worker()
answer = 42
"""

HOW = "give MODULE:ATTR, such as my_worker:worker for `worker = Worker()` in my_worker.py"


@pytest.mark.parametrize(
    ("spec", "code", "fault"),
    [
        (
            "cli_test_worker",
            2,
            (
                "'cli_test_worker' names no Worker;"
                " there is cli_test_worker:worker, cli_test_worker:other"
            ),
        ),
        (
            "cli_test_worker:wroker",
            2,
            (
                "'cli_test_worker:wroker' names no Worker;"
                " there is cli_test_worker:worker, cli_test_worker:other"
            ),
        ),
        (
            "cli_test_worker:answer",
            2,
            (
                "'cli_test_worker:answer' is no Worker but of type int;"
                " there is cli_test_worker:worker, cli_test_worker:other"
            ),
        ),
        (
            "sub/cli_test_worker.py:worker",
            2,
            (
                "'sub/cli_test_worker.py:worker' names no Worker;"
                " give the module, not the file: sub.cli_test_worker:worker"
            ),
        ),
        ("cli test:worker", 2, f"'cli test:worker' names no Worker; {HOW}"),
        (
            "cli_test_empty:worker",
            2,
            f"'cli_test_empty:worker' names no Worker; there is no Worker in it; {HOW}",
        ),
        (
            "cli_test_imports:worker",
            1,
            (
                "module 'cli_test_imports' line 1: cannot be imported:"
                " ModuleNotFoundError: No module named 'nosuch_package'"
            ),
        ),
        (
            "cli_test_exits:worker",
            1,
            ("module 'cli_test_exits' line 2: cannot be imported: SystemExit: bye"),
        ),
        (
            "cli_test_runs:worker",
            1,
            (
                "module 'cli_test_runs' line 3: cannot be imported: ConfigError: `worker.run()`"
                " is called while its module is imported for its worker;"
                ' write it below `if __name__ == "__main__":`'
            ),
        ),
    ],
)
def test_a_wrong_worker_is_explained(
    run: Run, tmp_path: Path, spec: str, code: int, fault: str
) -> None:
    (tmp_path / "cli_test_worker.py").write_text(MODULE)
    (tmp_path / "cli_test_empty.py").write_text("")
    (tmp_path / "cli_test_imports.py").write_text("import nosuch_package\n")
    (tmp_path / "cli_test_exits.py").write_text("import sys\nsys.exit('bye')\n")
    runs = "from avtomatika_trio.worker import Worker\nworker = Worker()\nworker.run()\n"
    (tmp_path / "cli_test_runs.py").write_text(runs)
    ran = run("worker", "run", spec)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == f"avtomatika: {fault}\n"


def test_a_module_that_is_not_there(run: Run, tmp_path: Path) -> None:
    ran = run("worker", "run", "nosuch:worker")
    assert ran.code == Exit.USAGE
    assert ran.err == (
        f"avtomatika: there is no module 'nosuch' in {tmp_path} nor among what is installed;"
        f" {HOW}\n"
    )


def test_a_line_is_that_of_the_users_file_alone(run: Run, tmp_path: Path) -> None:
    """Ours are called `_worker.py`, too, and are on the way of every import."""
    (tmp_path / "worker.py").write_text("def f(:\n")
    ran = run("worker", "run", "worker:worker")
    assert ran.code == Exit.FAILED
    assert ran.err == (
        "avtomatika: module 'worker': cannot be imported: SyntaxError: invalid syntax"
        " (worker.py, line 1)\n"
    )


def test_modules_of_the_working_directory_are_found(tmp_path: Path) -> None:
    (tmp_path / "cli_test_sub").mkdir()
    (tmp_path / "cli_test_sub" / "cli_test_worker.py").write_text(MODULE)
    assert isinstance(import_worker("cli_test_sub.cli_test_worker:other"), Worker)


def test_what_is_typed_outweighs_code_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_TASKS", "2")
    monkeypatch.setenv("TASK_POLL_TIMEOUT", "7")
    options = parse(["worker", "run", "m:w", "--slots", "4", "--id", "w-1", "--health-port", "off"])
    settings = _settle(Worker(max_concurrent_tasks=3), options)
    assert (settings.max_concurrent_tasks, settings.worker_id) == (4, "w-1")
    assert (settings.health_port, settings.poll_timeout_seconds) == (None, 7)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_form_of_the_log_can_be_typed(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json" if form == "text" else "text")
    options = parse(["worker", "run", "m:w", "--log-format", form])
    assert _settle(Worker(), options).log_format == form


def test_ready_made_settings_are_outweighed_too() -> None:
    ready_made = Worker().configure()
    options = parse(["worker", "run", "m:w", "--slots", "4"])
    assert _settle(Worker(settings=ready_made), options).max_concurrent_tasks == 4


def test_a_wrong_option_is_named() -> None:
    options = parse(["worker", "run", "m:w", "--slots", "many", "--orchestrator-url", "h"])
    with pytest.raises(ConfigError) as caught:
        _settle(Worker(), options)
    assert caught.value.problems == (
        (
            "--orchestrator-url: [0]: 'h' does not begin with http:// or https://; give"
            " http://HOST:PORT or https://HOST:PORT, without credentials, query and fragment;"
            " give an address, or a list of them"
        ),
        "--max-concurrent-tasks: 'many' is not a whole number; give a whole number from 1 to 10000",
    )


def test_the_settings_file_is_the_one_that_was_named(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("max_concurrent_tasks = 5\n")
    options = parse(["worker", "run", "m:w", "--config", "my.toml"])
    assert _settle(Worker(), options).max_concurrent_tasks == 5
    assert os.environ["AVTOMATIKA_CONFIG"] == "my.toml"


def test_a_generated_token_is_for_orchestrators_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "avtomatika.tokens").write_text(
        '{"client_token": "client-secret", "worker_token": "worker-secret"}'
    )
    addresses = ["http://localhost:1", "http://192.0.2.1:8080", "http://127.0.0.1:2"]
    options = parse(["worker", "run", "m:w", *(f"--orchestrator-url={it}" for it in addresses)])
    found = _settle(Worker(), options)
    tokens = [found.token_of(target) for target in found.orchestrators]
    assert [target.url for target in found.orchestrators] == addresses
    assert [None if it is None else it.reveal() for it in tokens] == [
        TOKENS.worker_token,
        None,
        TOKENS.worker_token,
    ]


def test_a_token_that_was_given_is_shown_to_all_that_have_none_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKER_TOKEN", "given")
    config = '["http://localhost:1", {"url": "http://192.0.2.1:8080", "token": "own"}]'
    monkeypatch.setenv("ORCHESTRATORS_CONFIG", config)
    found = _settle(Worker(), parse(["worker", "run", "m:w"]))
    tokens = [found.token_of(target) for target in found.orchestrators]
    assert tokens == [Secret("given"), Secret("own")]


def test_half_a_configuration_of_s3_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cli_test_half.py").write_text(MODULE)
    monkeypatch.setenv("S3_BUCKET", "results")
    ran = run("worker", "run", "cli_test_half:worker", "--health-port", "off")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "S3 is used since S3_BUCKET is set, but S3_ACCESS_KEY is missing" in ran.err
    assert "S3_SECRET_KEY is missing" in ran.err
