"""What becomes of two orchestrators and their workers when their Redis is not well."""

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from tests.e2e.fault_proxy import HOST
from tests.e2e.killing import WORKER_TOKEN
from tests.e2e.redis_sites import (
    BEAT_SECONDS,
    Pair,
    examine,
    open_pair,
)
from tests.e2e.sites import until
from tests.storage.redis_servers import Server, start_sentinel, start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LASTING = ("--appendonly", "yes", "--appendfsync", "always")


@attrs.frozen(kw_only=True)
class Outage:
    """Something that keeps a server from being of use for a while."""

    begin: Callable[[Server], object]
    end: Callable[[Server], object]
    reason: str
    """What `/readyz` tells meanwhile."""
    seconds: float


def _config(server: Server, name: str, value: str) -> None:
    with server.client() as client:
        client.config_set(name, value)


def _replicate(server: Server, *master: str) -> None:
    with server.client() as client:
        client.execute_command("REPLICAOF", *master)


OUTAGES = {
    "restarted": Outage(
        begin=Server.kill, end=Server.start, reason="connection refused", seconds=4
    ),
    "paused": Outage(begin=Server.pause, end=Server.go_on, reason="no answer within", seconds=20),
    "full": Outage(
        begin=lambda server: _config(server, "maxmemory", "1"),
        end=lambda server: _config(server, "maxmemory", "0"),
        reason="its memory is full",
        seconds=5,
    ),
    "a replica": Outage(
        begin=lambda server: _replicate(server, HOST, "1"),
        end=lambda server: _replicate(server, "NO", "ONE"),
        reason="it is a read-only replica",
        seconds=5,
    ),
}


@pytest.mark.parametrize("name", OUTAGES)
async def test_nothing_is_lost_doubled_or_crashes_while_redis_is_not_well(
    name: str, tmp_path: Path
) -> None:
    outage = OUTAGES[name]
    with start_server("valkey", *LASTING) as server:
        async with open_pair(tmp_path, [server.url] * 2) as pair:
            for at in range(2):  # running from before the outage until after it
                assert await pair.submit(at, seconds=outage.seconds + 3)
            await pair.see_running(2)
            async with trio.open_nursery() as submitting:
                submitting.start_soon(pair.keep_submitting)
                await trio.sleep(1)
                before = len(pair.accepted)
                assert pair.refusals == []
                outage.begin(server)
                begun_at = trio.current_time()
                for at in range(2):
                    await pair.see_unready(at, outage.reason)
                    assert (await pair.http.get(f"{pair.urls[at]}/healthz")).status_code == 200
                await trio.sleep_until(begun_at + outage.seconds)
                pair.check()
                await trio.to_thread.run_sync(outage.end, server)
                await pair.see_ready()
                after = len(pair.accepted)
                await trio.sleep(1)
                submitting.cancel_scope.cancel()
            assert before > 5
            assert len(pair.accepted) > after + 5
            assert_refused_for_now(pair)
            await pair.see_all_done()
            pair.check()
            runs = pair.runs()
            await pair.end()
        problems, _ = await examine(pair, server.url)
        assert problems == []
        assert len({run.task_id for run in runs}) == len(runs)  # none was run twice


def assert_refused_for_now(pair: Pair) -> None:
    """Some submissions were, and were told when to come again."""
    assert pair.refusals
    for answer in pair.refusals:
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["code"] == "storage_unavailable"


@attrs.define(eq=False)
class Cutter:
    """Passes connections on to a port, and cuts each after so many bytes as chance will have."""

    upstream_port: int
    chance: random.Random
    cuts: int = 0
    is_sharp: bool = False

    async def serve(self, client: trio.SocketStream) -> None:
        left = [self.chance.randrange(1, 20_000)]
        async with (
            client,
            await trio.open_tcp_stream(HOST, self.upstream_port) as server,
            trio.open_nursery() as nursery,
        ):
            for one, other in ((client, server), (server, client)):
                nursery.start_soon(self._pump, one, other, left, nursery.cancel_scope)

    async def _pump(
        self,
        one: trio.SocketStream,
        other: trio.SocketStream,
        left: list[int],
        connection: trio.CancelScope,
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for piece in one:
                if self.is_sharp and len(piece) >= left[0]:
                    await other.send_all(piece[: left[0]])
                    self.cuts += 1
                    break
                if self.is_sharp:
                    left[0] -= len(piece)
                await other.send_all(piece)
        connection.cancel()


@contextlib.asynccontextmanager
async def open_cutter(port: int, chance: random.Random) -> AsyncIterator[tuple[Cutter, int]]:
    """A cutter in front of *port*, and the port of its own."""
    cutter = Cutter(port, chance)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        own: int = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, cutter.serve, listeners)
        yield cutter, own
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_cut_anywhere_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown if it fails
    with start_server("valkey", *LASTING) as server:
        async with open_cutter(server.port, random.Random(seed)) as (cutter, port):
            urls = [f"redis://{HOST}:{port}", server.url]
            async with open_pair(tmp_path, urls) as pair:
                async with trio.open_nursery() as submitting:
                    for _ in range(3):
                        submitting.start_soon(pair.keep_submitting)
                    cutter.is_sharp = True
                    await trio.sleep(8)
                    cutter.is_sharp = False
                    submitting.cancel_scope.cancel()
                assert cutter.cuts > 10
                assert len(pair.accepted) > 50
                await pair.see_ready()
                await pair.see_all_done()
                pair.check()
                await pair.end()
            problems, _ = await examine(pair, server.url)
            assert problems == []


async def test_a_failover_that_loses_a_write_loses_nothing_else(tmp_path: Path) -> None:
    with start_sentinel() as watched:
        master, replica = watched.data
        async with open_pair(tmp_path, [watched.url] * 2) as pair:
            long = [await pair.submit(at, seconds=8) for at in range(2)]
            await pair.see_running(2)
            short = [await pair.submit(at) for at in range(2)]
            await trio.sleep(1)  # these have reached the replica
            replica.pause()
            lost = await pair.submit(0, seconds=1)
            assert lost
            await pair.see_running(5)
            master.kill()
            replica.go_on()
            await until(partial(_is_master, replica))  # before anybody's patience was at its end
            await pair.see_ready()
            known = [await pair.job(at, lost) for at in range(2)]
            assert [it is None for it in known] in ([True, True], [False, False])
            assert await pair.submit(0)
            await pair.see_all_done()
            for job_id in (*long, *short):
                assert job_id
                job = await pair.job(1, job_id)
                assert job
                assert job["status"] == "finished"
            pair.check()
            await pair.end()
        problems, accounts = await examine(pair, watched.url)
        assert known[0] is not None or lost not in {it.job.id for it in accounts}
        # The workers know of what was lost, and its submitter does; nobody else.
        assert [it for it in problems if "nobody knows it" not in it and lost not in it] == []


async def _is_master(server: Server) -> bool:
    with server.client() as client:
        role: list[bytes] = client.role()
        return role[0] in (b"master", "master")


async def test_a_storage_that_was_emptied_is_told_and_nothing_crashes(tmp_path: Path) -> None:
    reason = "does not hold the storage that was opened"
    with start_server() as server:
        async with open_pair(tmp_path, [server.url] * 2) as pair:
            job_id = await pair.submit(0, seconds=5)
            assert job_id
            await pair.see_running(1)
            with server.client() as client:
                client.flushall()
            for at in range(2):
                await pair.see_unready(at, reason)
                assert await pair.submit(at) is None
                answer = await pair.http.get(f"{pair.urls[at]}/api/v1/jobs/{job_id}")
                assert answer.status_code == 503
                assert reason in answer.json()["detail"]
            await trio.sleep(2 * BEAT_SECONDS)
            pair.check()
            assert_refused_for_now(pair)
            await pair.end()


async def test_what_one_was_told_holds_at_the_other(tmp_path: Path) -> None:
    """The workers here know the second one alone, the client speaks with the first."""
    environ = {"MAX_CONCURRENT_TASKS": "1"}
    with start_server("valkey", *LASTING) as server:
        async with open_pair(
            tmp_path, [server.url] * 2, workers=1, targets=[1], environ=environ
        ) as pair:
            endless = await pair.submit(0, seconds=600)
            await pair.see_running(1)
            answer = await pair.http.post(f"{pair.urls[0]}/api/v1/jobs/{endless}/cancel")
            assert answer.status_code == 200
            cancelled_at = trio.current_time()
            assert await pair.submit(0)
            await pair.see_running(2)  # its only slot is free
            assert trio.current_time() - cancelled_at < BEAT_SECONDS + 1.5
            await pair.see_all_done()
            await _issued_by_the_first_and_accepted_by_the_second(pair)
            pair.check()
            await pair.end()


async def _issued_by_the_first_and_accepted_by_the_second(pair: Pair) -> None:
    job_id = await pair.submit(0, skill="by_hand")
    assert job_id
    headers = {"X-Worker-ID": "hand", "X-Worker-Token": WORKER_TOKEN}
    first, second = (f"{url}/_worker" for url in pair.urls)
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=10) as http:
        said = {
            "worker_id": "hand",
            "worker_type": "cpu",
            "supported_skills": [{"name": "by_hand"}],
        }
        (await http.post(f"{first}/workers/register", json=said)).raise_for_status()
        polled = await http.get(f"{first}/workers/hand/tasks/next?timeout=5")
        assert polled.status_code == 200, polled.text
        task = polled.json()
        result = {
            "job_id": task["job_id"],
            "task_id": task["task_id"],
            "worker_id": "hand",
            "status": "success",
            "data": {"n": 7},
        }
        for _ in range(2):  # the second time it is known to be the same
            answer = await http.post(f"{second}/tasks/result", json=result)
            assert answer.json()["status"] == "accepted"
    await pair.see_all_done()
    job = await pair.job(0, job_id)
    assert job
    assert (job["status"], job["result"]) == ("finished", {"n": 7})


async def test_every_acknowledged_job_survives_the_death_of_a_redis_that_always_syncs(
    tmp_path: Path,
) -> None:
    with start_server("valkey", *LASTING) as server:
        async with open_pair(tmp_path, [server.url] * 2, workers=0) as pair:
            async with trio.open_nursery() as submitting:
                for _ in range(20):
                    submitting.start_soon(pair.keep_submitting)
                for _ in range(3):
                    await trio.sleep(random.uniform(0.5, 1.5))
                    server.kill()
                    await trio.sleep(random.uniform(0, 0.5))
                    await trio.to_thread.run_sync(server.start)
                await pair.see_ready()
                submitting.cancel_scope.cancel()
            assert len(pair.accepted) > 100
            for job_id, number in pair.accepted.items():
                job = await pair.job(number % 2, job_id)
                assert job, f"{job_id} is lost"
            pair.check()
            await pair.end()
