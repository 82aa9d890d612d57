"""`avtomatika check`: the settings as they stand."""

from pathlib import Path

import pytest
from tests.cli.commands import Run

from avtomatika_trio.cli import Exit


def test_every_setting_is_shown_with_its_source(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_PORT", "9000")
    monkeypatch.setenv("WORKER_TOKEN", "very-secret")
    (tmp_path / "avtomatika.toml").write_text("[worker]\nmax_concurrent_tasks = 3\n")
    ran = run("check", "-o", "json")
    assert (ran.code, ran.json["problems"], ran.json["warnings"]) == (Exit.OK, [], [])
    entries = {
        (program, entry["name"]): (entry["value"], entry["source"])
        for program in ("orchestrator", "worker")
        for entry in ran.json[program]
    }
    assert entries["orchestrator", "API_PORT"] == ("9000", "environment API_PORT")
    assert entries["orchestrator", "GLOBAL_WORKER_TOKEN"] == ("***", "environment WORKER_TOKEN")
    assert entries["worker", "MAX_CONCURRENT_TASKS"] == ("3", "avtomatika.toml line 2")
    assert entries["worker", "TASK_POLL_TIMEOUT"] == ("30.0", "default")


def test_a_table_for_people(run: Run) -> None:
    ran = run("check")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["PROGRAM", "SETTING", "VALUE", "SOURCE"]
    rows = [line.split() for line in lines]
    assert ["orchestrator", "STORAGE_URL", "sqlite:avtomatika.db", "default"] in rows
    assert ran.err == "settings file: none\n"


def test_all_problems_are_told_at_once_and_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_PORT", "many")
    monkeypatch.setenv("HEARTBEAT_INTERVAL", "-1")
    monkeypatch.setenv("AVTOMATIKA_API_PROT", "1")
    (tmp_path / "my.toml").write_text("log_levle = 'INFO'\n")
    ran = run("check", "--config", "my.toml")
    assert ran.code == Exit.USAGE
    assert "(malformed)" in ran.out
    assert ran.err == (
        "settings file: my.toml\n"
        "warning: AVTOMATIKA_API_PROT is not a setting and is ignored;"
        " did you mean 'API_PORT'?\n"
        "avtomatika: my.toml line 1: unknown key 'log_levle'; did you mean 'log_level'?\n"
        "avtomatika: API_PORT: 'many' is not a whole number;"
        " give a whole number from 0 to 65535\n"
        "avtomatika: HEARTBEAT_INTERVAL: -1.0 is out of range;"
        " give a number of seconds from 0.1 to 1200\n"
    )


def test_a_settings_file_that_is_not_there(run: Run) -> None:
    ran = run("check", "--config", "nosuch.toml")
    assert ran.code == Exit.USAGE
    assert (
        "avtomatika: 'nosuch.toml': cannot be read (No such file or directory);"
        " give the path of a TOML file, or unset AVTOMATIKA_CONFIG\n"
    ) in ran.err


def test_files_of_credentials_are_checked_too(run: Run) -> None:
    Path("workers.toml").write_text("[w1]\ntokn = 5\n")
    ran = run("check")
    assert ran.code == Exit.USAGE
    assert "workers.toml line 2, tokn: is an unknown key; did you mean 'token'?" in ran.err
