"""What the demo's blueprint finds out about Python source: size, shape, docstrings, markers.

Everything here reads files and computes; nothing is imported or run from what is read, nothing
is written, and the same files give the same answer to the byte in every process of the same
Python.  The dictionaries are plain JSON, because they travel as task results.
"""

import ast
import re
import sys
import sysconfig
import threading
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import attrs

from avtomatika_trio.errors import InvalidInput

COUNTS = (
    "files",
    "unparsed",
    "lines",
    "functions",
    "classes",
    "documented",
    "documentable",
    "todos",
)
"""The keys of an audit that are counts; `merge` adds them up."""

LEFT_OUT = frozenset({"test"})
"""CPython's own regression tests: as many lines as all the rest together, missing from many
distributions, and of no interest to somebody who asks what the library is made of."""

_MARKER = re.compile(r"#.*?\b(?:TODO|FIXME|XXX)\b")
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""The fields of a statement that hold further statements: definitions are nowhere else."""

# `warnings.catch_warnings` swaps state of the whole process, so two threads must not overlap in
# it.  Parsing holds the interpreter's lock anyway: waiting here costs no speed.
_parsing = threading.Lock()


@attrs.frozen(kw_only=True)
class _Definition:
    """One `def`, `async def` or `class`."""

    name: str
    """`module:qualified.name`, with `<locals>` as Python itself writes it."""
    lines: int
    is_class: bool
    public: bool
    """Neither it nor a class around it starts with an underscore, and no function is around it."""
    documented: bool


@attrs.frozen(kw_only=True)
class _File:
    """What one file that parses holds."""

    lines: int
    todos: int
    definitions: tuple[_Definition, ...]
    documentable: bool
    """Whether a module docstring could be expected: an empty `__init__.py` needs none."""
    documented: bool


def list_stdlib(root: Path | None = None) -> list[str]:
    """List the standard library's top-level packages and modules that have Python source.

    Args:
        root: A folder to look in instead of the standard library; then every package and module
            in it counts, not only the names that Python lists as its own.

    Returns:
        Names in order, about 200 of them.  Modules written in C have no source to audit;
        `test` is left out (see `LEFT_OUT`); installed packages do not belong to it.

    Raises:
        InvalidInput: No Python source is there, as with a library inside a zip file.
    """
    folder = _stdlib() if root is None else root
    modules = {path.stem for path in folder.glob("*.py") if path.is_file()}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    names = {name for name in modules | packages if name.isidentifier()} - LEFT_OUT
    if root is None:
        names &= sys.stdlib_module_names
    if not names:
        raise InvalidInput(f"root: {folder} has no Python source; name a folder that has")
    return sorted(names)


def audit(name: str, root: Path | None = None) -> dict[str, Any]:
    """Measure one top-level package or module, every `.py` file of it.

    Args:
        name: What one would `import`, without dots.
        root: The folder that holds it; the standard library unless given.

    Returns:
        JSON: `name`; the counts `files`, `unparsed` (files that are not valid Python of this
        version: they count in `files` and in nothing else), `lines`, `functions` (nested ones and
        methods included), `classes`, `documented` of `documentable` (modules that are not empty,
        public classes and public functions), `todos` (comments with TODO, FIXME or XXX); and
        `longest_function`, None or its `name` as `module:qualname` and its `lines`.

    Raises:
        InvalidInput: *name* is not a plain name, or there is no source for it.
        OSError: A file could not be read.
    """
    folder = _stdlib() if root is None else root
    results = [_read(path, module) for path, module in _sources(name, folder)]
    parsed = [file for file in results if file is not None]
    found = [definition for file in parsed for definition in file.definitions]
    functions = [each for each in found if not each.is_class]
    public = [each for each in found if each.public]
    return {
        "name": name,
        "files": len(results),
        "unparsed": len(results) - len(parsed),
        "lines": sum(file.lines for file in parsed),
        "functions": len(functions),
        "classes": len(found) - len(functions),
        "longest_function": _longest(
            {"name": function.name, "lines": function.lines} for function in functions
        ),
        "documented": sum(file.documented for file in parsed)
        + sum(each.documented for each in public),
        "documentable": sum(file.documentable for file in parsed) + len(public),
        "todos": sum(file.todos for file in parsed),
    }


def merge(audits: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up audits, given in any order, into one summary.

    Returns:
        JSON: `names` (how many there are), every count of `COUNTS` in total,
        `longest_function` of all, and `rows`: the audits, most lines first, then by name.

    Raises:
        InvalidInput: The same name comes twice; it would be counted twice.
    """
    rows: dict[str, dict[str, Any]] = {}
    for row in audits:
        if row["name"] in rows:
            raise InvalidInput(f"{row['name']!r} is counted twice; give each name once")
        rows[row["name"]] = row
    ordered = sorted(rows.values(), key=lambda row: (-row["lines"], row["name"]))
    return {
        "names": len(ordered),
        **{count: sum(row[count] for row in ordered) for count in COUNTS},
        "longest_function": _longest(
            row["longest_function"] for row in ordered if row["longest_function"] is not None
        ),
        "rows": ordered,
    }


def _stdlib() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _sources(name: str, folder: Path) -> list[tuple[Path, str]]:
    """The files of *name* in *folder*, each with its dotted module name, in order."""
    # A plain identifier has no separator and no dot, so nothing outside *folder* can be named.
    if not name.isidentifier():
        raise InvalidInput(
            f"name: {name!r} is not the plain name of a top-level package or module; "
            "give one without dots and slashes, as in 'json'"
        )
    package, module = folder / name, folder / f"{name}.py"
    if (package / "__init__.py").is_file():  # import prefers the package, too
        paths = sorted(path for path in package.rglob("*.py") if path.is_file())
    elif module.is_file():
        paths = [module]
    else:
        raise InvalidInput(f"name: there is no Python source for {name!r}; `list_stdlib` has all")
    return [(path, _dotted(path.relative_to(folder))) for path in paths]


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read(path: Path, module: str) -> _File | None:
    """Measure one file; None when it is not valid Python of this version."""
    try:
        with tokenize.open(path) as file:  # obeys coding cookies and byte order marks
            text = file.read()
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes are other people's business
            tree = ast.parse(text)
        todos = _todos(text)
    # ValueError: undecodable, or a null byte.  The last two: nested too deep for the parser.
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError):
        return None
    return _File(
        # Not `splitlines`, which also breaks at form feeds; those are common in old sources.
        lines=text.count("\n") + (not text.endswith("\n") and text != ""),
        todos=todos,
        definitions=tuple(_definitions(tree, module)),
        documentable=bool(tree.body),
        documented=_has_docstring(tree),
    )


def _todos(text: str) -> int:
    """Count the comments that hold a marker; one inside a string is no comment."""
    if not _MARKER.search(text):  # most files: no need to tokenise, which is slow
        return 0
    tokens = tokenize.generate_tokens(StringIO(text).readline)
    return sum(
        token.type == tokenize.COMMENT and _MARKER.match(token.string) is not None
        for token in tokens
    )


def _definitions(tree: ast.Module, module: str) -> Iterator[_Definition]:
    """Every definition of *tree* at any depth, without recursion, in no particular order."""
    waiting: list[tuple[ast.AST, str, bool]] = [(tree, f"{module}:", True)]
    while waiting:
        parent, prefix, public = waiting.pop()
        for node in (node for block in _BLOCKS for node in getattr(parent, block, ())):
            match node:
                case ast.ClassDef():
                    visible = public and not node.name.startswith("_")
                    yield _definition(node, prefix, public=visible)
                    waiting.append((node, f"{prefix}{node.name}.", visible))
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    yield _definition(node, prefix, public=public and node.name[0] != "_")
                    waiting.append((node, f"{prefix}{node.name}.<locals>.", False))
                case _:
                    waiting.append((node, prefix, public))


def _definition(
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, prefix: str, *, public: bool
) -> _Definition:
    assert node.end_lineno is not None, "the parser sets it; only made-up trees lack it"
    return _Definition(
        name=prefix + node.name,
        lines=node.end_lineno - node.lineno + 1,
        is_class=isinstance(node, ast.ClassDef),
        public=public,
        documented=_has_docstring(node),
    )


def _has_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> bool:
    return bool((ast.get_docstring(node, clean=False) or "").strip())


def _longest(functions: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    return min(functions, key=lambda each: (-each["lines"], each["name"]), default=None)
