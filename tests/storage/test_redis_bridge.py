"""The bridge to Redis, against real servers that are broken in every way there is."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio
from redis.exceptions import ResponseError
from tests.storage.cutting_proxy import HOST, open_cutting_proxy
from tests.storage.redis_servers import Kind, Server, start_server, until

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage import open_storage
from avtomatika_trio.storage._redis_bridge import RedisBridge, open_bridge
from avtomatika_trio.storage._redis_link import PATIENCE_SECONDS
from avtomatika_trio.storage._redis_news import open_news
from avtomatika_trio.storage._redis_url import parse
from avtomatika_trio.storage._redis_wire import Script, ScriptCall

ECHO = Script("echo", "return {KEYS[1], ARGV[1]}")
SET = Script("set", "redis.call('SET', KEYS[1], ARGV[1]) return 'done'")


@pytest.fixture(scope="session", params=["redis", "valkey"])
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: Kind = request.param
    with start_server(kind) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    """A server that has nothing and knows no script."""
    with running.client() as client:
        client.flushall()
        client.script_flush()
    return running


@pytest.fixture
def doomed() -> Iterator[Server]:
    """A server that a test may end."""
    with start_server("valkey") as server:
        yield server


def redis_threads() -> list[str]:
    return [it.name for it in threading.enumerate() if it.name.startswith("redis-")]


async def test_a_thousand_calls_need_few_batches_and_each_gets_its_own(server: Server) -> None:
    got: dict[int, Any] = {}

    async def one(bridge: RedisBridge, n: int) -> None:
        got[n] = await bridge.call(("SET", f"k{n}", n), ("GET", f"k{n}"), key=f"k{n}")

    async with open_bridge(parse(server.url)) as bridge:
        async with trio.open_nursery() as nursery:
            for n in range(1000):
                nursery.start_soon(one, bridge, n)
        assert bridge.batches < 50
        assert bridge.fault is None
    assert got == {n: [b"OK", b"%d" % n] for n in range(1000)}
    assert redis_threads() == []


async def test_replies_of_every_kind(server: Server) -> None:
    script = Script("kinds", "return {1, 'text', false, {'in', {'side'}}, redis.status_reply('s')}")
    big = bytes(range(256)) * 10_000
    async with open_bridge(parse(server.url)) as bridge:
        replies = await bridge.call(
            ("SET", b"big", big),
            ("GET", "big"),
            ("SET", "n", 1.5),
            ("INCRBYFLOAT", "n", -0.5),
            ("LRANGE", "none", 0, -1),
            ("SET", "empty", ""),
            ("GET", "empty"),
            ScriptCall(script, ()),
            key="big",
        )
        assert await bridge.call(key="k") == []
    kinds = [1, b"text", None, [b"in", [b"side"]], b"s"]
    assert replies == [b"OK", big, b"OK", b"1", [], b"OK", b"", kinds]


async def test_what_redis_cannot_take_is_refused_to_its_caller(server: Server) -> None:
    wrongs: list[Any] = [None, True, {}]
    async with open_bridge(parse(server.url)) as bridge:
        for wrong in wrongs:
            with pytest.raises(TypeError, match="a command takes bytes, str, int and float"):
                await bridge.call(("SET", "k", wrong), key="k")


async def test_an_error_is_the_reply_of_its_command_only(server: Server) -> None:
    results: dict[int, list[Any]] = {}

    async def one(bridge: RedisBridge, n: int) -> None:
        command = ("LPUSH", "text", "x") if n % 3 == 0 else ("GET", "text")
        results[n] = await bridge.call(command, ("ECHO", n), key="text")

    async with open_bridge(parse(server.url)) as bridge:
        await bridge.call(("SET", "text", "t"), key="text")
        async with trio.open_nursery() as nursery:
            for n in range(300):
                nursery.start_soon(one, bridge, n)
    for n, (first, second) in results.items():
        assert second == b"%d" % n
        if n % 3 == 0:
            assert isinstance(first, ResponseError)
            assert str(first).startswith("WRONGTYPE ")
        else:
            assert first == b"t"


async def test_a_cancelled_caller_disturbs_nobody(server: Server) -> None:
    results: list[Any] = []

    async def one(bridge: RedisBridge, n: int) -> None:
        with trio.CancelScope() as scope:
            if n % 2:
                scope.cancel()
            results.append(await bridge.call(("INCR", "n"), key="n"))

    async def cut_short(bridge: RedisBridge) -> None:
        with trio.move_on_after(0.001):
            await bridge.call(("INCR", "m"), ("GET", "n"), key="n")

    async with open_bridge(parse(server.url)) as bridge:
        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(one, bridge, n)
                nursery.start_soon(cut_short, bridge)
        assert sorted(results) == [[n] for n in range(1, 51)]
        assert await bridge.call(("GET", "m"), key="m") == [b"100"]


async def test_submit_tells_once_and_on_the_thread_of_trio(server: Server) -> None:
    told: list[tuple[Any, int]] = []
    done = trio.Event()

    def tell(answer: object) -> None:
        told.append((answer, threading.get_ident()))
        done.set()

    async with open_bridge(parse(server.url)) as bridge:
        bridge.submit([("ECHO", "a")], tell, key="a")
        assert told == []
        await done.wait()
    assert told == [([b"a"], threading.get_ident())]


async def test_scripts_are_loaded_when_they_are_not_known(server: Server) -> None:
    calls = [ScriptCall(ECHO, ("k",), (n,)) for n in range(20)]
    wanted = [[b"k", b"%d" % n] for n in range(20)]
    async with open_bridge(parse(server.url)) as bridge:
        for _ in range(3):
            replies = await bridge.call(("SET", "k", 1), *calls, ("GET", "k"), key="k")
            assert replies == [b"OK", *wanted, b"1"]
            await bridge.call(("SCRIPT", "FLUSH"), key="k")
        before = bridge.batches
        await bridge.call(*calls, key="k")
        await bridge.call(*calls, key="k")
        assert bridge.batches == before + 3


async def test_what_follows_an_unknown_script_is_carried_out_after_it(server: Server) -> None:
    async with open_bridge(parse(server.url)) as bridge:
        call = ScriptCall(SET, ("k",), ("new",))
        assert await bridge.call(call, ("GET", "k"), key="k") == [b"done", b"new"]


async def test_a_script_that_is_wrong_is_an_error_to_who_calls_it(server: Server) -> None:
    wrong = ScriptCall(Script("wrong", "retrn 1"), ("k",))
    fails = ScriptCall(Script("fails", "return redis.error_reply('MINE it is')"), ("k",))
    async with open_bridge(parse(server.url)) as bridge:
        one, two, three = await bridge.call(wrong, fails, ("ECHO", "x"), key="k")
    assert isinstance(one, ResponseError)
    assert "compil" in str(one)
    assert isinstance(two, ResponseError)
    assert str(two).startswith("MINE it is")
    assert three == b"x"


async def test_an_unknown_hash_of_the_caller_is_an_error(server: Server) -> None:
    async with open_bridge(parse(server.url)) as bridge:
        [reply] = await bridge.call(("EVALSHA", "0" * 40, 0), key="k")
    assert isinstance(reply, ResponseError)


async def test_a_batch_is_bounded(server: Server) -> None:
    async def put(bridge: RedisBridge) -> None:
        assert await bridge.call(("SET", "k", bytes(600_000)), key="k") == [b"OK"]

    async with open_bridge(parse(server.url)) as bridge:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(put, bridge)
        assert bridge.batches >= 5


async def test_a_connection_that_was_cut_while_idle_is_made_anew(server: Server) -> None:
    async with open_bridge(parse(server.url)) as bridge:
        await bridge.call(("PING",), key="k")
        with server.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        assert await bridge.call(("ECHO", "again"), key="k") == [b"again"]


@pytest.mark.parametrize("direction", ["requests_left", "replies_left"])
async def test_a_cut_after_any_number_of_bytes_leaves_each_caller_its_reply(
    doomed: Server, direction: str
) -> None:
    async def one(bridge: RedisBridge, n: int, got: list[int]) -> None:
        replies = await bridge.call(
            ("SADD", f"s{n}", n), ScriptCall(ECHO, (f"k{n}",), (n,)), ("SCARD", f"s{n}"), key="k"
        )
        assert replies[0] in (0, 1)
        assert replies[1:] == [[b"k%d" % n, b"%d" % n], 1]
        got.append(n)

    async with (
        open_cutting_proxy(doomed.port) as proxy,
        open_bridge(parse(f"redis://{HOST}:{proxy.port}")) as bridge,
    ):
        await bridge.call(ScriptCall(ECHO, ("k",), (1,)), key="k")
        for after in (1, 2, 7, 30, 31, 100, 333, 700, 1000, 1300):
            got: list[int] = []
            setattr(proxy, direction, after)
            with trio.fail_after(PATIENCE_SECONDS):
                async with trio.open_nursery() as nursery:
                    for n in range(50):
                        nursery.start_soon(one, bridge, n, got)
            assert sorted(got) == list(range(50))
        assert proxy.cuts == 10
        assert proxy.connections >= 10


async def test_replies_that_came_before_a_cut_stand(doomed: Server) -> None:
    replies: list[Any] = []
    async with (
        open_cutting_proxy(doomed.port) as proxy,
        open_bridge(parse(f"redis://{HOST}:{proxy.port}")) as bridge,
    ):
        await bridge.call(("PING",), key="k")
        proxy.replies_left = 4 * 5 + 2  # five replies like ":1\r\n", and a half
        replies = await bridge.call(*[("INCR", f"n{n}") for n in range(10)], key="k")
    assert replies == [1] * 5 + [2] * 5


async def test_a_refused_connection_is_told_when_patience_ends(doomed: Server) -> None:
    async with open_bridge(parse(doomed.url)) as bridge:
        await bridge.call(("PING",), key="k")
        doomed.kill()
        begin = trio.current_time()
        with pytest.raises(StorageUnavailable) as caught:
            await bridge.call(("PING",), key="k")
        assert PATIENCE_SECONDS <= trio.current_time() - begin < PATIENCE_SECONDS + 1
        text = f"redis at {HOST}:{doomed.port} cannot be used: connection refused"
        assert caught.value.reason == text
        assert bridge.fault == text
        doomed.start()
        assert await bridge.call(("PING",), key="k") == [b"PONG"]
        assert bridge.fault is None


async def test_a_restart_within_patience_is_not_noticed(doomed: Server) -> None:
    async with open_bridge(parse(doomed.url)) as bridge:
        await bridge.call(ScriptCall(SET, ("k",), (1,)), key="k")
        doomed.kill()

        async def start_again() -> None:
            await trio.sleep(0.3)
            await trio.to_thread.run_sync(doomed.start)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start_again)
            for _ in range(10):
                nursery.start_soon(_calls_script, bridge)


async def _calls_script(bridge: RedisBridge) -> None:
    assert await bridge.call(ScriptCall(SET, ("k",), (1,)), key="k") == [b"done"]


async def test_closing_does_not_wait_for_a_server_that_is_gone(doomed: Server) -> None:
    refused: list[Any] = []
    begin = trio.current_time()
    async with open_bridge(parse(doomed.url)) as bridge:
        await bridge.call(("PING",), key="k")
        doomed.pause()
        bridge.submit([("PING",)], refused.append, key="k")
        begin = trio.current_time()
    assert trio.current_time() - begin < 1.5
    doomed.go_on()
    await trio.sleep(0.01)
    assert [it.reason for it in refused] == ["the storage is closed"]
    assert redis_threads() == []
    with pytest.raises(StorageUnavailable, match="the storage is closed"):
        await bridge.call(("PING",), key="k")


async def test_closing_carries_out_what_was_submitted(server: Server) -> None:
    told: list[Any] = []
    async with open_bridge(parse(server.url)) as bridge:
        for n in range(1000):
            bridge.submit([("ECHO", n)], told.append, key="k")
    await trio.sleep(0.01)
    assert told == [[b"%d" % n] for n in range(1000)]


async def test_full_memory_is_refused_at_once_and_reading_goes_on() -> None:
    with start_server("valkey", "--maxmemory", "1500kb", "--maxmemory-policy", "noeviction") as it:
        async with open_bridge(parse(it.url)) as bridge:
            appends = [("APPEND", "k", bytes(100_000))] * 20
            with trio.fail_after(1), pytest.raises(StorageUnavailable, match=r"memory is full; "):
                await bridge.call(*appends, key="k")
            assert await bridge.call(("ECHO", "x"), key="k") == [b"x"]


async def test_a_replica_is_refused_at_once(doomed: Server) -> None:
    with doomed.client() as client:
        client.execute_command("REPLICAOF", HOST, doomed.port)
    async with open_bridge(parse(doomed.url)) as bridge:
        for command in (("SET", "k", 1), ScriptCall(SET, ("k",), (1,))):
            with trio.fail_after(1), pytest.raises(StorageUnavailable, match=r"read-only replica"):
                await bridge.call(command, key="k")


async def test_too_few_replicas_and_a_full_disk_are_refused_at_once(doomed: Server) -> None:
    async with open_bridge(parse(doomed.url)) as bridge:
        await bridge.call(("CONFIG", "SET", "min-replicas-to-write", 1), key="k")
        with trio.fail_after(1), pytest.raises(StorageUnavailable, match="too few replicas"):
            await bridge.call(("SET", "k", 1), key="k")


@pytest.mark.parametrize(
    ("login", "text"),
    [
        ("", "asks for a password; put USER:PASSWORD@"),
        (":wrong@", "does not accept the user or the password"),
        ("nobody:right@", "does not accept the user or the password"),
    ],
)
async def test_a_wrong_password_is_told_at_once_and_not_shown(login: str, text: str) -> None:
    with start_server("valkey", "--requirepass", "right") as server:
        async with open_bridge(parse(f"redis://{login}{HOST}:{server.port}")) as bridge:
            with trio.fail_after(1), pytest.raises(StorageUnavailable, match=text) as caught:
                await bridge.call(("PING",), key="k")
        assert login.strip(":@") not in str(caught.value) or not login
        async with open_bridge(parse(f"redis://:right@{HOST}:{server.port}/3")) as bridge:
            await bridge.call(("SET", "k", 1), key="k")
            assert b"db=3" in (await bridge.call(("CLIENT", "INFO"), key="k"))[0]


async def test_who_has_no_password_is_not_told_to_start_a_server_that_answers() -> None:
    with (
        start_server("valkey", "--requirepass", "right") as server,
        pytest.raises(StorageUnavailable, match=r"into the URL of the storage$"),
    ):
        await open_and_close(server.url)
    with pytest.raises(StorageUnavailable, match="connection refused; start it there, or name"):
        await open_and_close(server.url)


async def open_and_close(url: str) -> None:
    async with open_storage(url, now=time.time):
        pass


async def test_a_database_that_there_is_not_is_told_at_once(server: Server) -> None:
    async with open_bridge(parse(f"{server.url}/99")) as bridge:
        with trio.fail_after(1), pytest.raises(StorageUnavailable, match="out of range"):
            await bridge.call(("PING",), key="k")


async def test_a_server_without_cluster_is_told_apart(server: Server) -> None:
    async with open_bridge(parse(server.url.replace("redis:", "redis+cluster:"))) as bridge:
        with trio.fail_after(1), pytest.raises(StorageUnavailable, match="is it a cluster"):
            await bridge.call(("PING",), key="k")


async def test_something_else_than_redis_is_told() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host=HOST))
        port = listener.socket.getsockname()[1]
        async with open_bridge(parse(f"redis://{HOST}:{port}")) as bridge:
            with pytest.raises(StorageUnavailable, match="does not speak the protocol"):
                await bridge.call(("PING",), key="k")
        nursery.cancel_scope.cancel()


async def test_news_come_soon_and_in_order(server: Server) -> None:
    got: list[bytes] = []
    gaps: list[float] = []
    subscribed = trio.Event()

    def on_gap() -> None:
        gaps.append(trio.current_time())
        subscribed.set()

    address = parse(server.url)
    async with open_bridge(address) as bridge, open_news(address, "c", got.append, on_gap) as news:
        await subscribed.wait()
        assert news.fault is None
        assert got == []
        for n in range(5):
            await bridge.call(("PUBLISH", "c", n), key="k")
            await trio.sleep(0.02)
            assert got == [b"%d" % it for it in range(n + 1)]
        await bridge.call(*[("PUBLISH", "c", n) for n in range(5, 2000)], key="k")
        await until(lambda: len(got) == 2000, 1)
    assert got == [b"%d" % n for n in range(2000)]
    assert len(gaps) == 1
    assert redis_threads() == []


async def test_news_tell_of_a_gap_after_each_new_connection(doomed: Server) -> None:
    gaps, got_gap = trio.open_memory_channel[None](10)
    got: list[bytes] = []
    address = parse(doomed.url)
    async with open_news(address, "c", got.append, lambda: gaps.send_nowait(None)) as news:
        await got_gap.receive()
        doomed.kill()
        await until(lambda: news.fault is not None, 1)
        assert news.fault is not None
        assert "no news from redis" in news.fault
        await trio.sleep(0.2)
        await trio.to_thread.run_sync(doomed.start)
        with trio.fail_after(2):
            await got_gap.receive()
        async with open_bridge(address) as bridge:
            await bridge.call(("PUBLISH", "c", "x"), key="k")
            await trio.sleep(0.02)
    assert got == [b"x"]


async def test_news_end_promptly_when_nobody_answers(doomed: Server) -> None:
    doomed.pause()
    begin = trio.current_time()
    async with open_news(parse(doomed.url), "c", lambda _: None, lambda: None):
        await trio.sleep(0.1)
        begin = trio.current_time()
    assert trio.current_time() - begin < 1.5
    doomed.go_on()
    assert redis_threads() == []
