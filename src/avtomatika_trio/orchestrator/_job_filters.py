"""Which jobs a client wants listed, read from the query strictly."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from http import HTTPStatus

from quart import request

from avtomatika_trio._core.arguments import unknown_names
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._wire.messages import LABEL_NAME
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._access import Client
from avtomatika_trio.orchestrator._answers import read_cursor
from avtomatika_trio.orchestrator._client_request import sees_all
from avtomatika_trio.orchestrator._http import HttpProblem
from avtomatika_trio.orchestrator._table_clients import STATUS_ALIASES
from avtomatika_trio.storage._base import JobQuery

_LABEL = "label."

_LABEL_NAME = re.compile(LABEL_NAME)

_ARGUMENTS = (
    "status",
    "blueprint",
    "client",
    "created_after",
    "created_before",
    "cursor",
    "fields",
    "limit",
)

_LISTS = ("fields", "status")

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def read_job_query(client: Client, limit: int) -> JobQuery:
    """Which jobs *client* asks for.

    Args:
        client: Who asks.
        limit: How many to look for.

    Raises:
        InvalidMessage: an argument is malformed, or unknown.
        HttpProblem: 403, they are others' jobs.
    """
    _check_names(request.args.lists())
    cursor = request.args.get("cursor")
    return JobQuery(
        client=_whose(client),
        statuses=_statuses(request.args.get("status")),
        blueprint=request.args.get("blueprint"),
        before=None if cursor is None else read_cursor(cursor),
        labels=_labels(),
        created_after=_time("created_after"),
        created_before=_time("created_before"),
        limit=limit,
    )


def _check_names(given: Iterable[tuple[str, Sequence[str]]]) -> None:
    problems: list[Problem] = []
    for name, values in given:
        if name in _ARGUMENTS or (name.startswith(_LABEL) and name != _LABEL):
            if name.startswith(_LABEL) and not _LABEL_NAME.fullmatch(name.removeprefix(_LABEL)):
                text = "no label has such a name: up to 64 letters, digits, _, . and -"
                problems.append(Problem(f"?{name[:80]}", text))
            if len(values) > 1:
                text = "is given more than once; give it once"
                if name in _LISTS:
                    text += ", with commas between its values"
                problems.append(Problem(f"?{name[:80]}", text))
            continue
        text = unknown_names("the list of jobs", [name[:80]], (*_ARGUMENTS, f"{_LABEL}NAME"))
        problems.append(Problem(f"?{name[:80]}", text))
    if problems:
        raise InvalidMessage(tuple(problems[:20]))


def _labels() -> dict[str, str]:
    return {
        name.removeprefix(_LABEL): value
        for name, value in request.args.items()
        if name.startswith(_LABEL)
    }


def _time(name: str) -> float | None:
    text = request.args.get(name)
    if text is None:
        return None
    try:
        # Other forms of ISO 8601 have no offset, or are no times: they become one that is refused.
        return datetime.fromisoformat(text.upper() if _TIME.fullmatch(text) else "").timestamp()
    except (ValueError, OverflowError):
        fault = (
            f"must be a time with its offset as in 2026-01-31T12:00:00Z, not {text[:40]!r}"
            " (in a query + is written as %2B)"
        )
        raise InvalidMessage((Problem(f"?{name}", fault),)) from None


def _whose(client: Client) -> str | None:
    """Whose jobs are listed: its own; an operator may name another client, or `*`.

    Raises:
        HttpProblem: it may not.
    """
    named = request.args.get("client")
    if named in (None, client.id):
        return None if named is None and client.section is None else client.id
    if not sees_all(client):
        detail = "?client is for operators; others see their own jobs"
        raise HttpProblem(HTTPStatus.FORBIDDEN, "role_missing", detail)
    return None if named == "*" else named


def _statuses(text: str | None) -> frozenset[JobStatus]:
    found: set[JobStatus] = set()
    for name in [] if text is None else text.split(","):
        try:
            found.add(STATUS_ALIASES.get(name) or JobStatus(name))
        except ValueError:
            choices = ", ".join(JobStatus)
            fault = f"there is no status {name[:40]!r}; there are: {choices}"
            raise InvalidMessage((Problem("?status", fault),)) from None
    return frozenset(found)
