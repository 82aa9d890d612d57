"""How wide a text is where every character takes one column or two, or none."""

import unicodedata


def width_of(text: str) -> int:
    """The columns that *text* takes: East Asian characters two, combining ones none.

    >>> width_of("日本"), width_of("e\\u0301"), width_of("abc")
    (4, 1, 3)
    """
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
