"""Blueprints are found in folders, files and modules; what is wrong names where it is."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avtomatika_trio import Blueprint
from avtomatika_trio.errors import BlueprintError
from avtomatika_trio.orchestrator._registry import Blueprints, endpoints_of, load_blueprints

ONE = """
from avtomatika_trio import Blueprint

{name} = Blueprint("{name}"{more})
alias = {name}

@{name}.handler(is_start=True)
def start(actions):
    actions.go_to("done")

@{name}.handler(is_end=True)
def done():
    return None
"""


def source(name: str, more: str = "") -> str:
    """A module with one blueprint, under two names."""
    return ONE.format(name=name, more=more)


def loaded(source: str | Path) -> list[str]:
    return [blueprint.name for blueprint in load_blueprints(str(source))]


@pytest.fixture(autouse=True)
def forget_modules() -> Iterator[None]:
    """What a test imports is gone after it."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def make(name: str, endpoint: str | None = None) -> Blueprint:
    blueprint = Blueprint(name, api_endpoint=endpoint)

    @blueprint.handler(is_start=True, is_end=True)
    def only() -> None: ...

    return blueprint


def test_a_folder_gives_the_blueprints_of_its_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(source("second"))
    (tmp_path / "a.py").write_text(source("first"))
    (tmp_path / "_shared.py").write_text("raise RuntimeError('not for import')")
    (tmp_path / "notes.txt").write_text("nothing")
    assert loaded(tmp_path) == ["first", "second"]


def test_a_file_gives_its_blueprints_each_once(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(source("first") + source("second"))
    assert loaded(file) == ["first", "second"]


def test_a_module_is_imported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_blueprints"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(source("found"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert loaded("my_blueprints.inner") == ["found"]


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(BlueprintError, match=r"no \*\.py file") as caught:
        load_blueprints(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 +", "SyntaxError"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("x = '\0'", "null bytes"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(BlueprintError) as caught:
        load_blueprints(str(tmp_path))
    assert caught.value.blueprint == str(file)
    assert reason in str(caught.value)


def test_a_malformed_blueprint_in_a_file_keeps_its_own_message(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(source("good", ", api_endpoint='no slash'"))
    with pytest.raises(BlueprintError, match="api_endpoint is a path") as caught:
        load_blueprints(str(file))
    assert caught.value.blueprint == "good"


def test_what_is_neither_folder_file_nor_module_is_told() -> None:
    with pytest.raises(BlueprintError, match="neither a folder, a file nor a module") as caught:
        load_blueprints("no_such_module_anywhere")
    assert caught.value.blueprint == "no_such_module_anywhere"


def test_a_module_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_at_once.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BlueprintError, match="ZeroDivisionError") as caught:
        load_blueprints("raises_at_once")
    assert caught.value.blueprint == "raises_at_once"


def test_blueprints_are_found_by_name_and_by_endpoint() -> None:
    first, second = make("first", "/resize/now"), make("second")
    known = Blueprints([first, second])
    assert list(known) == [first, second]
    assert len(known) == 2
    assert known.get("first") is first
    assert known.get("third") is None
    assert known.at("/resize/now") is first
    assert known.at("/jobs/first") is first
    assert known.at("/jobs/second") is second
    assert known.at("/jobs/third") is None


def test_an_endpoint_that_is_that_of_its_name_is_listed_once() -> None:
    assert endpoints_of(make("first", "/jobs/first")) == ("/jobs/first",)
    assert endpoints_of(make("first")) == ("/jobs/first",)
    assert endpoints_of(make("first", "/a")) == ("/a", "/jobs/first")


def test_two_blueprints_of_one_name_are_refused() -> None:
    with pytest.raises(BlueprintError, match="two blueprints of this name"):
        Blueprints([make("first"), make("first")])


@pytest.mark.parametrize("endpoint", ["/same", "/jobs/first"])
def test_two_blueprints_at_one_endpoint_are_refused(endpoint: str) -> None:
    first = make("first", "/same")
    with pytest.raises(BlueprintError, match="is also that of 'first'") as caught:
        Blueprints([first, make("second", endpoint)])
    assert caught.value.blueprint == "second"


def test_a_blueprint_that_is_not_usable_is_refused() -> None:
    with pytest.raises(BlueprintError) as caught:
        Blueprints([Blueprint("empty")])
    assert caught.value.blueprint == "empty"
