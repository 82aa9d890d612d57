"""How a command ends: the exit codes, and which error means which."""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from http import HTTPStatus

import attrs

from avtomatika_trio.errors import (
    AvtomatikaError,
    ConfigError,
    InvalidMessage,
    JobNotFound,
    OrchestratorUnavailable,
    Refused,
)


class Exit(IntEnum):
    """What the exit code of every command means."""

    OK = 0
    FAILED = 1
    USAGE = 2  #: the command line, a setting or the data given are wrong
    NOT_FOUND = 3
    AUTH = 4  #: there is no token, or it is not accepted
    CONFLICT = 5  #: this cannot be done to it as it is now
    TIMED_OUT = 124  #: as `timeout` of coreutils says
    INTERRUPTED = 130  #: by Ctrl-C: 128 and the signal's number, as shells say
    BROKEN_PIPE = 141  #: nobody reads the output any more; likewise


@attrs.frozen
class CommandError(AvtomatikaError):
    """A command cannot go on; *message* is for people: the fault and the remedy."""

    exit: Exit
    message: str

    def __str__(self) -> str:
        return self.message


_BY_HTTP_STATUS: Mapping[int, Exit] = {
    HTTPStatus.UNAUTHORIZED: Exit.AUTH,
    HTTPStatus.FORBIDDEN: Exit.AUTH,
    HTTPStatus.NOT_FOUND: Exit.NOT_FOUND,
    HTTPStatus.CONFLICT: Exit.CONFLICT,
    HTTPStatus.BAD_REQUEST: Exit.USAGE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Exit.USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: Exit.USAGE,
}


def explained(error: AvtomatikaError) -> CommandError:
    """*error* as the end of a command: its exit code, and a message with the remedy."""
    match error:
        case CommandError():
            return error
        case ConfigError() | InvalidMessage():
            return CommandError(Exit.USAGE, str(error))
        case JobNotFound(job_id):
            remedy = "`avtomatika job list` shows those there are"
            return CommandError(Exit.NOT_FOUND, f"there is no job {job_id!r}; {remedy}")
        case OrchestratorUnavailable(url, reason):
            remedy = (
                "is `avtomatika serve` running there?"
                " If it listens elsewhere, give --url or set AVTOMATIKA_URL"
            )
            return CommandError(Exit.FAILED, f"{url} cannot be reached: {reason}; {remedy}")
        case Refused(url, status, detail):
            code = _BY_HTTP_STATUS.get(status, Exit.FAILED)
            if status == HTTPStatus.FORBIDDEN:
                detail += "; give the token of a client that may, or have its roles changed there"
            elif code is Exit.AUTH:
                detail += "; give the token it was started with: --token, or CLIENT_TOKEN"
            elif status >= HTTPStatus.INTERNAL_SERVER_ERROR and error.request_id is not None:
                detail += f"; it calls this request {error.request_id}"
            return CommandError(code, f"{url} refused ({status}): {detail}")
        case _:
            return CommandError(Exit.FAILED, str(error))


def deliberate(group: BaseExceptionGroup[BaseException]) -> AvtomatikaError | None:
    """The error in *group*, if it holds nothing but one of ours."""
    first, *others = leaves(group)
    return first if not others and isinstance(first, AvtomatikaError) else None


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors in *group*, however deep."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
