"""Ways to an S3 server on which things go wrong."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs
import trio
from tests.blobs.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server
from tests.e2e.bodies import Bodies
from tests.e2e.fault_proxy import HOST, FaultProxy, Towards

from avtomatika_trio._config import S3Access, Secret
from avtomatika_trio.blobs import Blob, Blobs, Location, Patience, Unfinished, open_s3

AT = Location(BUCKET, "one.bin")


def access_to(url: str) -> S3Access:
    """The server at *url*."""
    return S3Access(
        endpoint=url,
        access_key=Secret(ACCESS_KEY),
        secret_key=Secret(SECRET_KEY),
        session_token=None,
        region="us-east-1",
        bucket=BUCKET,
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds; the timeout of the test is that of this, too."""
    while not condition():  # noqa: ASYNC110 - of things that tell nobody
        await trio.sleep(0.002)


class MeteredProxy(FaultProxy):
    """Knows how much has passed.

    Args:
        upstream_port: As before.
        is_opaque: It is TLS that passes: there are no bodies to be found in it.
    """

    def __init__(self, upstream_port: int, *, is_opaque: bool) -> None:
        super().__init__(upstream_port)
        self._is_opaque = is_opaque
        self.passed = {Towards.SERVER: 0, Towards.CLIENT: 0}

    async def _deliver(
        self, data: bytes, bodies: Bodies, sink: trio.SocketStream, towards: Towards
    ) -> None:
        if self._is_opaque:
            await sink.send_all(data)
        else:
            await super()._deliver(data, bodies, sink, towards)
        self.passed[towards] += len(data)


@contextlib.asynccontextmanager
async def open_metered(upstream_port: int, *, is_opaque: bool) -> AsyncIterator[MeteredProxy]:
    """A proxy that runs until the block ends."""
    async with trio.open_nursery() as nursery:
        proxy = MeteredProxy(upstream_port, is_opaque=is_opaque)
        nursery.start_soon(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_tls(upstream_port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of something that speaks TLS, and passes on what is said."""

    async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        async for data in source:
            await sink.send_all(data)

    async def serve(client: trio.SSLStream[trio.SocketStream]) -> None:
        server = await trio.open_tcp_stream(HOST, upstream_port)
        with contextlib.suppress(*_BROKEN):
            try:
                async with trio.open_nursery() as nursery:

                    async def both(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
                        with contextlib.suppress(*_BROKEN):
                            await pump(source, sink)
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(both, client, server)
                    nursery.start_soon(both, server, client)
            finally:
                await trio.aclose_forcefully(server)
                await trio.aclose_forcefully(client)

    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_ssl_over_tcp, serve, 0, context, host=HOST)
        listeners = await nursery.start(listen)
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.define
class Script:
    """A server that answers what it is told, one connection for each answer.

    The last answer is that to all requests to come, too.
    """

    answers: list[bytes]
    pause: float = 0.0
    """Before the body of a request is read."""
    requests: list[bytes] = attrs.field(factory=list, init=False)
    url: str = attrs.field(default="", init=False)

    async def serve(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(*_BROKEN):
            await self._answer(stream)
            await stream.send_eof()
            async for _ in stream:
                pass  # until it is read: a connection closed too early is reset

    async def _answer(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(head)
        if b"expect" in fields:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        await trio.sleep(self.pause)
        left = int(fields.get(b"content-length", 0)) - len(body)
        while left > 0:
            left -= len(await stream.receive_some(65536))
        await stream.send_all(answer)


def answer(status: str, body: bytes = b"", *fields: str, length: int | None = None) -> bytes:
    """An answer; *length* is what it says of its length, if that is not so."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        "Connection: close",
        'ETag: "e"',
        "Last-Modified: Sat, 28 Nov 2026 21:00:00 GMT",
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def fault(status: str, code: str) -> bytes:
    """An answer of S3 that is an error."""
    return answer(status, f"<Error><Code>{code}</Code><Message>so</Message></Error>".encode())


@contextlib.asynccontextmanager
async def open_script(*answers: bytes, pause: float = 0.0) -> AsyncIterator[Script]:
    """A server that gives *answers* until the block ends."""
    script = Script(list(answers), pause)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        listening = listeners[0].socket
        # Little is under way to a server that does not read.
        listening.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65536)
        script.url = f"http://{HOST}:{listening.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, script.serve, listeners)
        yield script
        nursery.cancel_scope.cancel()


class MemoryJournal:
    """Remembers which uploads have begun."""

    def __init__(self) -> None:
        self.open: list[Unfinished] = []
        self.left_over: list[Unfinished] = []
        self.count = 0

    def begun(self, upload: Unfinished) -> None:
        self.open.append(upload)
        self.count += 1

    def ended(self, upload: Unfinished) -> None:
        if upload in self.open:
            self.open.remove(upload)

    def left(self, upload: Unfinished) -> None:
        self.left_over.append(upload)


@attrs.define
class Site:
    """Blobs behind a proxy."""

    blobs: Blobs
    proxy: MeteredProxy
    journal: MemoryJournal
    server: S3Server
    attempts: list[None]

    def stored(self, data: bytes) -> Blob:
        """Have *data* on the server without passing the proxy."""
        client = self.server.client()
        put = client.put_object(Bucket=AT.bucket, Key=AT.key, Body=data)
        client.close()
        return Blob(location=AT, size=len(data), etag=put["ETag"].strip('"'))

    def content(self) -> bytes:
        """What is on the server."""
        client = self.server.client()
        found: bytes = client.get_object(Bucket=AT.bucket, Key=AT.key)["Body"].read()
        client.close()
        return found


@asynccontextmanager
async def open_site(
    server: S3Server, *, tls: ssl.SSLContext | None = None, seconds: float = 20.0
) -> AsyncIterator[Site]:
    """Blobs on *server* behind a proxy; between the two there may be TLS."""
    async with AsyncExitStack() as stack:
        port, scheme = server.port, "http"
        if tls is not None:
            port, scheme = await stack.enter_async_context(open_tls(port, tls)), "https"
        proxy = await stack.enter_async_context(open_metered(port, is_opaque=tls is not None))
        journal, attempts = MemoryJournal(), list[None]()

        def noise() -> float:  # asked for before each further attempt
            attempts.append(None)
            return 0.0

        blobs = await stack.enter_async_context(
            open_s3(
                access_to(f"{scheme}://{HOST}:{proxy.port}"),
                max_concurrency=10,
                patience=Patience(seconds=seconds, noise=noise),
                journal=journal,
            )
        )
        yield Site(blobs, proxy, journal, server, attempts)
