"""`avtomatika init`: a project that is right, and runs."""

import contextlib
import importlib.util
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomli
from tests.cli.commands import Run
from tests.cli.test_processes import line_with, serving, started
from tests.docs.sessions import Exchange
from tests.docs.stage import Stage

from avtomatika_trio.cli import Exit

FILES = {
    ".gitignore",
    "README.md",
    "avtomatika.toml",
    "blueprints/greetings.py",
    "pyproject.toml",
    "tests/test_blueprint.py",
    "worker.py",
}


def files_in(folder: Path) -> set[str]:
    return {str(it.relative_to(folder)) for it in folder.rglob("*") if it.is_file()}


def call(*argv: str) -> str:
    """Run a program of this Python, as in a shell; returns what it has printed."""
    done = subprocess.run(
        [sys.executable, "-m", *argv], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_it_writes_a_project_and_tells_what_to_do_next(run: Run, tmp_path: Path) -> None:
    ran = run("init", "My Films")
    assert ran.code == Exit.OK
    assert files_in(tmp_path / "My Films") == FILES
    assert ran.out.splitlines() == sorted(f"My Films/{name}" for name in FILES)
    assert f"next, in {tmp_path}/My Films:\n  pytest" in ran.err
    project = tomli.loads((tmp_path / "My Films" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "my-films"
    assert [it for it in FILES if "@NAME@" in (tmp_path / "My Films" / it).read_text()] == []


def test_it_is_called_as_one_says(run: Run, tmp_path: Path) -> None:
    assert run("init", "--name", "Films").code == Exit.OK
    assert files_in(tmp_path) == FILES
    assert (tmp_path / "README.md").read_text().startswith("# Films\n")
    assert 'name = "Films"' in (tmp_path / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Über Filme (2)", "uber-filme-2"), ("Ünïcödé", "unicode"), ("映画", "jobs"), ("...x", "x")],
)
def test_a_folder_of_any_name_makes_a_name(
    run: Run, tmp_path: Path, folder: str, name: str
) -> None:
    assert run("init", folder).code == Exit.OK
    project = tomli.loads((tmp_path / folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == name


@pytest.mark.parametrize("name", ["", "-films", 'films"', "two words", "films\n"])
def test_a_name_that_is_none_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    ran = run("init", f"--name={name}")
    assert (ran.code, files_in(tmp_path)) == (Exit.USAGE, set())
    assert "cannot be the name of a project" in ran.err


def test_a_folder_without_a_name_is_refused(run: Run, tmp_path: Path) -> None:
    ran = run("init", "")
    assert (ran.code, files_in(tmp_path)) == (Exit.USAGE, set())
    assert "FOLDER is empty; give one, or leave it out" in ran.err


def test_nothing_is_written_where_one_of_the_files_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("mine")
    (tmp_path / "README.md").symlink_to("nowhere")
    ran = run("init", ".")
    assert ran.code == Exit.CONFLICT
    assert "there is already README.md, worker.py; move that away" in ran.err
    assert files_in(tmp_path) == {"worker.py"}
    assert (tmp_path / "worker.py").read_text() == "mine"


def test_other_files_are_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("mine")
    assert run("init").code == Exit.OK
    assert files_in(tmp_path) == FILES | {"LICENSE"}


def test_where_it_cannot_write_it_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, code, text in (
        ("file", Exit.CONFLICT, "file is no folder; give another one"),
        ("file/below", Exit.FAILED, "cannot be written (Not a directory); give another folder"),
    ):
        ran = run("init", folder)
        assert ran.code == code
        assert text in ran.err


def test_the_project_has_no_faults(run: Run, tmp_path: Path) -> None:
    assert run("init").code == Exit.OK
    assert run("blueprint", "check", "blueprints").code == Exit.OK
    checked = run("check", "-o", "json")
    assert (checked.code, checked.json["problems"], checked.json["warnings"]) == (Exit.OK, [], [])
    by_file = {
        it["field"]
        for program in ("orchestrator", "worker")
        for it in checked.json[program]
        if "avtomatika.toml" in it["source"]
    }
    assert {"blueprints", "storage_url", "orchestrators", "max_concurrent_tasks"} <= by_file
    call("ruff", "check", "--no-cache", ".")
    call("ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.e2e
def test_its_test_passes_with_nothing_but_pytest(run: Run, tmp_path: Path) -> None:
    assert run("init").code == Exit.OK
    plain = ("-p", "no:trio", "-p", "no:cacheprovider", "-W", "error")
    assert "3 passed" in call("pytest", "-q", *plain)


@pytest.mark.e2e
def test_it_runs_as_its_readme_says(run: Run, tmp_path: Path) -> None:
    assert run("init").code == Exit.OK
    readme = (tmp_path / "README.md").read_text()
    _, serve, work, submit = re.findall(r"^\$ (.*)$", readme, re.MULTILINE)
    assert serve == "avtomatika serve"
    assert work == "avtomatika worker run worker:worker"
    assert submit == 'avtomatika job submit greetings --data \'{"name": "Ada"}\' --wait'
    with serving() as (orchestrator, ready):
        environ = {"ORCHESTRATOR_URL": ready["url"], "WORKER_PORT": "off"}
        with started(*work.split()[1:], environ=environ) as worker:
            line_with(worker.stderr, "works")
            ran = run(
                *("job", "submit", "greetings", "--data", '{"name": "Ada"}', "--wait"),
                *("--url", ready["url"], "--timeout", "30", "-o", "json"),
            )
            assert (ran.code, ran.json["result"]) == (Exit.OK, {"said": "Hello, Ada!"})
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == Exit.OK
        orchestrator.send_signal(signal.SIGTERM)
        assert orchestrator.wait(20) == Exit.OK
    ignored = (tmp_path / ".gitignore").read_text().split()
    assert {"*.tokens", "*.db*", ".avtomatika/"} <= set(ignored)
    names = [it.name for it in tmp_path.iterdir()]
    made = {name for name in names if name not in {it.split("/")[0] for it in FILES}}
    assert made <= {
        "avtomatika.tokens",
        "avtomatika.db",
        "avtomatika.db.lock",
        ".avtomatika",
        "__pycache__",
    }


@pytest.mark.e2e
def test_it_runs_word_for_word(tmp_path: Path) -> None:
    with contextlib.closing(Stage(folder=tmp_path)) as stage:
        here = stage.terminal()
        stage.enter(here, "avtomatika init shop", "cd shop")
        readme = (tmp_path / "shop" / "README.md").read_text()
        test, serve, work, submit = re.findall(r"^\$ (.*)$", readme, re.MULTILINE)
        stage.enter(here, test)
        for command in (serve, work):
            another = stage.terminal()
            stage.enter(another, "cd shop")
            another.type(Exchange(command, "...\navtomatika ... ...s\n"), stays=True)
        here.type(Exchange(submit, '...\nresult     {"said": "Hello, Ada!"}\n'))


@pytest.mark.e2e
def test_the_wheel_has_the_files(tmp_path: Path) -> None:
    if importlib.util.find_spec("hatchling") is None:
        pytest.fail("hatchling, which builds the wheel, is missing: pip install 'hatchling>=1.25'")
    root = Path(__file__).parents[2]
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    below = {it for it in names if it.startswith("avtomatika_trio/cli/skeleton/")}
    assert len(below) == len(FILES)
