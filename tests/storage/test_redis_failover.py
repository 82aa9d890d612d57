"""The bridge to Redis while servers stand still, masters change and slots move."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
import trio
from redis.crc import key_slot
from tests.storage.cutting_proxy import HOST, open_cutting_proxy
from tests.storage.redis_servers import (
    SERVICE,
    ClusterOfServers,
    Kind,
    Server,
    start_cluster,
    start_sentinel,
    start_server,
    until,
)

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_bridge import RedisBridge, open_bridge
from avtomatika_trio.storage._redis_link import CONNECT_SECONDS, PATIENCE_SECONDS
from avtomatika_trio.storage._redis_news import open_news
from avtomatika_trio.storage._redis_url import parse
from avtomatika_trio.storage._redis_wire import Script, ScriptCall

pytestmark = pytest.mark.e2e

COUNT = Script("count", "return redis.call('SADD', KEYS[1], ARGV[1])")


@pytest.fixture(scope="module", params=["redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterOfServers]:
    kind: Kind = request.param
    with start_cluster(kind) as cluster:
        yield cluster


@pytest.fixture
def doomed() -> Iterator[Server]:
    with start_server("valkey") as server:
        yield server


async def test_a_server_that_stands_still_is_told_in_time(doomed: Server) -> None:
    took: list[float] = []

    async def one(bridge: RedisBridge, after: float) -> None:
        await trio.sleep(after)
        begin = trio.current_time()
        with pytest.raises(StorageUnavailable, match=r"no answer within [12] s"):
            await bridge.call(("PING",), key="k")
        took.append(trio.current_time() - begin)

    async with open_bridge(parse(doomed.url)) as bridge:
        await bridge.call(("PING",), key="k")
        doomed.pause()
        async with trio.open_nursery() as nursery:
            for after in (0, 0.5, 1, 1.5, 1.9, 2.5):
                nursery.start_soon(one, bridge, after)
        doomed.go_on()
        assert await bridge.call(("ECHO", "x"), key="k") == [b"x"]
    assert min(took) >= PATIENCE_SECONDS - 0.05
    assert max(took) < PATIENCE_SECONDS + CONNECT_SECONDS + 0.2


async def test_a_short_stand_still_is_not_noticed(doomed: Server) -> None:
    async with open_bridge(parse(doomed.url)) as bridge:
        await bridge.call(("PING",), key="k")
        doomed.pause()
        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(partial(bridge.call, ("ECHO", n), key="k"))
            await trio.sleep(1)
            doomed.go_on()


async def test_news_of_a_dead_link_are_missed_and_it_is_noticed(
    doomed: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avtomatika_trio.storage._redis_news.SILENCE_SECONDS", 1.0)
    monkeypatch.setattr("avtomatika_trio.storage._redis_news.PING_SECONDS", 0.3)
    gaps, got_gap = trio.open_memory_channel[None](10)
    async with open_cutting_proxy(doomed.port) as proxy:
        address = parse(f"redis://{HOST}:{proxy.port}")
        async with open_news(address, "c", lambda _: None, lambda: gaps.send_nowait(None)) as news:
            await got_gap.receive()
            await trio.sleep(2)  # quiet, and alive
            assert news.fault is None
            proxy.silent = True
            await until(lambda: news.fault is not None, 3)
            assert news.fault is not None
            assert "nothing was heard for 1 s" in news.fault
            proxy.silent = False
            with trio.fail_after(3):
                await got_gap.receive()


async def test_calls_find_their_node_of_a_cluster(cluster: ClusterOfServers) -> None:
    async def one(bridge: RedisBridge, n: int) -> None:
        tag = f"{{p{n}}}"
        script = ScriptCall(COUNT, (f"{tag}s",), (n,))
        replies = await bridge.call(("SET", f"{tag}a", n), script, ("GET", f"{tag}a"), key=tag)
        assert replies[0] == b"OK"
        assert replies[2] == b"%d" % n

    async with open_bridge(parse(cluster.url)) as bridge:
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for n in range(200):
                    nursery.start_soon(one, bridge, n)
        assert bridge.fault is None
        assert bridge.batches < 60


async def test_a_cluster_is_found_from_any_node_that_lives(cluster: ClusterOfServers) -> None:
    with start_server("valkey") as dead:
        dead.kill()
        hosts = f"redis+cluster://{HOST}:{dead.port},{HOST}:{cluster.nodes[1].port}"
        async with open_bridge(parse(hosts)) as bridge:
            with trio.fail_after(1):
                assert await bridge.call(("ECHO", "x"), key="{a}") == [b"x"]
            assert bridge.fault is None


async def test_a_slot_that_moves_takes_its_calls_along(cluster: ClusterOfServers) -> None:
    tag = "{moving}"
    keys = [f"{tag}{n}" for n in range(50)]
    slot = key_slot(tag.encode())
    source = cluster.owner(slot)
    target = next(it for it in cluster.nodes if it is not source)
    counts = dict.fromkeys(keys, 0)
    stop = trio.Event()

    async def count(bridge: RedisBridge, key: str) -> None:
        while not stop.is_set():
            command = ScriptCall(COUNT, (f"{key}",), (counts[key],))
            first, second = await bridge.call(command, ("SCARD", key), key=key)
            counts[key] += 1
            assert [first, second] == [1, counts[key]]

    async with open_bridge(parse(cluster.url)) as bridge:
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(count, bridge, key)
            await trio.sleep(0.2)
            await trio.to_thread.run_sync(_migrate, slot, source, target)
            before = sum(counts.values())
            await trio.sleep(0.2)
            stop.set()
        assert sum(counts.values()) > before
        assert bridge.fault is None
        [cards] = [await bridge.call(*[("SCARD", key) for key in keys], key=tag)]
    assert cards == list(counts.values())
    assert cluster.owner(slot) is target


def _migrate(slot: int, source: Server, target: Server) -> None:
    """Move *slot* key by key, as an operator does."""
    with source.client() as old, target.client() as new:
        ids = [it.execute_command("CLUSTER", "MYID").decode() for it in (old, new)]
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 3):
            for key in keys:
                old.execute_command("MIGRATE", HOST, target.port, key, 0, 1000)
        for client in (new, old):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])


async def test_a_dead_node_of_a_cluster_stalls_nobody_else(cluster: ClusterOfServers) -> None:
    tags = [f"{{t{n}}}" for n in range(12)]
    dead = cluster.nodes[2]
    took: dict[str, float] = {}

    async def one(bridge: RedisBridge, tag: str) -> None:
        begin = trio.current_time()
        if cluster.owner(key_slot(tag.encode())) is dead:
            with pytest.raises(StorageUnavailable, match=r"no answer within [12] s"):
                await bridge.call(("GET", tag), key=tag)
        else:
            await bridge.call(("GET", tag), key=tag)
            took[tag] = trio.current_time() - begin

    async with open_bridge(parse(cluster.url)) as bridge:
        for tag in tags:
            await bridge.call(("GET", tag), key=tag)
        dead.pause()
        try:
            async with trio.open_nursery() as nursery:
                for tag in tags:
                    nursery.start_soon(one, bridge, tag)
            assert f"{dead.port}" in (bridge.fault or "")
        finally:
            dead.go_on()
        assert took
        assert max(took.values()) < 0.3
        while bridge.fault is not None:  # until the others agree that it lives
            with suppress(StorageUnavailable):
                for tag in tags:
                    await bridge.call(("GET", tag), key=tag)


async def test_news_in_a_cluster_come_from_any_node(cluster: ClusterOfServers) -> None:
    got: list[bytes] = []
    ready = trio.Event()
    async with (
        open_bridge(parse(cluster.url)) as bridge,
        open_news(parse(cluster.url), "c", got.append, ready.set),
    ):
        await ready.wait()
        for n in range(12):
            await bridge.call(("PUBLISH", "c", n), key=f"{{t{n}}}")
        await until(lambda: len(got) == 12, 1)


@pytest.mark.parametrize("how", ["kill", "pause", "demote"])
async def test_a_new_master_is_followed(how: str) -> None:
    gaps: list[float] = []
    latencies: list[float] = []
    with start_sentinel() as watched:
        address = parse(watched.url)
        master, replica = watched.data
        async with (
            open_bridge(address) as bridge,
            open_news(
                address, "c", lambda _: None, lambda: gaps.append(trio.current_time())
            ) as news,
        ):
            assert await bridge.call(ScriptCall(COUNT, ("s",), (1,)), key="k") == [1]
            await until(lambda: len(gaps) == 1, 5)  # the first subscription is one of the two
            await _take_down(how, master, watched.sentinels[0])
            begin = trio.current_time()
            while True:
                with suppress(StorageUnavailable):
                    asked = trio.current_time()
                    info = await bridge.call(
                        ScriptCall(COUNT, ("s",), (2,)), ("CONFIG", "GET", "port"), key="k"
                    )
                    latencies.append(trio.current_time() - asked)
                    if int(info[1][1]) == replica.port:
                        break
                    await trio.sleep(0.02)
                assert trio.current_time() - begin < 20
            assert bridge.fault is None
            await until(lambda: len(gaps) >= 2 and news.fault is None, 15)
        if how == "pause":
            master.go_on()


async def _take_down(how: str, master: Server, sentinel: Server) -> None:
    if how == "demote":
        with sentinel.client() as client:
            await trio.to_thread.run_sync(client.sentinel_failover, SERVICE)
    else:
        await trio.to_thread.run_sync(getattr(master, how))


async def test_a_service_that_no_sentinel_knows_is_told() -> None:
    with start_sentinel(sentinels=1) as watched:
        async with open_bridge(parse(watched.url.replace(SERVICE, "other"))) as bridge:
            with pytest.raises(StorageUnavailable, match="knows no service of this name"):
                await bridge.call(("PING",), key="k")
