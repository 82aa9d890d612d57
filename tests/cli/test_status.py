"""`avtomatika worker status`, asked of a small server."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.cli.commands import Run

from avtomatika_trio.cli import Exit


def well() -> dict[str, Any]:
    """What a worker answers that has lost one of two orchestrators."""
    now = time.time()
    return {
        "status": "ok",
        "worker_id": "w-1",
        "instance": "i-1",
        "mode": "FAILOVER",
        "slots": 10,
        "running": 3,
        "undelivered": 2,
        "orchestrators": [
            {
                "url": "http://a:8080",
                "standing": "active",
                "since_at": now - 3 * 3600,
                "reason": None,
                "cluster_id": "blue",
                "polled_at": now - 30,
                "renewed_at": now + 5,
                "undelivered": 0,
            },
            {
                "url": "http://b:8080",
                "standing": "refused",
                "since_at": now - 3 * 86_400,
                "reason": "401: this is no token of a worker here; set WORKER_TOKEN\nto another",
                "cluster_id": None,
                "polled_at": None,
                "renewed_at": None,
                "undelivered": 2,
            },
        ],
    }


@contextmanager
def serving(status: int, body: bytes, *, host: str = "127.0.0.1") -> Iterator[str]:
    """A server that answers GET /health so, and everything else with 418."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 418)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def told(**changed: Any) -> bytes:
    return json.dumps({**well(), **changed}).encode()


def test_people_get_a_line_for_each_orchestrator(run: Run) -> None:
    with serving(200, told()) as url:
        ran = run("worker", "status", "--url", url)
    assert (ran.code, ran.err) == (Exit.OK, "")
    header, _, table = ran.out.partition("\n\n")
    assert header == (
        "status       ok\n"
        "worker       w-1\n"
        "instance     i-1\n"
        "mode         FAILOVER\n"
        "running      3 of 10 slots\n"
        "undelivered  2"
    )
    assert re.sub(r"3\d s ago", "30 s ago", table) == (
        "ORCHESTRATOR   STANDING  SINCE    CLUSTER  POLLED    RENEWED  WAITING  REASON\n"
        "http://a:8080  active    3 h ago  blue     30 s ago  0 s ago  0        -\n"
        "http://b:8080  refused   3 d ago  -        -         -        2        401: this is"
        " no token of a worker here; set WORKER_TOKEN\\nto another\n"
    )


def test_a_worker_that_is_not_well_is_shown_and_fails(run: Run) -> None:
    with serving(503, told(status="unavailable")) as url:
        ran = run("worker", "status", "--url", f"{url}/health")
    assert ran.code == Exit.FAILED
    assert ran.out.startswith("status       unavailable\n")
    assert ran.err == "no orchestrator has answered it lately\n"


def test_a_worker_that_tells_why_it_is_not_well_is_quoted(run: Run) -> None:
    why = "no orchestrator has answered for 61 s: http://a:8080: no answer within 10 s"
    with serving(503, told(status="unavailable", reason=why)) as url:
        ran = run("worker", "status", "--url", url)
    assert (ran.code, ran.err) == (Exit.FAILED, f"{why}\n")


@pytest.mark.parametrize(("status", "code"), [(200, Exit.OK), (503, Exit.FAILED)])
def test_json_is_the_answer_as_it_came(run: Run, status: int, code: Exit) -> None:
    body = told(new_in_a_later_version=1)
    with serving(status, body) as url:
        ran = run("worker", "status", "--url", url, "-o", "json")
    assert ran.code == code
    assert ran.json == json.loads(body)


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (200, b"<html><body>It works!</body></html>", "not JSON"),
        (200, b"", "not JSON"),
        (200, b"\xff", "not JSON"),
        (200, b'{"deep": ' + b"[" * 200_000, "not JSON"),
        (200, b"[]", "Expected `object`, got `array`"),
        (200, b'{"status": "ok"}', "Object missing required field `worker_id`"),
        (503, told(slots="many"), "Expected `int`, got `str` - at `$.slots`"),
        (404, told(), "HTTP status 404"),
    ],
)
def test_somebody_else_there_is_recognised(run: Run, status: int, body: bytes, fault: str) -> None:
    with serving(status, body) as url:
        ran = run("worker", "status", "--url", url)
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert ran.err == (
        f"avtomatika: what answers at {url} is no worker of this version ({fault});"
        " give the --url of its health check, or set WORKER_PORT to its port\n"
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that may listen; it never answers."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        yield it


def test_a_worker_that_is_not_there(run: Run, listener: socket.socket) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ran = run("worker", "status", "--url", url)
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert ran.err.startswith(f"avtomatika: no worker answers at {url}: ")
    assert ran.err.endswith(
        "; is it running, and its health check not off?"
        " If it listens elsewhere, give --url or set WORKER_PORT\n"
    )


def test_one_that_does_not_answer_is_not_waited_for_long(run: Run, listener: socket.socket) -> None:
    listener.listen()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ran = run("worker", "status", "--url", url, "--timeout", "0.1")
    assert ran.code == Exit.FAILED
    assert f"no worker answers at {url}: no answer within 0.1 seconds; is it running" in ran.err


def test_something_that_speaks_no_http(run: Run, listener: socket.socket) -> None:
    listener.listen()

    def greet() -> None:
        stream, _ = listener.accept()
        with stream:
            stream.sendall(b"220 mail.example.com ESMTP\r\n")

    thread = threading.Thread(target=greet)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ran = run("worker", "status", "--url", url)
    thread.join()
    assert ran.code == Exit.FAILED
    assert ran.err.startswith(f"avtomatika: no worker answers at {url}: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_address_is_that_of_the_settings(
    run: Run, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with serving(200, told()) as url:
        monkeypatch.setenv("WORKER_PORT", url.rpartition(":")[2])
        monkeypatch.setenv("WORKER_HOST", host)
        assert run("worker", "status").code == Exit.OK


def test_a_health_check_that_is_off_cannot_be_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_PORT", "off")
    ran = run("worker", "status")
    assert ran.code == Exit.USAGE
    assert ran.err == (
        "avtomatika: the health check is off (WORKER_PORT), so no worker can be asked;"
        " give it a port, or the --url of another worker\n"
    )


@pytest.mark.parametrize("url", ["127.0.0.1:8083", "ftp://h", "http://", "http://[::1"])
def test_an_address_that_is_none(run: Run, url: str) -> None:
    ran = run("worker", "status", "--url", url)
    assert ran.code == Exit.USAGE
    assert ran.err == (
        f"avtomatika: --url: {url!r} is not an address; give one such as http://127.0.0.1:8083\n"
    )


def test_a_name_that_cannot_be_one_is_no_crash(run: Run) -> None:
    ran = run("worker", "status", "--url", f"http://{'x' * 70}.invalid:8083")
    assert ran.code == Exit.FAILED
    assert "no worker answers at" in ran.err
