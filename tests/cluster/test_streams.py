"""The network of byte streams itself: what it promises to tests that cut it at a byte."""

import random

import httpx
import pytest
import trio
from tests.cluster.scene import Workshop, at_peace
from trio.testing import MockClock, check_half_closeable_stream

from avtomatika_trio.testing import Break, Cut, Exchange, StreamNetwork, Way
from avtomatika_trio.testing._wires import WireEnd, open_wire

REQUEST = b"GET /a HTTP/1.1\r\n\r\n"
ANSWER = b"HTTP/1.1 204 \r\n\r\n"

each_way = pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
each_break = pytest.mark.parametrize("how", Break, ids=lambda how: how.value)


def ends(
    cut: Cut | None = None, exchanges: list[Exchange] | None = None
) -> tuple[WireEnd, WireEnd]:
    """A client's and a server's end."""

    def find_cut(exchange: Exchange, way: Way) -> Cut | None:
        is_meant = cut is not None and cut.way is way and not cut.hit.is_set()
        return cut if is_meant else None

    _, client, server = open_wire([] if exchanges is None else exchanges, find_cut)
    return client, server


async def everything(end: WireEnd) -> tuple[bytes, str]:
    """What is read there, and how it ends."""
    data = b""
    with trio.move_on_after(100):
        try:
            while piece := await end.receive_some():
                data += piece
        except trio.BrokenResourceError:
            return data, "reset"
        return data, "end"
    return data, "silence"


async def is_taken(end: WireEnd) -> bool:
    """Whether a byte more can be sent."""
    try:
        await end.send_all(b"x")
    except trio.BrokenResourceError:
        return False
    return True


async def test_a_wire_keeps_the_promises_of_streams() -> None:
    async def make() -> tuple[WireEnd, WireEnd]:
        return ends()

    await check_half_closeable_stream(make, None)


@each_way
@each_break
async def test_a_cut_lets_through_what_is_before_it_and_nothing_more(
    autojump_clock: MockClock, way: Way, how: Break
) -> None:
    for place in range(len(REQUEST + REQUEST) + 1):
        cut = Cut(matches=lambda line: True, way=way, after_bytes=place, how=how)
        client, server = ends(cut)
        sender, receiver = (client, server) if way is Way.TO_SERVER else (server, client)
        await receiver.send_all(b"before")
        await sender.send_all(REQUEST.lower())
        if not cut.hit.is_set():
            await sender.send_all(REQUEST.lower())

        assert cut.hit.is_set()
        assert await everything(receiver) == ((REQUEST + REQUEST).lower()[:place], how.value)
        assert await is_taken(receiver) is await is_taken(sender) is (how is Break.SILENCE)
        assert await everything(sender) == (b"before", how.value)


@each_break
async def test_who_waits_is_told_of_a_break_at_once(autojump_clock: MockClock, how: Break) -> None:
    client, server = ends(Cut(matches=lambda line: True, way=Way.TO_SERVER, after_bytes=0, how=how))
    seen: list[tuple[float, str]] = []

    async def wait(end: WireEnd) -> None:
        _, ending = await everything(end)
        seen.append((trio.current_time(), ending))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, client)
        nursery.start_soon(wait, server)
        await trio.sleep(1)
        await client.send_all(REQUEST)
    assert seen == [(100.0 if how is Break.SILENCE else 1.0, how.value)] * 2


async def test_silence_hides_a_close() -> None:
    cut = Cut(matches=lambda line: True, way=Way.TO_SERVER, after_bytes=3, how=Break.SILENCE)
    client, server = ends(cut)
    await client.send_all(REQUEST)
    await client.aclose()
    assert await server.receive_some() == REQUEST[:3]
    with trio.move_on_after(0.01) as waiting:
        await server.receive_some()
    assert waiting.cancelled_caught
    await server.send_all(ANSWER)


async def test_bytes_are_counted_by_exchange() -> None:
    exchanges: list[Exchange] = []
    client, server = ends(exchanges=exchanges)
    for body in (b"", b"{}"):
        await client.send_all(REQUEST)
        await client.send_all(body)
        await server.send_all(ANSWER + body)
    assert [it.line for it in exchanges] == ["GET /a HTTP/1.1"] * 2
    assert [it.status for it in exchanges] == [204, 204]
    lengths = [(it.sent[Way.TO_SERVER], it.sent[Way.TO_CLIENT]) for it in exchanges]
    assert lengths == [(len(REQUEST + body), len(ANSWER + body)) for body in (b"", b"{}")]


@pytest.mark.parametrize("host", ["o1", "cluster"])
async def test_where_nobody_listens_connections_are_refused(host: str) -> None:
    transport = StreamNetwork(random.Random(0)).transport("w1")
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx.ConnectError, match="refused"):
            await client.get(f"http://{host}/")


async def test_what_was_stopped_or_killed_is_found_again_by_the_same_client(
    autojump_clock: MockClock,
) -> None:
    """Also where the client still had an idle connection to it."""
    async with at_peace(streams=StreamNetwork(random.Random(0))) as cluster:
        for end in (cluster.orchestrator.stop, cluster.orchestrator.kill):
            await cluster.submit("one", {"n": 1})
            await end()
            with pytest.raises(httpx.ConnectError):
                await cluster.submit("one", {"n": 1})
            await cluster.orchestrator.start()
            await cluster.submit("one", {"n": 1})


@pytest.mark.parametrize("seconds", [0, 5])
async def test_the_killed_say_nothing_more(autojump_clock: MockClock, seconds: float) -> None:
    streams, shop = StreamNetwork(random.Random(0)), Workshop()
    async with at_peace(streams=streams) as cluster:
        await shop.add_to(cluster).start()
        await trio.sleep(1)
        parked = streams.exchanges[-1]
        assert "/tasks/next" in parked.line
        await cluster.orchestrator.kill()
        assert parked.status is None
        assert parked.sent[Way.TO_CLIENT] == 0

        await trio.sleep(seconds)
        await cluster.orchestrator.start()
        [job_id] = await cluster.submit("one", {"n": 1})
        await cluster.wait_until_final([job_id], seconds=5 + seconds)


async def test_a_cut_befalls_only_what_it_is_meant_for(autojump_clock: MockClock) -> None:
    """Once, and no exchange that is past that place already."""
    streams = StreamNetwork(random.Random(0))
    async with at_peace(streams=streams) as cluster:
        streams.cut = Cut(matches=lambda line: "/else" in line, way=Way.TO_SERVER, after_bytes=9)
        await cluster.submit("one", {"n": 1})
        assert not streams.cut.hit.is_set()

        streams.cut = Cut(matches=lambda line: "/jobs/" in line, way=Way.TO_SERVER, after_bytes=9)
        with pytest.raises(httpx.ReadError):
            await cluster.submit("one", {"n": 1})
        assert streams.cut.hit.is_set()
        assert streams.exchanges[-1].sent == {Way.TO_SERVER: 9, Way.TO_CLIENT: 0}
        await cluster.submit("one", {"n": 1})
        assert len(streams.exchanges) == 3
        assert streams.exchanges[-1].status == 202
