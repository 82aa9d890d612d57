"""Options that say which jobs: labels and times, read from the command line."""

import argparse
from argparse import Namespace
from datetime import datetime
from typing import Any


def label(text: str) -> tuple[str, str]:
    """`key=value` as a pair.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not a label; give one like team=video")
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
    """Those of the options *names* that were given; labels as a dict."""
    told = {name: getattr(options, name) for name in names}
    return {
        name: dict(value) if name == "labels" else value
        for name, value in told.items()
        if value is not None
    }
