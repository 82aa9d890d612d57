"""`avtomatika worker status`: what the health check of a running worker tells."""

import json
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import attrs
import httpx
import msgspec
import trio

from avtomatika_trio._config import is_loopback, load_worker_settings
from avtomatika_trio.cli._connect import checked_url, url_of
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._output import age, listing, note, print_json, print_line, table
from avtomatika_trio.cli._places import settings_file

_EXAMPLE = "http://127.0.0.1:8083"

_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to listen there

_HEADINGS = ("ORCHESTRATOR", "STANDING", "SINCE", "CLUSTER", "POLLED", "RENEWED", "WAITING")


@attrs.frozen(kw_only=True)
class _Orchestrator:
    url: str
    standing: str
    since_at: float
    reason: str | None
    cluster_id: str | None
    polled_at: float | None
    renewed_at: float | None
    undelivered: int


@attrs.frozen(kw_only=True)
class _Status:
    status: str
    worker_id: str
    instance: str
    mode: str
    slots: int
    running: int
    undelivered: int
    reason: str | None = None
    orchestrators: tuple[_Orchestrator, ...]


def run(options: Namespace) -> int:
    """Print how the worker is; 1 if it is not well.

    Raises:
        CommandError: nobody answers there, or somebody else does.
        ConfigError: a setting is wrong.
    """
    url = _url(options)
    try:
        code, body = trio.run(partial(_ask, url, options.timeout))
    except trio.TooSlowError:
        raise _unreachable(url, f"no answer within {options.timeout:g} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
        raise _unreachable(url, str(exc) or type(exc).__name__) from exc
    status = _read(url, code, body)
    if options.output == "json":
        print_json(json.loads(body))
    else:
        _print(status, now=time.time())
    if code == HTTPStatus.OK:
        return Exit.OK
    note(status.reason or "no orchestrator has answered it lately")
    return Exit.FAILED


def _url(options: Namespace) -> str:
    """The worker's health check: as told, else where one with these settings has it."""
    if options.url is not None:
        return checked_url("--url", options.url, example=_EXAMPLE).removesuffix("/health")
    settings = load_worker_settings(
        environ=os.environ, file=settings_file(options), overrides={}
    ).settings
    if settings.health_port is None:
        fault = "the health check is off (WORKER_PORT), so no worker can be asked"
        raise CommandError(Exit.USAGE, f"{fault}; give it a port, or the --url of another worker")
    host = _EVERY_INTERFACE.get(settings.health_host, settings.health_host)
    return url_of(host, settings.health_port)


async def _ask(url: str, timeout_seconds: float) -> tuple[int, bytes]:
    """The HTTP status and the body."""
    # A proxy of the environment is not for loopback.
    use_proxies = not is_loopback(urlsplit(url).hostname or "")
    with trio.fail_after(timeout_seconds):
        async with httpx.AsyncClient(trust_env=use_proxies, timeout=None) as http:
            answer = await http.get(f"{url}/health")
            return answer.status_code, answer.content


def _read(url: str, code: int, body: bytes) -> _Status:
    fault = f"HTTP status {code}"
    if code in {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}:
        try:
            return msgspec.json.decode(body, type=_Status)
        except msgspec.ValidationError as exc:
            fault = str(exc)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            fault = "not JSON"
    raise CommandError(
        Exit.FAILED,
        f"what answers at {url} is no worker of this version ({fault});"
        " give the --url of its health check, or set WORKER_PORT to its port",
    )


def _unreachable(url: str, reason: str) -> CommandError:
    return CommandError(
        Exit.FAILED,
        f"no worker answers at {url}: {reason}; is it running, and its health check not off?"
        " If it listens elsewhere, give --url or set WORKER_PORT",
    )


def _print(status: _Status, *, now: float) -> None:
    header: Mapping[str, Any] = {
        "status": status.status,
        "worker": status.worker_id,
        "instance": status.instance,
        "mode": status.mode,
        "running": f"{status.running} of {status.slots} slots",
        "undelivered": status.undelivered,
    }
    print_line(listing(header))
    print_line("")
    rows = [_row(orchestrator, now) for orchestrator in status.orchestrators]
    print_line(table((*_HEADINGS, "REASON"), rows, whole_last=True))


def _row(orchestrator: _Orchestrator, now: float) -> tuple[object, ...]:
    return (
        orchestrator.url,
        orchestrator.standing,
        _ago(orchestrator.since_at, now),
        orchestrator.cluster_id,
        _ago(orchestrator.polled_at, now),
        _ago(orchestrator.renewed_at, now),
        orchestrator.undelivered,
        orchestrator.reason,
    )


def _ago(at: float | None, now: float) -> str | None:
    return None if at is None else f"{age(now - at)} ago"
