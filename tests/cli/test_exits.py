"""Which error ends a command with which exit code, and what people are told."""

import pytest

from avtomatika_trio.cli._exits import CommandError, Exit, deliberate, explained
from avtomatika_trio.errors import (
    AvtomatikaError,
    BlueprintError,
    ConfigError,
    InvalidMessage,
    JobNotFound,
    OrchestratorUnavailable,
    Problem,
    Refused,
    StorageUnavailable,
)

URL = "http://h:1"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CommandError(Exit.TIMED_OUT, "late"), 124, "late"),
        (ConfigError(("a is wrong", "b too")), 2, "a is wrong\nb too"),
        (InvalidMessage((Problem("$.n", "must be a number"),)), 2, "$.n: must be a number"),
        (JobNotFound("x"), 3, "there is no job 'x'; `avtomatika job list` shows those there are"),
        (
            OrchestratorUnavailable(URL, "refused"),
            1,
            (
                "http://h:1 cannot be reached: refused; is `avtomatika serve` running there?"
                " If it listens elsewhere, give --url or set AVTOMATIKA_URL"
            ),
        ),
        (
            Refused(URL, 401, "no"),
            4,
            (
                "http://h:1 refused (401): no; give the token it was started with:"
                " --token, or CLIENT_TOKEN"
            ),
        ),
        (
            Refused(URL, 403, "this needs the role operator"),
            4,
            (
                "http://h:1 refused (403): this needs the role operator; give the token of a"
                " client that may, or have its roles changed there"
            ),
        ),
        (Refused(URL, 404, "no such blueprint"), 3, "http://h:1 refused (404): no such blueprint"),
        (Refused(URL, 409, "ended"), 5, "http://h:1 refused (409): ended"),
        (Refused(URL, 413, "large"), 2, "http://h:1 refused (413): large"),
        (Refused(URL, 599, "odd"), 1, "http://h:1 refused (599): odd"),
        (
            Refused(URL, 500, "a fault", request_id="r1"),
            1,
            "http://h:1 refused (500): a fault; it calls this request r1",
        ),
        (Refused(URL, 404, "none", request_id="r1"), 3, "http://h:1 refused (404): none"),
        (StorageUnavailable("locked"), 1, "locked"),
        (BlueprintError("b", ("p",)), 1, "blueprint 'b' is not usable:\n  - p"),
    ],
)
def test_every_error_has_its_exit_code_and_remedy(
    error: AvtomatikaError, code: int, message: str
) -> None:
    end = explained(error)
    assert (end.exit, end.message) == (code, message)


def test_one_error_of_ours_is_found_in_the_groups_of_nurseries() -> None:
    error = StorageUnavailable("gone")
    assert deliberate(ExceptionGroup("", [ExceptionGroup("", [error])])) is error


def test_a_bug_beside_it_is_not_hidden() -> None:
    both = ExceptionGroup("", [StorageUnavailable("gone"), KeyError("x")])
    assert deliberate(both) is None
    assert deliberate(ExceptionGroup("", [KeyError("x")])) is None
