"""What systemd is told, over a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from avtomatika_trio._service_notice import service_notice


@pytest.fixture(params=["file", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address, as the environment has it, and who listens there."""
    address = str(tmp_path / "n") if request.param == "file" else f"@avtomatika-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0", 1) if request.param == "abstract" else address)
        listener.setblocking(False)
        yield address, listener


def received(listener: socket.socket) -> list[bytes]:
    told = []
    while True:
        try:
            told.append(listener.recv(4096))
        except BlockingIOError:
            return told


async def test_it_tells_ready_alive_and_stopping(
    autojump_clock: MockClock, heard: tuple[str, socket.socket]
) -> None:
    address, listener = heard
    notice = service_notice({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"})
    notice.ready("serving")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notice.keep_alive)
        await trio.sleep(12)
        nursery.cancel_scope.cancel()
    notice.stopping()
    assert received(listener) == [
        b"READY=1\nSTATUS=serving",
        b"WATCHDOG=1",
        b"WATCHDOG=1",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


async def test_nobody_is_told_who_does_not_ask(
    autojump_clock: MockClock, heard: tuple[str, socket.socket]
) -> None:
    address, listener = heard
    service_notice({}).ready("serving")
    await service_notice({"WATCHDOG_USEC": "1000"}).keep_alive()
    others = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    await service_notice(others, process_id=2).keep_alive()
    assert received(listener) == []
    assert service_notice(others, process_id=1).watchdog_seconds == 0.001


@pytest.mark.parametrize("text", ["soon", "0", "-5"])
def test_a_malformed_watchdog_is_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    assert service_notice({"WATCHDOG_USEC": text}).watchdog_seconds is None
    assert f"WATCHDOG_USEC={text}" in caplog.text


@pytest.mark.parametrize("address", ["relative", "/", "@"])
def test_a_malformed_address_is_logged(caplog: pytest.LogCaptureFixture, address: str) -> None:
    assert service_notice({"NOTIFY_SOCKET": address}).address is None
    assert f"NOTIFY_SOCKET={address}" in caplog.text


def test_a_socket_that_is_gone_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service_notice({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("serving")
    assert "was not told" in caplog.text


async def test_a_watchdog_that_is_gone_is_told_once(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notice = service_notice({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "10000000"})
    with trio.move_on_after(60):
        await notice.keep_alive()
    assert caplog.text.count("was not told") == 1
