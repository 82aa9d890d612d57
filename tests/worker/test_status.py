"""What a worker tells of itself and of its orchestrators."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from tests.worker.spool_cases import result
from tests.worker.worker_cases import Nowhere, a_board
from trio.testing import MockClock

from avtomatika_trio._wire.codec import encode
from avtomatika_trio._wire.messages import Registered, Registration
from avtomatika_trio.worker._api import Reply
from avtomatika_trio.worker._delivery import Delivery
from avtomatika_trio.worker._link import DELIVERY, HEARTBEAT, POLLING, Link
from avtomatika_trio.worker._requests import Identity, Terms, read_registered
from avtomatika_trio.worker._routes import Routes
from avtomatika_trio.worker._settling import Settling
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool import Spool
from avtomatika_trio.worker._spool_memory import MemoryFolder, open_memory_spool
from avtomatika_trio.worker._status import Status

A, B = "http://a", "http://b"
EPOCH = 1_000_000.0
IDENTITY = Identity(
    instance="i1", registration=Registration(worker_id="w1", supported_skills=[], instance="i1")
)


def terms(cluster_id: str) -> Terms:
    said = Registered(extensions=["instances"], cluster_id=cluster_id)
    return read_registered(A, Reply(status=200, body=encode(said)), 10.0)


def a_delivery(spool: Spool, links: tuple[Link, ...], slots: Slots) -> Delivery:
    settling = Settling(spool, Holdings({}), lambda _: None)
    return Delivery(
        routes=Routes(links),
        spool=spool,
        settling=settling,
        slots=slots,
        nudge=lambda: None,
        noise=lambda: 0.0,
    )


@attrs.define
class Scene:
    status: Status
    first: Link
    second: Link
    folder: MemoryFolder
    delivery: Delivery
    is_stopping: bool = False

    def tell(self) -> dict[str, Any]:
        return dict(self.status.tell()[1])

    def standings(self) -> list[str]:
        return [one["standing"] for one in self.tell()["orchestrators"]]


@asynccontextmanager
async def scene(mode: str = "FAILOVER") -> AsyncIterator[Scene]:
    board = a_board(A, B)
    links = (Link(Nowhere(A), board), Link(Nowhere(B), board))
    folder = MemoryFolder()
    async with open_memory_spool(folder, worker_id="w1", instance="i1") as spool:
        await spool.append(result(1, cluster_id="blue"))
        slots = Slots(4)
        slots.take(2)  # of what runs
        delivery = a_delivery(spool, links, slots)
        at = Scene(
            Status(
                identity=IDENTITY,
                mode=mode,
                period_seconds=30.0,
                board=board,
                links=links,
                slots=slots,
                spool=spool,
                delivery=delivery,
                running=lambda: 2,
                is_stopping=lambda: at.is_stopping,
                wall_clock=lambda: EPOCH + trio.current_time(),
            ),
            *links,
            folder,
            delivery,
        )
        yield at


async def test_it_tells_of_each_orchestrator_how_it_is_and_since_when_and_why(
    autojump_clock: MockClock,
) -> None:
    async with scene() as at:
        for link, cluster in ((at.first, "blue"), (at.second, "green")):
            link.registered(terms(cluster))
            link.succeeded(HEARTBEAT)
        await trio.sleep(5)
        at.first.succeeded(POLLING)
        await trio.sleep(5)
        at.first.board.failed(A, "silent (probe)")
        is_well, told = at.status.tell()
    assert is_well
    assert told == {
        "status": "ok",
        "reason": None,
        "worker_id": "w1",
        "instance": "i1",
        "mode": "FAILOVER",
        "slots": 4,
        "running": 2,
        "undelivered": 1,
        "orchestrators": [
            {
                "url": A,
                "standing": "down",
                "since_at": EPOCH + 10,
                "reason": "silent (probe)",
                "cluster_id": "blue",
                "polled_at": EPOCH + 5,
                "renewed_at": EPOCH,
                "undelivered": 1,
            },
            {
                "url": B,
                "standing": "active",
                "since_at": EPOCH,
                "reason": None,
                "cluster_id": "green",
                "polled_at": None,
                "renewed_at": EPOCH,
                "undelivered": 0,
            },
        ],
    }


@pytest.mark.parametrize(
    ("mode", "standings"),
    [("FAILOVER", ["active", "standby"]), ("ROUND_ROBIN", ["active", "active"])],
)
async def test_who_is_asked_for_work_is_active(mode: str, standings: list[str]) -> None:
    async with scene(mode) as at:
        assert at.standings() == standings
        at.first.board.refused(A, "403: who?")
        assert at.standings() == ["refused", "active"]


async def test_one_that_answers_probes_only_is_not_said_to_stand_by() -> None:
    async with scene() as at:
        at.first.board.failed(A, "503 (heartbeat)")
        at.first.heard()
        assert at.standings() == ["down", "active"]
        at.first.board.renewed(A)
        assert at.standings() == ["standby", "active"]


@pytest.mark.parametrize("activity", [POLLING, HEARTBEAT])
async def test_it_is_well_for_two_periods_after_any_of_them_has_answered(
    autojump_clock: MockClock, activity: str
) -> None:
    async with scene() as at:
        assert at.status.tell()[0] is False
        await trio.sleep(10)
        at.second.succeeded(activity)
        await trio.sleep(60)
        assert at.status.tell()[0] is True
        await trio.sleep(0.1)
        assert at.status.tell()[0] is False
        assert at.tell()["status"] == "unavailable"


async def test_it_tells_why_it_is_not_well_with_the_name_of_each(
    autojump_clock: MockClock,
) -> None:
    async with scene() as at:
        at.first.board.failed(A, "connection refused (heartbeat)")
        why = "http://a: connection refused (heartbeat); http://b: not a word"
        assert at.tell()["reason"] == f"no orchestrator has answered yet: {why}"
        at.first.succeeded(HEARTBEAT)
        assert at.tell()["reason"] is None
        at.first.board.failed(A, "no answer within 10 s (heartbeat)")
        await trio.sleep(61)
        why = "http://a: no answer within 10 s (heartbeat); http://b: not a word"
        assert at.tell()["reason"] == f"no orchestrator has answered for 61 s: {why}"


async def test_a_worker_whose_disk_takes_no_results_is_not_well_and_says_so(
    autojump_clock: MockClock,
) -> None:
    """It takes no tasks, and what it has done would be lost with it."""
    async with scene() as at, trio.open_nursery() as nursery:
        at.first.succeeded(HEARTBEAT)
        nursery.start_soon(at.delivery.run)
        at.folder.fault = "No space left on device"
        at.delivery.add(result(2))
        at.delivery.add(result(3))
        await trio.sleep(1)
        is_well, told = at.status.tell()
        assert not is_well
        assert told["status"] == "unavailable"
        assert told["undelivered"] == 3
        assert told["reason"].startswith(
            "no tasks are taken, since results wait for the disk (2): "
        )
        assert "No space left on device" in told["reason"]
        at.folder.fault = None
        await trio.sleep(15)
        assert at.tell()["reason"] is None
        assert at.tell()["undelivered"] == 3
        nursery.cancel_scope.cancel()


async def test_a_worker_that_stops_is_not_ready_for_more(autojump_clock: MockClock) -> None:
    async with scene() as at:
        at.first.succeeded(HEARTBEAT)
        assert at.status.tell()[0] is True
        at.is_stopping = True
        assert at.status.tell()[0] is False
        assert at.tell()["reason"] == "it stops, and takes no more tasks"


async def test_that_results_are_taken_does_not_make_it_well(autojump_clock: MockClock) -> None:
    """It shows nothing of whether there is work and whether leases are renewed."""
    async with scene() as at:
        at.first.succeeded(DELIVERY)
        assert at.status.tell()[0] is False
