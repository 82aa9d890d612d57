"""Files in JSON: where params name them, where results do, and what they are called locally."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from avtomatika_trio._core.json_values import MAX_DEPTH
from avtomatika_trio.blobs import Blob, Location
from avtomatika_trio.errors import BlobRefused

#: What is JSON is not nested more deeply.
_MOST_LEVELS = MAX_DEPTH + 2

#: Of one name, in bytes, on the file systems in use.
_LONGEST_NAME = 255


def leaves_in(value: Any, depth: int = 0) -> Iterator[Any]:
    """Everything in *value* that is neither a dict nor a list.

    Raises:
        ValueError: it is nested too deeply, perhaps in itself.
    """
    if depth > _MOST_LEVELS:
        raise ValueError("nested too deeply")
    if isinstance(value, dict | list | tuple):
        for it in value.values() if isinstance(value, dict) else value:
            yield from leaves_in(it, depth + 1)
    else:
        yield value


def with_texts(value: Any, change: Callable[[Any], Any], depth: int = 0) -> Any:
    """A copy of *value* in which every leaf is what *change* makes of it.

    Raises:
        ValueError: it is nested too deeply, perhaps in itself.
    """
    if depth > _MOST_LEVELS:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {key: with_texts(it, change, depth + 1) for key, it in value.items()}
    if isinstance(value, list | tuple):
        return [with_texts(it, change, depth + 1) for it in value]
    return change(value)


class LocalNames:
    """Names in one folder, none of them twice."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name_for(self, at: Location) -> str:
        """The last part of the key, or that with a number before it if it is taken."""
        wanted = at.name.replace("\0", "_")
        wanted = "file" if wanted in {"", ".", ".."} else _shortened(wanted)
        name, number = wanted, 1
        # Names that differ in case only are one on some file systems.
        while name.casefold() in self._taken:
            number += 1
            start = f"{number}-"
            name = start + _shortened(wanted, _LONGEST_NAME - len(start))
        self._taken.add(name.casefold())
        return name


def relative_names(folder: Location, blobs: Iterable[Blob]) -> Mapping[str, Blob]:
    """Where each blob of *folder* goes below it; a name that ends in `/` is a folder.

    Raises:
        BlobRefused: a key cannot be the path of a file, or two cannot be side by side.
    """
    found: dict[str, Blob] = {}
    for blob in blobs:
        name = blob.location.key.removeprefix(folder.key)
        if not name:
            continue  # the mark of the folder itself
        parts = name.removesuffix("/").split("/")
        for part in parts:
            if part in {"", ".", ".."} or "\0" in part or len(os.fsencode(part)) > _LONGEST_NAME:
                raise BlobRefused(blob.uri, f"a part of its key cannot be a file name: {part!r}")
        found[name] = blob
    for name in found:
        for at, letter in enumerate(name):
            if letter == "/" and name[:at] in found:
                uri = found[name[:at]].uri
                raise BlobRefused(uri, f"it cannot be a file and the folder of {name!r} at once")
    return found


def _shortened(name: str, most: int = _LONGEST_NAME) -> str:
    """*name* in *most* bytes, with its end kept, which tells what sort of file it is."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= most else encoded[-most:].decode(errors="ignore")
