"""Errors as clients of the routes are told of them: which status, which code, which words."""

import logging
from http import HTTPStatus

import attrs

from avtomatika_trio.errors import (
    AvtomatikaError,
    BlobChanged,
    BlobError,
    BlobMismatch,
    BlobMissing,
    BlobRefused,
    BlobUnavailable,
    DiskFault,
    InvalidMessage,
    JobNotFound,
    Problem,
    StorageUnavailable,
)
from avtomatika_trio.orchestrator._http import HttpProblem, invalid

logger = logging.getLogger(__name__)

#: Sent with every answer of these kinds.  A storage that is away is usually back very soon.
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": 'Bearer realm="avtomatika"'},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": "1"},
}

EXPECTED = (HttpProblem, InvalidMessage, JobNotFound, StorageUnavailable, BlobError)
"""What a route may raise, and `as_problem` knows."""


def as_problem(exc: HttpProblem | AvtomatikaError) -> HttpProblem:
    """The answer to a request that has failed with *exc*, one of `EXPECTED`."""
    match exc:
        case HttpProblem():
            problem = exc
        case InvalidMessage():
            problem = invalid(exc)
        case JobNotFound():
            problem = HttpProblem(HTTPStatus.NOT_FOUND, "job_not_found", str(exc))
        case StorageUnavailable():
            status = HTTPStatus.SERVICE_UNAVAILABLE
            problem = HttpProblem(status, "storage_unavailable", str(exc))
        case BlobError():
            problem = _of_file(exc)
        case _:
            raise AssertionError(f"a route must not raise {exc!r}")
    usual = _HEADERS.get(problem.status, {})
    return attrs.evolve(problem, headers={**usual, **problem.headers})


def _of_file(exc: BlobError) -> HttpProblem:
    """What is wrong with a file; what a server or a disk has said is for the log alone."""
    if isinstance(exc, BlobRefused):
        return invalid(InvalidMessage((Problem("name", exc.reason),)))
    if isinstance(exc, BlobMissing):
        return HttpProblem(HTTPStatus.NOT_FOUND, "file_not_found", f"there is no {exc.uri}")
    logger.warning("a request for a file has failed: %s", exc)
    log = "the orchestrator's log has the reason"
    match exc:
        case DiskFault():
            detail = f"{exc.uri}: the orchestrator's disk is full, or fails; {log}"
            return HttpProblem(HTTPStatus.INSUFFICIENT_STORAGE, "disk_full", detail)
        case BlobUnavailable() | BlobChanged() | BlobMismatch():
            detail = f"{exc.uri} cannot be had or put now; try again; {log}"
            return HttpProblem(HTTPStatus.SERVICE_UNAVAILABLE, "files_unavailable", detail)
        case _:
            detail = f"{exc.uri}: where files are kept it was refused; {log}"
            return HttpProblem(HTTPStatus.BAD_GATEWAY, "files_refused", detail)
