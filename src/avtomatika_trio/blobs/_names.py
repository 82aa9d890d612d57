"""Which names files may have: such as clients, folders, S3 and XML all can tell."""

import unicodedata

LONGEST_NAME = 512
"""In bytes of UTF-8: S3 allows 1,024 for the whole key."""

#: What a folder of the usual systems can keep as the name of one file.
_LONGEST_PART = 255

#: Categories of Unicode: controls, surrogates, separators of lines and of paragraphs.
_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})


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
