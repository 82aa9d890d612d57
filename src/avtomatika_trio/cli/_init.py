"""`avtomatika init`: a project that runs at once."""

import re
import unicodedata
from argparse import Namespace
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._output import note, print_line

_SUFFIX = ".in"

#: What a file is called there, where that would mean something here.
_NAMES = {"gitignore": ".gitignore"}

#: What names of Python projects look like.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")

_NEXT = """\
next, in {folder}:
  pytest                                  # the test needs nothing that runs; pip install pytest
  avtomatika serve                        # in a terminal of its own
  avtomatika worker run worker:worker     # in another
  avtomatika job submit greetings --data '{{"name": "Ada"}}' --wait"""


def run(options: Namespace) -> int:
    """Write the files, and tell what to do next.

    Raises:
        CommandError: one of them is there already, a name is none, or they cannot be written.
    """
    if not options.folder:
        raise CommandError(Exit.USAGE, "FOLDER is empty; give one, or leave it out for this one")
    folder = Path(options.folder)
    texts = {
        folder / path: text.replace("@NAME@", _name(options.name, folder))
        for path, text in _skeleton().items()
    }
    _check_free(folder, texts)
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as exc:
            message = f"{path} cannot be written ({exc.strerror}); give another folder"
            raise CommandError(Exit.FAILED, message) from None
        print_line(str(path))
    note(_NEXT.format(folder=folder.resolve()))
    return Exit.OK


def _name(given: str | None, folder: Path) -> str:
    """The project's name: what was *given*, else what can be made of the folder's."""
    if given is None:
        # Letters lose their accents, not their place.
        plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore")
        made = re.sub("[^a-z0-9]+", "-", plain.decode().lower()).strip("-")
        return made or "jobs"
    if _NAME.fullmatch(given) is None:
        message = (
            f"--name {given!r} cannot be the name of a project: letters, digits, '-', '_' and '.',"
            " with a letter or digit at both ends"
        )
        raise CommandError(Exit.USAGE, message)
    return given


def _check_free(folder: Path, texts: Mapping[Path, str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise CommandError(Exit.CONFLICT, f"{folder} is no folder; give another one")
    there = [str(path) for path in texts if path.exists() or path.is_symlink()]
    if there:
        message = (
            f"nothing was written, since there is already {', '.join(there)};"
            " move that away, or give another folder"
        )
        raise CommandError(Exit.CONFLICT, message)


def _skeleton() -> dict[Path, str]:
    """The text of each file, by its path in the project."""
    return dict(sorted(_below(files("avtomatika_trio.cli") / "skeleton", Path())))


def _below(folder: Traversable, path: Path) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _below(entry, path / entry.name)
        elif entry.name.endswith(_SUFFIX):
            name = entry.name.removesuffix(_SUFFIX)
            found.append((path / _NAMES.get(name, name), entry.read_text("utf-8")))
    return found
