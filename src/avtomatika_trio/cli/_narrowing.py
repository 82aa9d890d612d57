"""Options that say which jobs: labels and times, read from the command line."""

import argparse
import re
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from avtomatika_trio.cli._exits import CommandError, Exit

#: As an orchestrator takes it.
_LABEL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def label(text: str) -> tuple[str, str]:
    """`key=value` as a pair.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not a label; give one like team=video")
    if not _LABEL_NAME.fullmatch(key):
        choice = "give 1 to 64 letters of ASCII, digits, `_`, `.` or `-` before the ="
        raise argparse.ArgumentTypeError(f"{key!r} is no name of a label; {choice}")
    return key, value


def point_in_time(text: str) -> datetime:
    """A point in time in RFC 3339, or a day in UTC.

    Raises:
        argparse.ArgumentTypeError: it is neither, or names no offset from UTC.
    """
    try:
        whole = f"{text}T00:00:00Z" if len(text) == len("2026-01-31") else text
        found = datetime.fromisoformat(whole)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        remedy = "give one like 2026-01-31T12:00:00Z, or a day like 2026-01-31"
        raise argparse.ArgumentTypeError(f"{text!r} is not a point in time; {remedy}")
    return found


def given(options: Namespace, *names: str) -> dict[str, Any]:
    """Those of the options *names* that were given; labels as a dict.

    Raises:
        CommandError: a label is given twice.
    """
    told = {name: getattr(options, name) for name in names}
    return {
        name: _once(value) if name == "labels" else value
        for name, value in told.items()
        if value is not None
    }


def _once(labels: Sequence[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in labels:
        if found.setdefault(name, value) != value:
            both = f"{found[name]!r} and {value!r}"
            fault = f"--label: {name!r} is given as {both}; a job has one value of a label"
            raise CommandError(Exit.USAGE, f"{fault}: give it once")
    return found
