"""The settings file: TOML, read with the line of each key."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import tomli

from avtomatika_trio._config._kinds import in_bytes

CONFIG_VARIABLE = "AVTOMATIKA_CONFIG"
"""The variable that names the settings file."""

_DEFAULT_NAME = "avtomatika.toml"
_LARGEST_BYTES = 1024**2


@attrs.frozen(kw_only=True)
class Document:
    """What a settings file says."""

    path: str = ""
    values: Mapping[str, object] = attrs.Factory(dict)
    lines: Mapping[tuple[str, ...], int] = attrs.Factory(dict)
    """The line of each key, by its table (none: the top) and name."""
    problems: tuple[str, ...] = ()

    def place(self, *key: str) -> str:
        """The file and the line of *key*, for people."""
        line = self.lines.get(key)
        return self.path if line is None else f"{self.path} line {line}"

    def table(self, name: str) -> Mapping[str, object]:
        """The keys of the table *name*; of the top where the name is empty."""
        table = self.values.get(name, {}) if name else self.values
        return table if isinstance(table, Mapping) else {}


def find_settings_file(environ: Mapping[str, str], folder: Path = Path()) -> Path | None:
    """The settings file to read when no argument names one.

    Args:
        environ: Where `AVTOMATIKA_CONFIG` may name it.
        folder: Where else `avtomatika.toml` is looked for: the working directory.

    Returns:
        The path that the variable holds, whether or not it exists (loading says so);
        else `avtomatika.toml` if it is there; else nothing.
    """
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    path = folder / _DEFAULT_NAME
    return path if path.exists() else None


def read_document(path: Path, *, largest_bytes: int = _LARGEST_BYTES) -> Document:
    """The TOML file at *path*; what is wrong with it is in `problems`."""
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(largest_bytes + 1)
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or "not a path"
        remedy = f"give the path of a TOML file, or unset {CONFIG_VARIABLE}"
        return Document(path=name, problems=(f"{name!r}: cannot be read ({reason}); {remedy}",))
    if len(content) > largest_bytes:
        problem = (
            f"{name}: larger than {in_bytes(largest_bytes)}; remove what does not belong there"
        )
        return Document(path=name, problems=(problem,))
    try:
        text = content.decode().replace("\r\n", "\n")
        values = tomli.loads(text)
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        return Document(path=name, problems=(f"{name} line {line}: not UTF-8; save it as UTF-8",))
    except tomli.TOMLDecodeError as fault:
        # tomli tells the place and the kind of fault, never a value.
        return Document(path=name, problems=(f"{name}: not TOML: {fault}; correct that place",))
    except (ValueError, RecursionError):
        problem = f"{name}: nested too deep, or a huge number; remove it"
        return Document(path=name, problems=(problem,))
    return Document(path=name, values=values, lines=dict(_lines(text)))


def _lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The line at which each key of the valid TOML *text* stands.

    tomli does not tell lines of keys.  A statement, parsed alone, is valid from the
    line at which it is complete and not before, so statements can be told apart
    without a second parser.
    """
    header: tuple[str, ...] = ()
    begin, statement = 1, ""
    for number, line in enumerate(text.split("\n"), start=1):
        statement += line + "\n"
        try:
            parsed = tomli.loads(statement)
        except (ValueError, RecursionError):
            continue
        if statement.lstrip().startswith("["):
            header = _header(parsed)
            yield header, begin
        else:
            for key, value in parsed.items():
                yield (*header, key), begin
                for inner in value if isinstance(value, dict) else ():
                    yield (*header, key, inner), begin
        begin, statement = number + 1, ""


def _header(parsed: Mapping[str, object]) -> tuple[str, ...]:
    """The name in a table's header: `("a", "b")` of what `[a.b]` parses to."""
    name: tuple[str, ...] = ()
    table: object = parsed
    while isinstance(table, Mapping) and table:
        key, table = next(iter(table.items()))
        name = (*name, key)
    return name
