"""Files of jobs that pass through the orchestrator, a piece at a time.

Plain ASGI in front of Quart, which would take in a body as fast as it comes; and in front of
the limit of all other bodies.  What is in memory is one piece for each request, however long
the file is.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import attrs
import trio
from werkzeug.datastructures import Headers

from avtomatika_trio.blobs import Location
from avtomatika_trio.blobs._disk import disk_faults
from avtomatika_trio.errors import BlobMissing, BlobRefused
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._access import Client
from avtomatika_trio.orchestrator._client_request import admit, owned_job, still_runs
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._file_names import check_name, folder_of
from avtomatika_trio.orchestrator._http import (
    AsgiApp,
    Disconnected,
    HttpProblem,
    Receive,
    Scope,
    Send,
    address_of,
    allow_only,
    send_json,
    send_problem,
)
from avtomatika_trio.orchestrator._observed import is_at
from avtomatika_trio.orchestrator._problems import EXPECTED, as_problem
from avtomatika_trio.orchestrator._registry import prefixes_of
from avtomatika_trio.orchestrator._route import Route
from avtomatika_trio.orchestrator._routes_files import blobs_of
from avtomatika_trio.orchestrator._table_files import GET_FILE, PUT_FILE

#: So much goes to or comes from the disk at a time.
_PIECE_BYTES = 1024 * 1024

#: How long a URL is valid that a client is sent to at once.
_REDIRECT_SECONDS = 60


@attrs.frozen(kw_only=True)
class _Request:
    """A request for the content of one file; its body, if it has one, is still to come."""

    method: str
    job_id: str
    name: str
    headers: Headers
    address: str
    receive: Receive
    send: Send


def create_file_streams(context: Context) -> Callable[[Scope], AsgiApp | None]:
    """What finds the ASGI callable for a request by its scope; None: it is for others."""
    prefixes = prefixes_of(context.blueprints)
    streams = _Streams(context)
    serving = (
        (PUT_FILE.pattern(prefixes), streams.put),
        (GET_FILE.pattern(prefixes), streams.get),
    )

    def find(scope: Scope) -> AsgiApp | None:
        for path, serve in serving:
            found = path.fullmatch(scope["path"])
            if found is not None:
                return partial(_answer, serve, found["job_id"], found["name"])
        return None

    return find


async def _answer(
    serve: Callable[[_Request], Any],
    job_id: str,
    name: str,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    request = _Request(
        method=scope["method"],
        job_id=job_id,
        name=name,
        headers=Headers([(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]]),
        address=address_of(scope),
        receive=receive,
        send=send,
    )
    try:
        await serve(request)
    except Disconnected:
        pass
    except EXPECTED as exc:
        problem = as_problem(exc)
        if request.method != "GET":  # the rest of a body that nobody will read may be on its way
            headers = {**problem.headers, "connection": "close"}
            problem = attrs.evolve(problem, headers=headers)
        await send_problem(send, problem)


class _Streams:
    def __init__(self, context: Context) -> None:
        self.context = context

    async def put(self, request: _Request) -> None:
        """`PUT /jobs/{id}/files/content/{name}`: keep the body as a file of the job."""
        allow_only(request.method, "PUT")
        is_at(PUT_FILE.template)
        client, at = await self._place(request, PUT_FILE)
        most = self.context.limits.max_file_bytes
        if request.headers.get("content-length", 0, type=int) > most:
            raise _too_large(most)
        async with _temporary(self.context.task_files_dir, at.uri) as file:
            await _keep(request, file, at.uri, most)
            if not self.context.access.lets_in(client):
                detail = "the token was withdrawn while the file was sent"
                raise HttpProblem(HTTPStatus.UNAUTHORIZED, "token_unknown", detail)
            still_runs(await owned_job(self.context, client, request.job_id))
            blob = await blobs_of(self.context).upload(file.fileno(), at, lambda _: None)
        answer: shapes.Uploaded = {
            "status": "uploaded",
            "s3_uri": blob.uri,
            "uri": blob.uri,
            "size": blob.size,
            "etag": blob.etag,
            "sha256": blob.sha256,
        }
        await send_json(request.send, answer)

    async def get(self, request: _Request) -> None:
        """`GET /jobs/{id}/files/download/{name}`: the file, or where it is."""
        allow_only(request.method, "GET", "HEAD")
        is_at(GET_FILE.template)
        _, at = await self._place(request, GET_FILE)
        blobs = blobs_of(self.context)
        await blobs.head(at)
        url = await blobs.presigned(at, method=request.method, seconds=_REDIRECT_SECONDS)
        if url is not None:
            await _send_elsewhere(request.send, url)
            return
        path = blobs.local(at)
        if path is None:
            raise BlobRefused(at.uri, "it can only be read where it is")
        descriptor = await trio.to_thread.run_sync(_open, path, at.uri)
        try:
            await _send_file(request, descriptor)
        finally:
            os.close(descriptor)

    async def _place(self, request: _Request, route: Route) -> tuple[Client, Location]:
        """Who has sent *request*, and where the file is that it is about.

        Raises:
            HttpProblem: 401, 403, 409, 429, 501.
            InvalidMessage: there cannot be such a name.
            JobNotFound: it is missing, or somebody else's.
        """
        client = await admit(self.context, request.headers, request.address, route.needed)
        check_name(request.name, "name")
        job = await owned_job(self.context, client, request.job_id)
        if route is PUT_FILE:
            still_runs(job)
        folder = folder_of(blobs_of(self.context).bucket, job.id)
        return client, folder.at(folder.key + request.name)


def _too_large(most: int) -> HttpProblem:
    detail = f"the file is larger than the limit of {most} bytes (MAX_FILE_BYTES)"
    return HttpProblem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "file_too_large", detail)


@asynccontextmanager
async def _temporary(folder: Path, uri: str) -> AsyncIterator[IO[bytes]]:
    """A file without a name in *folder*: nothing of it is left, whatever happens."""

    def make() -> IO[bytes]:
        with disk_faults(uri, f"{folder} cannot be written to"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=folder, buffering=0)

    file = await trio.to_thread.run_sync(make)
    try:
        yield file
    finally:
        file.close()


async def _keep(request: _Request, file: IO[bytes], uri: str, most: int) -> None:
    """Write the body of *request* to *file*.

    Raises:
        Disconnected: the client went away in the middle of it.
        HttpProblem: 413, it has more than *most* bytes.
        DiskFault: it cannot be written.
    """
    size, waiting, more = 0, bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        waiting += message.get("body", b"")
        more = message.get("more_body", False)
        if size + len(waiting) > most:
            raise _too_large(most)
        if len(waiting) >= _PIECE_BYTES or not more:
            await trio.to_thread.run_sync(_write, file, bytes(waiting), uri)
            size += len(waiting)
            waiting.clear()


def _write(file: IO[bytes], data: bytes, uri: str) -> None:
    left = memoryview(data)
    with disk_faults(uri, "it cannot be written"):
        while left:
            left = left[file.write(left) :]


async def _send_elsewhere(send: Send, url: str) -> None:
    headers = [
        (b"location", url.encode()),
        (b"cache-control", b"no-store"),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _open(path: Path, uri: str) -> int:
    with disk_faults(uri, "it cannot be read"):
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobMissing(uri, "there is no such file") from None


async def _send_file(request: _Request, descriptor: int) -> None:
    """Answer with the open file, which nobody writes to any more."""
    left = os.fstat(descriptor).st_size
    shown = quote(request.name.rpartition("/")[2], safe="")
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % left),
        (b"content-disposition", f"attachment; filename*=UTF-8''{shown}".encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]
    await request.send({"type": "http.response.start", "status": 200, "headers": headers})
    while left and request.method != "HEAD":
        piece = await trio.to_thread.run_sync(os.read, descriptor, min(left, _PIECE_BYTES))
        if not piece:
            raise OSError(f"{request.name} is shorter than it was")  # cut: the client sees it
        left -= len(piece)
        await request.send({"type": "http.response.body", "body": piece, "more_body": True})
    await request.send({"type": "http.response.body", "body": b"", "more_body": False})
