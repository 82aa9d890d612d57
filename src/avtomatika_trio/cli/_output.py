"""What commands print: data to stdout, everything else to stderr.

Tables are plain aligned text, on a terminal as in a pipe.  Texts from elsewhere cannot steer
the terminal: control characters are shown, not sent.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from avtomatika_trio._core.text_width import width_of
from avtomatika_trio.cli._exits import CommandError, Exit

#: Columns.  Longer cells would push the columns after them out of sight.
_MOST_IN_CELL = 60

_DAY_SECONDS = 86_400

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def note(text: str = "") -> None:
    """Tell people something: one or more lines on stderr.

    Where nobody can read it any more, the command does what it is for all the same: a worker
    whose terminal or `tee` is gone still has tasks to end.
    """
    if sys.stderr is None:
        return
    try:
        _write(sys.stderr, text)
    except BrokenPipeError:
        _lead_nowhere(sys.stderr)
    except OSError:
        pass  # the disk is full, say; it may have room for the next


def open_missing_streams() -> None:
    """Lead stdin, stdout and stderr nowhere if the process was started without them.

    Nothing else may be opened before: it would get their numbers, and what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for good


def complain(text: str) -> None:
    """Tell people what is wrong."""
    note(f"avtomatika: {text}")


def print_line(text: str, *, as_utf8: bool = False) -> None:
    """One line, or a text of several, to stdout.

    Args:
        text: Without its last line end.
        as_utf8: Write it in UTF-8 whatever stdout is in: documents that say nothing of their
            encoding are so.

    Raises:
        BrokenPipeError: nobody reads it any more.
        CommandError: it cannot be written, to a disk that is full for example.
    """
    try:
        if as_utf8:
            sys.stdout.buffer.write(f"{text}\n".encode("utf-8", "replace"))
            sys.stdout.flush()
        else:
            _write(sys.stdout, text)
    except BrokenPipeError:
        raise
    except OSError as exc:
        discard_output()
        fault = f"the output cannot be written: {exc.strerror}"
        raise CommandError(Exit.FAILED, f"{fault}; send it to another place") from exc


def discard_output() -> None:
    """Lead stdout nowhere: Python flushes it once more at exit, and must be able to."""
    _lead_nowhere(sys.stdout)


def _lead_nowhere(stream: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_utf8(stream: Any) -> bool:
    """Whether *stream* can carry any character."""
    return (stream.encoding or "ascii").lower().replace("-", "") == "utf8"


def print_json(value: Any, *, one_line: bool = False) -> None:
    """*value* to stdout; *one_line* for JSON Lines."""
    # Escapes are needed only where the stream could not carry the characters themselves.
    to_ascii = not is_utf8(sys.stdout)
    print_line(json.dumps(value, ensure_ascii=to_ascii, indent=None if one_line else 2))


def print_records(
    output: str, records: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> None:
    """*records* in the format *output*: `json` (one list), `jsonl`, or `table`.

    Args:
        output: As of the option `-o`.
        records: JSON objects; those formats print them whole.
        columns: What a table shows: headings, and the member that is under each.
    """
    if output == "json":
        print_json(list(records))
    elif output == "jsonl":
        for record in records:
            print_json(record, one_line=True)
    else:
        rows = [[record.get(member) for member in columns.values()] for record in records]
        print_line(table(list(columns), rows))


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, whole_last: bool = False
) -> str:
    """Aligned columns; without *rows* just the headings.

    Args:
        headings: Of the columns.
        rows: As many values each as there are headings.
        whole_last: Do not cut the last column, which pushes nothing out of sight.
    """
    lines = [list(headings)]
    for row in rows:
        cells = [cell(value) for value in row]
        if whole_last and row[-1]:
            cells[-1] = printable(row[-1])
        lines.append(cells)
    widths = [max(map(width_of, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(_filled(text, width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _filled(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def listing(pairs: Mapping[str, object]) -> str:
    """One `name  value` a line, the values aligned and whole; what is None is left out."""
    shown = {name: printable(value) for name, value in pairs.items() if value is not None}
    width = max(map(width_of, shown), default=0)
    return "\n".join(f"{_filled(name, width)}  {value}" for name, value in shown.items())


def cell(value: object) -> str:
    """*value* as it stands in a table: on one line, and not long."""
    text = "-" if value is None or value == "" else printable(value)
    if width_of(text) <= _MOST_IN_CELL:
        return text
    text = text[:_MOST_IN_CELL]
    while width_of(text) > _MOST_IN_CELL - 3:
        text = text[:-1]
    return f"{text}..."


def printable(value: object) -> str:
    """*value* on one line: texts as they are, other things as JSON, control characters shown."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def age(seconds: float) -> str:
    """How long ago something was, in a unit of which it is two or more; the future is now."""
    for unit, length in (("d", _DAY_SECONDS), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{int(max(0.0, seconds))} s"


def _write(stream: Any, text: str) -> None:
    encoding = stream.encoding or "ascii"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
