"""What messages of workers are read as, and what is said of those that do not fit."""

import pytest

from avtomatika_trio._core.dispatch import Room
from avtomatika_trio._wire.messages import RXON_VERSION, Registration
from avtomatika_trio.errors import InvalidMessage
from avtomatika_trio.orchestrator._rxon import read_room, warning_for


@pytest.mark.parametrize(
    ("version", "theirs", "ours", "says"),
    [
        (RXON_VERSION, None, None, None),
        (RXON_VERSION, None, "here", None),
        (RXON_VERSION, "here", "here", None),
        (RXON_VERSION, "there", "here", "files in another place"),
        (RXON_VERSION, "there", None, "files in another place"),
        ("1.0b1", "here", "here", "Protocol version mismatch"),
    ],
)
def test_another_place_for_files_is_told_and_another_protocol(
    version: str, theirs: str | None, ours: str | None, says: str | None
) -> None:
    capabilities = {} if theirs is None else {"s3_config_hash": theirs}
    said = Registration(worker_id="w1", capabilities=capabilities)
    warning = warning_for(said, version, ours)
    assert warning is None if says is None else says in (warning or "")


@pytest.mark.parametrize("text", ["a", "a:", ":1", "a:-1", "a~:1", "a:1,a:2", "a~a:1", "a b:1"])
def test_room_that_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(InvalidMessage, match="room"):
        read_room(text)


def test_room_is_read() -> None:
    assert read_room("") == ()
    assert read_room("a~b:2,c.d:1") == (
        Room(skills=("a", "b"), most=2),
        Room(skills=("c.d",), most=1),
    )
