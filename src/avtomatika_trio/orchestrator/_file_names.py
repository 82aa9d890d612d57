"""Names of a job's files: where they are among all files, and which names there cannot be.

Everything of a job is at `jobs/<job id>/`; a name is the rest of the key.  What workers have
put there begins with the id of their attempt.
"""

import unicodedata

from avtomatika_trio.blobs import Location
from avtomatika_trio.errors import InvalidMessage, Problem

ALL_JOBS = "jobs/"
"""Where the files of all jobs are."""

LONGEST_NAME = 512
"""In bytes of UTF-8: S3 allows 1,024 for the whole key."""

#: What a folder of the usual systems can keep as the name of one file.
_LONGEST_PART = 255

#: Categories of Unicode: controls, surrogates, separators of lines and of paragraphs.
_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def folder_of(bucket: str, job_id: str) -> Location:
    """Where everything of the job is."""
    return Location(bucket, f"{ALL_JOBS}{job_id}/")


def fault_of(name: str) -> str | None:
    """What is wrong with *name* as the name of a file; None: nothing.

    >>> fault_of("frames/0001.png")
    >>> fault_of("../other")
    "has a part that is '..'"
    """
    if not name:
        return "is empty"
    if any(unicodedata.category(it) in _NOT_IN_NAMES for it in name):
        return "has characters that are no text: controls, ends of lines, halves of pairs"
    if "\\" in name:
        return "has a backslash; folders are separated by /"
    parts = name.split("/")
    if "" in parts:
        return "begins or ends with /, or has two of them in a row"
    for part in parts:
        if part in {".", ".."}:
            return f"has a part that is {part!r}"
        if len(part.encode()) > _LONGEST_PART:
            return f"has a part of more than {_LONGEST_PART} bytes"
    if len(name.encode()) > LONGEST_NAME:
        return f"has more than {LONGEST_NAME} bytes"
    return None


def check_name(name: str, path: str) -> None:
    """Refuse a request with a name that there cannot be.

    Args:
        name: As it was asked for.
        path: How a request calls it, such as `?filename`.

    Raises:
        InvalidMessage: it is such a name.
    """
    fault = fault_of(name)
    if fault is not None:
        shown = ascii(name if len(name) <= 100 else name[:100] + "...")
        raise InvalidMessage((Problem(path, f"{shown} {fault}"),))
