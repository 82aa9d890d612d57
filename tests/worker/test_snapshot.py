"""Rules L2 and L6: at no moment does the heartbeat tell less than what is held."""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.worker.spool_cases import result
from tests.worker.worker_cases import a_home
from trio.testing import MockClock

from avtomatika_trio._wire.codec import decode, encode
from avtomatika_trio._wire.messages import (
    Heartbeat,
    Registered,
    Registration,
    ResultAnswer,
    TaskPayload,
)
from avtomatika_trio.errors import OrchestratorUnavailable
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._api import Reply
from avtomatika_trio.worker._credential import Credential
from avtomatika_trio.worker._groups import Groups
from avtomatika_trio.worker._intake import Intake
from avtomatika_trio.worker._link import LinkError
from avtomatika_trio.worker._requests import Identity, Terms
from avtomatika_trio.worker._settling import Settling
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._snapshot import Holdings, Snapshot
from avtomatika_trio.worker._spool_memory import MemoryFolder, open_memory_spool
from avtomatika_trio.worker._upkeep import Upkeep

URL = "http://o"
IDENTITY = Identity(
    instance="i3",
    registration=Registration(worker_id="w", supported_skills=[], instance="i3"),
)


class WatchedHoldings(Holdings):
    """Keeps every snapshot that a thread could have seen."""

    def __init__(self, recovered: Mapping[str, str] | None = None) -> None:
        self.seen: list[Snapshot] = []
        super().__init__(recovered)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "current":
            self.seen.append(value)


def terms() -> Terms:
    said = Registered(
        status="registered",
        extensions=["batch", "instances", "return", "any_data"],
        cluster_id="blue",
        lease_seconds=30.0,
        heartbeat_seconds=10.0,
    )
    return _requests.read_registered(URL, Reply(status=200, body=encode(said)), 10.0)


def test_whoever_looks_at_any_moment_sees_the_poll_or_what_it_brought() -> None:
    holdings = WatchedHoldings()
    number = holdings.open_poll()
    holdings.close_poll(number, ["t1"], "blue")
    assert [(sorted(s.open_polls), sorted(s.held)) for s in holdings.seen] == [
        ([], []),
        ([1], []),
        ([], ["t1"]),
    ]


async def test_an_answer_is_taken_in_by_one_assignment(autojump_clock: MockClock) -> None:
    holdings, slots = WatchedHoldings(), Slots(2)
    begun: list[str] = []
    intake = Intake(
        holdings=holdings,
        slots=slots,
        groups=Groups({"k": "k"}),
        begin=lambda task, home, terms: begun.append(task.task_id),
    )
    ask = intake.open(a_home(URL), slots.take(2))
    task = TaskPayload(job_id="j", task_id="t1", type="k")
    assert intake.close(ask, terms(), [task]) == 1
    assert begun == ["t1"]
    assert all(s.open_polls or "t1" in s.held for s in holdings.seen[1:])


async def test_a_result_is_held_until_the_spool_knows_that_it_was_accepted(
    autojump_clock: MockClock,
) -> None:
    async with open_memory_spool(MemoryFolder(), worker_id="w", instance="i1") as spool:
        entry = await spool.append(result(1))
        pending_when_dropped: list[int] = []

        class Noting(Holdings):
            def drop(self, task_ids: Iterable[str]) -> None:
                pending_when_dropped.append(len(spool.pending()))
                super().drop(task_ids)

        holdings = Noting({entry.task_id: entry.cluster_id})
        settling = Settling(spool, holdings, lambda entries: None)
        await settling.settle([entry], [ResultAnswer()], entry.orchestrator, 0.0)
    assert pending_when_dropped == [0]
    assert holdings.current.held == {}


class Deaf:
    """A `Listener` that does nothing."""

    def registered(self, terms: Terms) -> None: ...

    def beaten(self, answer: Any) -> None: ...

    def failed(self, exc: LinkError) -> None: ...


def test_what_is_replaced_is_said_again_when_the_answer_to_a_heartbeat_was_lost() -> None:
    upkeep = Upkeep(
        url=URL,
        identity=IDENTITY,
        credential=Credential(None),
        holdings=Holdings(),
        interval_seconds=10.0,
        status=lambda: "idle",
        blocked_seconds=lambda: 0.0,
        replaces=["i1", "i2"],
        listener=Deaf(),
        noise=lambda: 0.0,
        clock=lambda: 0.0,
    )
    upkeep.next_request()
    said = Registered(status="registered", extensions=["instances"])
    upkeep.answered(Reply(status=200, body=encode(said)))
    told = []
    for answer in (None, b'{"status": "ok", "replaced": ["i1"]}', b'{"status": "ok"}'):
        told.append(decode(upkeep.next_request().body or b"", Heartbeat).replaces)
        if answer is None:
            upkeep.failed(OrchestratorUnavailable(URL, "silent"))
        else:
            upkeep.answered(Reply(status=200, body=answer))
    assert told == [["i1", "i2"], ["i1", "i2"], ["i2"]]
