"""Files of jobs over HTTP: listed, put and fetched, by whom and under which names."""

import hashlib
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import httpx
import pytest
import trio
from tests.orchestrator.clients import (
    TOKEN,
    ask_raw,
    http_scope,
    let_in,
    make_context,
    open_client,
)
from tests.orchestrator.serving import connect, open_server, read_to_end

from avtomatika_trio._core.access import AuditRow, Role
from avtomatika_trio._core.admission import apply
from avtomatika_trio.blobs import open_folder
from avtomatika_trio.errors import (
    BlobChanged,
    BlobDenied,
    BlobError,
    BlobMissing,
    BlobRefused,
    BlobUnavailable,
    DiskFault,
)
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.testing import MemoryBlobs

MIB = 1024 * 1024


@pytest.fixture(params=["folder", "server"])
async def context(request: Any, tmp_path: Path) -> AsyncIterator[Context]:
    """An orchestrator that keeps files in a folder, or on what behaves as S3."""
    plain = attrs.evolve(make_context(max_file_bytes=3 * MIB), task_files_dir=tmp_path / "work")
    if request.param == "server":
        yield attrs.evolve(plain, blobs=MemoryBlobs(plain.storage.now))
    else:
        async with open_folder(tmp_path / "files") as blobs:
            yield attrs.evolve(plain, blobs=blobs)


@pytest.fixture
async def client(context: Context) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(context) as one:
        yield one


@pytest.fixture
async def job(client: httpx.AsyncClient) -> str:
    """The path of a job that waits for an engine."""
    return f"/api/v1/jobs/{(await client.post('/api/v1/jobs/resize')).json()['job_id']}"


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def is_server(context: Context) -> bool:
    return isinstance(context.blobs, MemoryBlobs)


async def fetch(client: httpx.AsyncClient, context: Context, path: str) -> bytes:
    """The content of a file, wherever the download leads."""
    answer = await client.get(path)
    if not is_server(context):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        return answer.content
    assert answer.status_code == 302
    assert answer.headers["cache-control"] == "no-store"
    assert "GET&seconds=60" in answer.headers["location"]
    assert isinstance(context.blobs, MemoryBlobs)
    key = httpx.URL(answer.headers["location"]).path.partition("/memory/")[2]
    [data] = [it for at, (_, it) in context.blobs.contents.items() if at.key == key]
    return data


# There and back.


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB])
async def test_a_file_comes_back_as_it_was_put(
    client: httpx.AsyncClient, context: Context, job: str, size: int
) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    answer = await client.put(f"{job}/files/content/in/a.bin", content=data)
    assert answer.status_code == 200
    said = answer.json()
    assert said["status"] == "uploaded"
    assert said["uri"] == said["s3_uri"]
    assert said["uri"].endswith(f"{job.removeprefix('/api/v1')}/in/a.bin")
    assert (said["size"], said["sha256"]) == (size, hashlib.sha256(data).hexdigest())
    assert await fetch(client, context, f"{job}/files/download/in/a.bin") == data
    [listed] = (await client.get(f"{job}/files")).json()["files"]
    assert (listed["name"], listed["size"], listed["uri"]) == ("in/a.bin", size, said["uri"])
    assert listed["etag"] == said["etag"]
    assert listed["modified_at"].endswith("Z")


async def test_files_are_listed_by_name_with_those_of_workers(
    client: httpx.AsyncClient, job: str
) -> None:
    for name in ("b", "a/2", "a/1", "p00-task-1/out.mp4", "ab"):
        assert (await client.put(f"{job}/files/content/{name}", content=b"x")).is_success
    answer = await client.get(f"{job}/files")
    names = [it["name"] for it in answer.json()["files"]]
    assert names == ["a/1", "a/2", "ab", "b", "p00-task-1/out.mp4"]
    for prefix, found in (("a/", names[:2]), ("a", names[:3]), ("nothing", [])):
        answer = await client.get(f"{job}/files?prefix={prefix}")
        assert [it["name"] for it in answer.json()["files"]] == found


async def test_a_job_without_files_has_none(client: httpx.AsyncClient, job: str) -> None:
    assert (await client.get(f"{job}/files")).json() == {"files": []}


async def test_a_file_is_replaced_as_a_whole(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    for data in (b"long" * 1000, b"short"):
        assert (await client.put(f"{job}/files/content/a", content=data)).is_success
        assert await fetch(client, context, f"{job}/files/download/a") == data


async def test_where_to_put_a_file(client: httpx.AsyncClient, context: Context, job: str) -> None:
    query = "filename=in/größe 1.bin&expires_in=60"
    said = (await client.get(f"{job}/files/upload?{query}")).json()
    assert (said["method"], said["expires_in"]) == ("PUT", 60)
    assert said["uri"].endswith("/in/größe 1.bin")
    if is_server(context):
        assert said["url"].endswith(f"{quote('/in/größe 1.bin')}?PUT&seconds=60")
        return
    assert (await client.put(said["url"], content=b"x")).json()["uri"] == said["uri"]


@pytest.mark.parametrize("text", ["0", "604801", "-1", "1.5", "soon", "9" * 30])
async def test_a_url_is_valid_for_a_week_at_most(
    client: httpx.AsyncClient, job: str, text: str
) -> None:
    answer = await client.get(f"{job}/files/upload?filename=a&expires_in={text}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_message")
    assert answer.json()["errors"][0]["path"] == "?expires_in"
    answer = await client.get(f"{job}/files/upload?filename=a&expires_in=604800")
    assert answer.status_code == 200


async def test_a_head_tells_of_a_file_without_its_content(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    await client.put(f"{job}/files/content/a", content=b"12345")
    answer = await client.head(f"{job}/files/download/a")
    if not is_server(context):
        assert (answer.status_code, answer.headers["content-length"]) == (200, "5")
        assert answer.content == b""
        raw = await ask_raw(create_app(context), "HEAD", f"{job}/files/download/a")
        assert (raw.status, raw.body) == (200, b"")


async def test_downloads_leave_nothing_open(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    await client.put(f"{job}/files/content/a", content=b"12345")
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    for _ in range(3):
        await fetch(client, context, f"{job}/files/download/a")
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


# Limits.


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(
    client: httpx.AsyncClient, context: Context, job: str, announced: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * MIB

    content = b"x" * (3 * MIB + 1) if announced else pieces()
    answer = await client.put(f"{job}/files/content/a", content=content)
    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")
    assert "MAX_FILE_BYTES" in answer.json()["detail"]
    assert answer.headers["connection"] == "close"
    assert (await client.get(f"{job}/files")).json() == {"files": []}
    assert announced or list(context.task_files_dir.iterdir()) == []


async def test_other_bodies_keep_their_limit(client: httpx.AsyncClient, job: str) -> None:
    """Also those whose path looks much like that of a file."""
    for path in (f"{job}/cancel", f"{job}/files", "/api/v1/jobs/content/files/content"):
        answer = await client.post(path, content=b"x" * (2 * MIB))
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_client_that_goes_away_midway_leaves_nothing(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    head = (
        f"PUT {job}/files/content/a HTTP/1.1\r\nHost: o\r\nX-Client-Token: {TOKEN}\r\n"
        f"Content-Length: {3 * MIB}\r\n\r\n"
    )
    app: Any = create_app(context)
    async with open_server(app, max_message_bytes=100 * MIB) as server:
        stream = await connect(server.port)
        await stream.send_all(head.encode() + b"x" * (2 * MIB))
        with trio.fail_after(10):
            while not context.task_files_dir.exists():  # noqa: ASYNC110 - a folder has no event
                await trio.sleep(0.01)
        await stream.aclose()
    assert list(context.task_files_dir.iterdir()) == []
    assert (await client.get(f"{job}/files")).json() == {"files": []}


async def test_a_refusal_can_be_read_while_the_file_is_still_sent(
    context: Context, job: str
) -> None:
    app: Any = create_app(context)
    async with open_server(app, max_message_bytes=100 * MIB) as server:
        head = (
            f"PUT {job}/files/content/a HTTP/1.1\r\nHost: o\r\nX-Client-Token: wrong\r\n"
            f"Content-Length: {3 * MIB}\r\n\r\n"
        )
        async with await connect(server.port) as stream:
            await stream.send_all(head.encode() + b"x" * (3 * MIB))
            answer = await read_to_end(stream)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"token_unknown" in answer


async def test_a_file_larger_than_what_is_in_memory_goes_through_a_real_server(
    tmp_path: Path,
) -> None:
    plain = attrs.evolve(make_context(), task_files_dir=tmp_path / "work")
    piece = bytes(range(256)) * 4096
    async with open_folder(tmp_path / "files") as blobs:
        context = attrs.evolve(plain, blobs=blobs)
        app: Any = create_app(context)
        async with (
            open_server(app, max_message_bytes=100 * MIB) as server,
            httpx.AsyncClient(base_url=server.url, headers={"X-Client-Token": TOKEN}) as client,
        ):
            job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]

            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(50):
                    yield piece

            path = f"/api/v1/jobs/{job_id}/files"
            said = (await client.put(f"{path}/content/a", content=pieces())).json()
            assert said["size"] == 50 * MIB
            digest = hashlib.sha256()
            async with client.stream("GET", f"{path}/download/a") as answer:
                async for data in answer.aiter_bytes():
                    digest.update(data)
            assert digest.hexdigest() == said["sha256"]


# Who may.


def requests(job: str) -> list[tuple[str, str]]:
    return [
        ("GET", f"{job}/files"),
        ("GET", f"{job}/files/upload?filename=a"),
        ("PUT", f"{job}/files/content/a"),
        ("GET", f"{job}/files/download/a"),
    ]


async def test_jobs_of_others_are_not_there(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    await let_in(context, "other", roles=(Role.SUBMITTER,))
    await let_in(context, "boss", roles=(Role.OPERATOR,))
    await client.put(f"{job}/files/content/a", content=b"mine")
    async with open_client(context, token="token-of-other") as other:
        for method, path in requests(job) + requests("/api/v1/jobs/p00-none"):
            answer = await other.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found"), path
    async with open_client(context, token="token-of-boss") as boss:
        assert await fetch(boss, context, f"{job}/files/download/a") == b"mine"
    assert await fetch(client, context, f"{job}/files/download/a") == b"mine"


async def test_a_viewer_sees_files_and_puts_none(context: Context, job: str) -> None:
    await let_in(context, "viewer", roles=(Role.VIEWER,))
    async with open_client(context, token="token-of-viewer") as viewer:
        answers = [await viewer.request(method, path) for method, path in requests(job)]
    assert [it.status_code for it in answers] == [404, 403, 403, 404]


async def test_a_job_that_has_ended_takes_no_more_files(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    await client.put(f"{job}/files/content/a", content=b"x")
    await client.post(f"{job}/cancel")
    for method, path in requests(job)[1:3]:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (409, "job_is_final")
    assert await fetch(client, context, f"{job}/files/download/a") == b"x"


async def test_other_methods_are_refused(client: httpx.AsyncClient, job: str) -> None:
    for method, path, allowed in (
        ("POST", f"{job}/files/content/a", "PUT"),
        ("GET", f"{job}/files/content/a", "PUT"),
        ("DELETE", f"{job}/files/download/a", "GET, HEAD"),
    ):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_an_orchestrator_without_a_place_for_files_says_so() -> None:
    async with open_client(make_context()) as client:
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]
        for method, path in requests(f"/api/v1/jobs/{job_id}"):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (501, "files_off")


async def test_every_prefix_has_these_routes(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    await client.put(f"{job}/files/content/a", content=b"x")
    for prefix in ("/api", "/api/v2"):
        path = job.replace("/api/v1", prefix)
        assert await fetch(client, context, f"{path}/files/download/a") == b"x"
        assert len((await client.get(f"{path}/files")).json()["files"]) == 1


# Names.

GOOD_NAMES = [
    "a",
    "a b",
    "ключ/日本語.txt",
    "👨\u200d👩\u200d👧",
    "..a",
    "a..",
    "...",
    "a/.hidden",
    "100%",
    "%2e%2e",
    "a?b#c&d=e+f",
    "x" * 255,
    "/".join(["y" * 127] * 4) + "y",
    "-rf *",
    "a:b",
]

BAD_NAMES = [
    "",
    ".",
    "..",
    "../a",
    "a/..",
    "a/../../b",
    "a/./b",
    "/etc/passwd",
    "//a",
    "a//b",
    "a/",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\u2028b",
    "..\\a",
    "C:\\a",
    "x" * 256,
    "/".join(["y" * 127] * 4) + "yy",
    "/".join(["é" * 100] * 3),
]


@pytest.mark.parametrize("name", GOOD_NAMES)
async def test_a_good_name_is_kept_to_the_letter(
    client: httpx.AsyncClient, context: Context, job: str, name: str
) -> None:
    quoted = quote(name)
    answer = await client.put(f"{job}/files/content/{quoted}", content=b"x")
    assert answer.status_code == 200, answer.text
    assert [it["name"] for it in (await client.get(f"{job}/files")).json()["files"]] == [name]
    assert await fetch(client, context, f"{job}/files/download/{quoted}") == b"x"


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_bad_name_is_refused_and_named(
    client: httpx.AsyncClient, context: Context, job: str, name: str, tmp_path: Path
) -> None:
    before = everything_in(tmp_path)
    app = create_app(context)
    for method, path, query, where in (
        ("PUT", f"{job}/files/content/{name}", b"", "name"),
        ("GET", f"{job}/files/download/{name}", b"", "name"),
        ("GET", f"{job}/files/upload", f"filename={quote(name)}".encode(), "?filename"),
    ):
        answer = await ask_raw(app, method, path, query=query, body=b"x")
        assert answer.status == 400, (method, path)
        assert f'"path":"{where}"'.encode() in answer.body
    for prefix in {name, f"{name}/"} - {"", "a/"}:
        if name in {"", "a/"}:
            continue
        query = f"prefix={quote(prefix)}".encode()
        assert (await ask_raw(app, "GET", f"{job}/files", query=query)).status == 400
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/%2e%2e/secret",
        "%2E%2E%2Fsecret",
        "..%2f..%2fsecret",
        "a/%2e%2e/%2e%2e/%2e%2e/secret",
        "%2fetc%2fpasswd",
        "..%5csecret",
        "a%00",
    ],
)
async def test_no_way_of_writing_a_path_leads_out_of_the_job(
    client: httpx.AsyncClient, context: Context, job: str, path: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("not for you")
    app: Any = create_app(context)
    async with open_server(app, max_message_bytes=100 * MIB) as server:
        for method, kind in (("GET", "download"), ("PUT", "content")):
            head = (
                f"{method} {job}/files/{kind}/{path} HTTP/1.1\r\nHost: o\r\n"
                f"X-Client-Token: {TOKEN}\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
            )
            async with await connect(server.port) as stream:
                await stream.send_all(head.encode())
                assert (await read_to_end(stream)).startswith(b"HTTP/1.1 400")
    assert (tmp_path / "secret").read_text() == "not for you"
    assert (await client.get(f"{job}/files")).json() == {"files": []}


# What may go wrong.


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (BlobMissing("s3://memory/a", "there is no such bucket"), 404, "file_not_found"),
        (BlobDenied("s3://memory/a", "the key is s3cr3t"), 502, "files_refused"),
        (BlobRefused("s3://memory/a", "a folder cannot keep it"), 400, "invalid_message"),
        (BlobError("s3://memory/a", "the key is s3cr3t"), 502, "files_refused"),
        (BlobUnavailable("s3://memory/a", "http://u:s3cr3t@h/"), 503, "files_unavailable"),
        (BlobChanged("s3://memory/a", "the key is s3cr3t"), 503, "files_unavailable"),
        (DiskFault("s3://memory/a", "/home/s3cr3t: no space"), 507, "disk_full"),
    ],
)
async def test_a_fault_of_a_file_is_told_without_secrets(
    tmp_path: Path, fault: BlobError, status: int, code: str
) -> None:
    plain = attrs.evolve(make_context(), task_files_dir=tmp_path / "work")
    blobs = MemoryBlobs(plain.storage.now)
    async with open_client(attrs.evolve(plain, blobs=blobs)) as client:
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]
        with blobs.broken(fault):
            for method, path in requests(f"/api/v1/jobs/{job_id}"):
                answer = await client.request(method, path)
                assert (answer.status_code, answer.json()["code"]) == (status, code), path
                assert answer.headers["content-type"] == "application/problem+json"
                assert "s3cr3t" not in answer.text
                assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_folder_for_work_that_cannot_be_made_is_no_bug(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    context.task_files_dir.write_text("a file is in the way")
    answer = await client.put(f"{job}/files/content/a", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")


async def test_there_is_no_such_file(client: httpx.AsyncClient, job: str) -> None:
    answer = await client.get(f"{job}/files/download/a")
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")
    await client.put(f"{job}/files/content/a/b", content=b"x")
    answer = await client.get(f"{job}/files/download/a")
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


async def test_a_job_that_ends_while_its_file_comes_does_not_get_it(
    client: httpx.AsyncClient, context: Context, job: str
) -> None:
    app = create_app(context)
    sent: list[dict[str, Any]] = []
    bodies = [b"x", b"y"]

    async def receive() -> dict[str, Any]:
        if len(bodies) == 1:
            await client.post(f"{job}/cancel")
        return {"type": "http.request", "body": bodies.pop(), "more_body": bool(bodies)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(http_scope("PUT", f"{job}/files/content/a"), receive, send)
    assert sent[0]["status"] == 409
    assert (await client.get(f"{job}/files")).json() == {"files": []}


async def test_a_token_that_is_withdrawn_while_a_file_comes_brings_none(
    context: Context, tmp_path: Path
) -> None:
    await let_in(context, "ada", roles=(Role.SUBMITTER,))
    headers = [(b"host", b"o"), (b"x-client-token", b"token-of-ada")]
    async with open_client(context) as client:
        ada = {"X-Client-Token": "token-of-ada"}
        posted = await client.post("/api/v1/jobs/resize", headers=ada)
        job = f"/api/v1/jobs/{posted.json()['job_id']}"
        sent: list[dict[str, Any]] = []
        bodies = [b"x", b"y"]

        async def receive() -> dict[str, Any]:
            if len(bodies) == 1:
                row = AuditRow(at=0, who="test", action="test", origin="")
                operation = partial(apply, workers=None, clients=(), audit=row)
                await context.storage.commit(operation)
                await context.access.open()
            return {"type": "http.request", "body": bodies.pop(), "more_body": bool(bodies)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = http_scope("PUT", f"{job}/files/content/a", headers=headers)
        await create_app(context)(scope, receive, send)
        assert sent[0]["status"] == 401
        assert (await client.get(f"{job}/files")).json() == {"files": []}
