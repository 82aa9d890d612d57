"""What the demo counts in Python source, on made files with known numbers and on the real thing."""

import json
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from avtomatika_trio.demo._audit import COUNTS, audit, list_stdlib, merge
from avtomatika_trio.errors import InvalidInput


def write(path: Path, source: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, str):
        source = dedent(source).lstrip().encode()
    path.write_bytes(source)


def audit_of(tmp_path: Path, source: str | bytes) -> dict[str, Any]:
    write(tmp_path / "sample.py", source)
    return audit("sample", tmp_path)


def row(name: str, *, lines: int = 1, longest: tuple[str, int] | None = None) -> dict[str, Any]:
    function = None if longest is None else {"name": longest[0], "lines": longest[1]}
    return {"name": name, **dict.fromkeys(COUNTS, 1), "lines": lines, "longest_function": function}


def test_a_package_is_counted_in_all_its_files(tmp_path: Path) -> None:
    write(tmp_path / "zoo" / "__init__.py", '"""Animals."""\n')
    write(
        tmp_path / "zoo" / "cats.py",
        '''
        class Cat:
            """Purrs."""

            def purr(self):  # TODO: louder
                """Once."""

                async def inner():
                    return "TODO: not a comment"

                return inner

            def _hide(self): ...

        if True:
            async def feed(): ...
        ''',
    )
    write(tmp_path / "zoo" / "deep" / "broken.py", "def (:\n")
    write(tmp_path / "zoo" / "deep" / "__init__.py", "")
    write(tmp_path / "zoo" / "__pycache__" / "cats.cpython-311.pyc", b"\0")
    write(tmp_path / "zoo" / "notes.txt", "TODO")

    assert audit("zoo", tmp_path) == {
        "name": "zoo",
        "files": 4,
        "unparsed": 1,
        "lines": 16,
        "functions": 4,
        "classes": 1,
        "longest_function": {"name": "zoo.cats:Cat.purr", "lines": 7},
        "documented": 3,  # the package, Cat, purr; ...
        "documentable": 5,  # ... not the module cats, nor feed
        "todos": 1,
    }


def test_a_module_is_counted_alone_and_a_package_goes_before_it(tmp_path: Path) -> None:
    write(tmp_path / "zoo.py", "x = 1\n")
    write(tmp_path / "zookeeper.py", "y = 2\nz = 3\n")
    assert (audit("zoo", tmp_path)["files"], audit("zoo", tmp_path)["lines"]) == (1, 1)

    write(tmp_path / "zoo" / "__init__.py", "a = 1\nb = 2\nc = 3\n")
    assert audit("zoo", tmp_path)["lines"] == 3


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("def (:\n", id="syntax"),
        pytest.param("if x:\ny\n", id="indentation"),
        pytest.param(b"x = '\xff'\n", id="not utf-8"),
        pytest.param("# -*- coding: martian -*-\n", id="unknown coding"),
        pytest.param(b"x = 1\0\n", id="null byte"),
        pytest.param("x = " + "(" * 5000 + ")" * 5000, id="too deep for the tokeniser"),
        pytest.param("x = " + "-" * 50_000 + "1\n", id="too deep for the parser"),
    ],
)
def test_a_file_that_does_not_parse_counts_as_a_file_only(
    tmp_path: Path, source: str | bytes
) -> None:
    assert audit_of(tmp_path, source) == {
        "name": "sample",
        **dict.fromkeys(COUNTS, 0),
        "files": 1,
        "unparsed": 1,
        "longest_function": None,
    }


def test_a_coding_cookie_is_obeyed(tmp_path: Path) -> None:
    result = audit_of(
        tmp_path, "# -*- coding: latin-1 -*-\nname = 'café'  # XXX\n".encode("latin-1")
    )
    assert (result["unparsed"], result["lines"], result["todos"]) == (0, 2, 1)


@pytest.mark.parametrize(
    ("source", "lines"),
    [("", 0), ("x", 1), ("x\n", 1), ("x\n\f\ny\n", 3), (b"x\r\ny\r\n", 2), (b"\xef\xbb\xbfx\n", 1)],
)
def test_lines_end_where_an_editor_ends_them(
    tmp_path: Path, source: str | bytes, lines: int
) -> None:
    assert audit_of(tmp_path, source)["lines"] == lines


def test_only_markers_in_comments_are_counted_once_for_each_comment(tmp_path: Path) -> None:
    result = audit_of(
        tmp_path,
        '''
        # TODO and FIXME in one comment
        a = "# TODO"
        b = 1  # see XXX
        """
        # FIXME
        """
        # TODOs and XXXL are other words
        ''',
    )
    assert result["todos"] == 2


def test_definitions_are_found_in_every_kind_of_block(tmp_path: Path) -> None:
    result = audit_of(
        tmp_path,
        """
        for x in y:
            def a(): ...
        else:
            def b(): ...
        try:
            def c(): ...
        except E:
            def d(): ...
        finally:
            def e(): ...
        with z:
            def f(): ...
        match z:
            case 1:
                def g(): ...
        h = lambda: 0
        """,
    )
    assert result["functions"] == 7


def test_what_is_private_or_inside_a_function_needs_no_docstring(tmp_path: Path) -> None:
    result = audit_of(
        tmp_path,
        '''
        """A module."""
        class _Private:
            def method(self): ...
        class Public:
            def __init__(self): ...
            class Inner:
                def method(self): "yes"
        def function():
            """   """
            class Local: ...
        ''',
    )
    # due: the module, Public, Public.Inner, Public.Inner.method, function
    assert (result["documented"], result["documentable"]) == (2, 5)


def test_of_two_longest_functions_the_first_by_name_is_named(tmp_path: Path) -> None:
    result = audit_of(
        tmp_path,
        """
        def b():
            def c():
                return 1
        class A:
            @decorated
            def z(self):
                return 1

        def a():
            x = 1
            return x
        """,
    )
    assert result["longest_function"] == {"name": "sample:a", "lines": 3}


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads take turns so often that a race, if there is one, shows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
def test_odd_sources_warn_nobody_and_leave_the_filters_alone(tmp_path: Path) -> None:
    write(tmp_path / "odd.py", "x = '\\d'\n")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:  # warnings are errors in these tests
        results = list(threads.map(lambda _: audit("odd", tmp_path), range(5000)))
    assert sum(result["unparsed"] for result in results) == 0
    assert list(warnings.filters) == before


@pytest.mark.parametrize("name", ["", "..", "a.b", "../json", "json/../os", "/etc", "a\\b", "a b"])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="without dots and slashes"):
        audit(name, tmp_path)


def test_an_unknown_name_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for name in ("nothing", "bare"):
        with pytest.raises(InvalidInput, match=f"no Python source for '{name}'"):
            audit(name, tmp_path)


def test_a_made_folder_lists_its_packages_and_modules(tmp_path: Path) -> None:
    for path in ("zoo/__init__.py", "ant.py", "test/__init__.py", "not-a-name.py", "data/x.py"):
        write(tmp_path / path, "")
    assert list_stdlib(tmp_path) == ["ant", "zoo"]


def test_a_folder_without_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no Python source"):
        list_stdlib(tmp_path)


def test_the_standard_library_is_about_200_names() -> None:
    names = list_stdlib()
    assert 150 <= len(names) <= 260
    assert names == sorted(set(names))
    assert {"asyncio", "json", "this", "typing"} <= set(names)
    assert not {"test", "site-packages", "sys", "pytest", "trio"} & set(names)


def test_the_real_json_package_is_measured() -> None:
    result = audit("json")
    assert result["files"] >= 5
    assert result["unparsed"] == 0
    assert result["lines"] > 1000
    assert 0 < result["documented"] <= result["documentable"]
    assert result["longest_function"]["name"].startswith("json.")


def test_another_process_finds_the_same_to_the_byte() -> None:
    names = ["json", "email", "re"]
    program = (
        "import json; from avtomatika_trio.demo._audit import audit; "
        f"print(json.dumps([audit(name) for name in {names}]))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert elsewhere.stdout.rstrip("\n") == json.dumps([audit(name) for name in names])


def test_merging_adds_up_and_sorts_whatever_the_order() -> None:
    rows = [
        row("b", lines=5, longest=("b:f", 3)),
        row("c", lines=9, longest=("c:g", 4)),
        row("a", lines=5, longest=("a:h", 4)),
        row("d", lines=0),
    ]
    summary = merge(rows)
    assert summary == {
        "names": 4,
        **dict.fromkeys(COUNTS, 4),
        "lines": 19,
        "longest_function": {"name": "a:h", "lines": 4},
        "rows": [rows[1], rows[2], rows[0], rows[3]],
    }
    shuffled = random.Random(7).sample(rows, len(rows))
    assert json.dumps(merge(shuffled)) == json.dumps(summary)


def test_merging_nothing_gives_zeros() -> None:
    nothing: dict[str, Any] = {
        "names": 0,
        **dict.fromkeys(COUNTS, 0),
        "longest_function": None,
        "rows": [],
    }
    assert merge([]) == nothing


def test_a_name_given_twice_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="'json' is counted twice"):
        merge([row("json"), row("os"), row("json")])
