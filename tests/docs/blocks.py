"""The fenced blocks of the docs, and the shell in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,}|:{3,})(?P<info>.*)")


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block."""

    page: str
    """Its path in the repository."""
    line: int
    """Of what is in it, the first one."""
    info: str
    """What is behind the fence: a language, or a directive."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def language(self) -> str:
        """Of code; empty for a directive, which Sphinx carries out."""
        return "" if self.info.startswith("{") else self.info.partition(" ")[0] or "(none)"

    @property
    def first(self) -> str:
        """Its first line that is no comment: what tables of tests call it by."""
        lines = (line for line in self.text.splitlines() if not line.startswith("#"))
        return next(lines, "")


def read_blocks(page: Path) -> Iterator[Block]:
    """The blocks of *page*, in order.

    Raises:
        ValueError: one has no end.
    """
    lines = iter(enumerate(page.read_text("utf-8").splitlines(), start=1))
    for number, line in lines:
        opened = _FENCE.fullmatch(line)
        if opened is None:
            continue
        indent, end = len(opened["indent"]), opened["fence"]
        inside: list[str] = []
        for _, inner in lines:
            if inner.strip() == end:
                break
            inside.append(inner[indent:])
        else:
            raise ValueError(f"{page}:{number}: the block has no end")
        yield Block(
            page=str(page.relative_to(ROOT)),
            line=number + 1,
            info=opened["info"].strip(),
            text="".join(f"{it}\n" for it in inside),
        )


BLOCKS = tuple(block for page in PAGES for block in read_blocks(page))


def typed_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """What is entered at a time - a line, or several if quotes do so - and its words.

    Lines with nothing but a comment are left out.
    """
    waiting = ""
    for line in text.splitlines(keepends=True):
        waiting += line
        lexer = shlex.shlex(waiting, posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # within quotes
            continue
        if words:
            yield waiting.rstrip("\n"), words
        waiting = ""
    if waiting:
        raise ValueError(f"a quotation has no end: {waiting!r}")


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell script.

    What follows a pipe is a command of its own; redirections are left out.
    """
    for _, words in typed_in(text):
        yield from _split(words)


def _split(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    is_file = False
    for word in words:
        if set(word) <= set("|;&<>"):
            is_file = bool(set(word) & set("<>"))
            if not is_file:
                yield command
                command = []
        elif not is_file:
            command.append(word)
    if command:
        yield command
