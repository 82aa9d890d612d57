"""Errors keep what they carry, wherever they go."""

import pickle

import pytest

from avtomatika_trio.errors import (
    AvtomatikaError,
    InvalidMessage,
    JobNotFound,
    Problem,
    RateLimited,
    Refused,
    TransientError,
    WaitTimedOut,
)


@pytest.mark.parametrize(
    "error",
    [
        WaitTimedOut("j", 2.5, "running"),
        JobNotFound("j", request_id="r"),
        Refused("http://o", 400, "no", request_id="r"),
        RateLimited("http://o", 429, "slower", 3.0, request_id="r"),
        InvalidMessage((Problem("$", "wrong"),)),
    ],
    ids=repr,
)
def test_an_error_comes_out_of_another_process_as_it_went_in(error: AvtomatikaError) -> None:
    came = pickle.loads(pickle.dumps(error))
    assert type(came) is type(error)
    assert (repr(came), str(came)) == (repr(error), str(error))


def test_an_error_of_a_handler_does_too() -> None:
    error = TransientError("busy", {"port": 3})
    came = pickle.loads(pickle.dumps(error))
    assert (str(came), came.details) == ("busy", {"port": 3})


def test_a_wait_that_is_over_is_an_error_of_ours_and_of_python() -> None:
    error = WaitTimedOut("j", 2.5, None)
    assert isinstance(error, AvtomatikaError)
    assert isinstance(error, TimeoutError)
    assert str(error) == "job j is not final after 2.5 s: nothing; the orchestrator is away"


def test_an_error_counts_the_jobs_that_were_submitted_before() -> None:
    told = str(Refused("http://o", 400, "no", request_id="r", submitted=("a",)))
    assert told == "http://o refused (400): no (request r; 1 job was submitted before)"
    assert str(InvalidMessage((), submitted=("a", "b"))) == " (2 jobs were submitted before)"
