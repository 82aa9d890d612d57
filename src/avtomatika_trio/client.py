"""Submit, follow and cancel jobs over HTTP.

    with Client("http://127.0.0.1:8080", token) as client:
        job_id = client.submit("resize", {"width": 640})
        job = client.wait(job_id)
        print(job["status"], job["result"])

Answers are the JSON objects of the orchestrator, as dicts.
"""

import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from avtomatika_trio._config import is_loopback
from avtomatika_trio._core.job import FINAL
from avtomatika_trio._core.json_values import NotJson, copy_json
from avtomatika_trio._wire.codec import encode
from avtomatika_trio._wire.messages import CLIENT_TOKEN_HEADER, MOST_JOBS_PER_SUBMISSION
from avtomatika_trio.errors import (
    ConfigError,
    InvalidMessage,
    JobNotFound,
    OrchestratorUnavailable,
    Problem,
    Refused,
)

__all__ = ["Client"]

_quoted = partial(quote, safe="")
Json = dict[str, Any]
Jsons = list[Json]

#: How long one request of `Client.wait` is held; half of what an orchestrator grants.
_HOLD_SECONDS = 30.0

#: Between two tries of `Client.wait` while the orchestrator is away.
_PAUSE_SECONDS = 0.5

#: The body of one submission stays below the smallest sensible MAX_BODY_BYTES (1 MiB).
_MOST_BYTES_PER_SUBMISSION = 900_000

#: Somebody in front of an orchestrator says these in its place while it is away.
_AWAY = {
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


class Client:
    """A client of one orchestrator; close it, or use it in a `with` block.

    Args:
        url: Of the orchestrator, such as `http://127.0.0.1:8080`.
        token: Its `CLIENT_TOKEN`.
        timeout_seconds: How long it may be silent.
        ca_file: Who must have signed its certificate (PEM); None = as everybody's.
        transport: For tests: in the place of the network.
        sleep, clock: For tests: in the place of `time`'s.

    Every method that asks the orchestrator raises:

    * `OrchestratorUnavailable`: it could not be reached, or is away for the moment.  It was
      tried once, unless the method says otherwise; a submission may have arrived.
    * `Refused`: it said no; `status` and `detail` tell why.
    * `JobNotFound`: it knows no such job of this client.

    Raises:
        ConfigError: *url* is not one.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_seconds: float = 30.0,
        ca_file: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = _checked(url)
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._clock = clock
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={CLIENT_TOKEN_HEADER.encode(): token.encode()},
            transport=transport,
            verify=ca_file is None or ssl.create_default_context(cafile=ca_file),
            # A proxy of the environment is not for loopback.
            trust_env=not is_loopback(urlsplit(self.url).hostname or ""),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def submit(
        self,
        blueprint: str,
        initial_data: Json | None = None,
        *,
        max_transitions: int | None = None,
    ) -> str:
        """Submit one job of *blueprint*.

        Args:
            blueprint: Its name.
            initial_data: What the handlers get; JSON.
            max_transitions: After how many states it fails; None = the orchestrator's limit.

        Returns:
            The job's id.

        Raises:
            InvalidMessage: *initial_data* is not JSON; nothing was sent.
        """
        body = encode(_submission(initial_data or {}, max_transitions))
        answer = self._post(f"/jobs/{quote(blueprint, safe='')}", body)
        return str(answer["job_id"])

    def submit_many(
        self, blueprint: str, initial_data: Iterable[Json], *, max_transitions: int | None = None
    ) -> list[str]:
        """Submit a job of *blueprint* for each of *initial_data*, up to 1,000 in a request.

        A request is accepted as a whole or not at all; if one fails, those before it count.

        Returns:
            The jobs' ids, in order.

        Raises:
            InvalidMessage: one of *initial_data* is not JSON.
        """
        path = f"/jobs/{quote(blueprint, safe='')}"
        encoded = (encode(_submission(data, max_transitions)) for data in initial_data)
        ids: list[str] = []
        for chunk in _chunks(encoded):
            answer = self._post(path, b"[" + b",".join(chunk) + b"]")
            ids += [str(job["job_id"]) for job in answer["jobs"]]
        return ids

    def get(self, job_id: str, *, wait_seconds: float = 0, after: int | None = None) -> Json:
        """One job.

        Args:
            job_id: Of the job.
            wait_seconds: Answer only when there is news, but after so long anyway; an
                orchestrator grants up to 60.
            after: News is a revision above this one; None = that the job is final.
        """
        query = {"wait": f"{wait_seconds:g}"} if wait_seconds else {}
        if after is not None:
            query["after"] = str(after)
        return self._get_job(job_id, "", query, wait_seconds)

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        outage_seconds: float = 30.0,
    ) -> Json:
        """One job, once it is final.

        Args:
            job_id: Of the job.
            timeout_seconds: How long to wait at most; None = for ever.
            outage_seconds: For how long the orchestrator may be away in between.

        Raises:
            TimeoutError: it is not final yet.
        """
        started = self._clock()
        seen = started
        while True:
            left = None if timeout_seconds is None else started + timeout_seconds - self._clock()
            hold = _HOLD_SECONDS if left is None else max(0.0, min(left, _HOLD_SECONDS))
            try:
                job = self.get(job_id, wait_seconds=hold)
            except OrchestratorUnavailable:
                if self._clock() - seen > outage_seconds:
                    raise
                answered = "nothing; the orchestrator is away"
                self._sleep(_PAUSE_SECONDS)
            else:
                seen = self._clock()
                if job["status"] in FINAL:
                    return job
                answered = str(job["status"])
            if left is not None and left <= 0:
                raise TimeoutError(
                    f"job {job_id} is not final after {timeout_seconds:g} s: {answered}"
                )

    def list(
        self,
        *,
        statuses: Sequence[str] = (),
        blueprint: str | None = None,
        most: int | None = None,
    ) -> Iterator[Json]:
        """Jobs, newest first; asks for more as they are taken.

        Args:
            statuses: Only with one of these; empty = any.
            blueprint: Only of this one.
            most: How many at most; None = all.
        """
        query: dict[str, str] = {"status": ",".join(statuses)} if statuses else {}
        if blueprint is not None:
            query["blueprint"] = blueprint
        left = most
        while left is None or left > 0:
            query["limit"] = str(min(1000, 1000 if left is None else left))
            page = self._json("GET", "/jobs", query=query)
            yield from page["jobs"]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]
            left = None if left is None else left - len(page["jobs"])

    def history(self, job_id: str, *, after: int = 0) -> Jsons:
        """What happened to a job, oldest first.

        Args:
            job_id: Of the job.
            after: Only events with an `event_id` above this one.
        """
        events: Jsons = []
        more = True
        while more:
            path = f"/jobs/{quote(job_id, safe='')}/history"
            answer = self._ask("GET", path, query={"after": str(after)}, job_id=job_id)
            events += self._read(answer)
            more = "next" in answer.links
            after = events[-1]["event_id"] if events else after
        return events

    def tasks(self, job_id: str) -> Jsons:
        """The tasks of a job, each with its attempts."""
        return list(self._get_job(job_id, "/tasks", {})["tasks"])

    def cancel(self, job_id: str, reason: str | None = None) -> Json:
        """Cancel a job, its tasks and its running attempts.

        Returns:
            The job, cancelled.

        Raises:
            Refused: with status 409; it had ended before.
        """
        body = b"" if reason is None else encode({"reason": reason})
        path = f"/jobs/{quote(job_id, safe='')}/cancel"
        return dict(self._post(path, body, job_id=job_id)["job"])

    def blueprints(self) -> Jsons:
        """Name, endpoints and number of states of each blueprint."""
        found: Jsons = self._json("GET", "/blueprints")["blueprints"]
        return found

    def blueprint(self, name: str) -> Json:
        """States and edges."""
        return self._json("GET", f"/blueprints/{quote(name, safe='')}")

    def graph(self, blueprint: str) -> str:
        """The graph of a blueprint in the DOT language."""
        return self._ask("GET", f"/blueprints/{quote(blueprint, safe='')}/graph").text

    def workers(self) -> Jsons:
        """Workers by id, each with its processes."""
        found: Jsons = self._json("GET", "/workers")["workers"]
        return found

    def reload_access(self) -> Json:
        """Have workers.toml and clients.toml read again; tells what that has changed."""
        return self._post("/admin/reload-workers", b"")

    def _get_job(
        self, job_id: str, below: str, query: dict[str, str], held_seconds: float = 0
    ) -> Json:
        path = f"/jobs/{quote(job_id, safe='')}{below}"
        answer: Json = self._read(
            self._ask("GET", path, query=query, job_id=job_id, held_seconds=held_seconds)
        )
        return answer

    def _post(self, path: str, body: bytes, *, job_id: str | None = None) -> Json:
        answer: Json = self._read(self._ask("POST", path, body=body, job_id=job_id))
        return answer

    def _json(self, method: str, path: str, *, query: dict[str, str] | None = None) -> Json:
        answer: Json = self._read(self._ask(method, path, query=query))
        return answer

    def _read(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            detail = "the answer is not JSON; is this the address of an orchestrator?"
            raise Refused(self.url, answer.status_code, detail) from None

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        job_id: str | None = None,
        held_seconds: float = 0,
    ) -> httpx.Response:
        """Send one request, and raise what its answer means."""
        try:
            answer = self._http.request(
                method,
                path,
                params=query or None,
                content=body,
                headers={"content-type": "application/json"} if body else None,
                timeout=self._timeout_seconds + held_seconds,
            )
        except httpx.TransportError as exc:
            reason = str(exc) or type(exc).__name__
            raise OrchestratorUnavailable(self.url, reason) from exc
        if answer.is_success:
            return answer
        code, detail = _problem(answer)
        if answer.status_code in _AWAY:
            raise OrchestratorUnavailable(self.url, detail)
        if code == "job_not_found" and job_id is not None:
            raise JobNotFound(job_id)
        raise Refused(self.url, answer.status_code, detail)


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise ConfigError((f"{url!r} is not a URL: {exc}",)) from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigError((f"{url!r} is not a URL such as http://127.0.0.1:8080",))
    return url.rstrip("/")


def _submission(initial_data: Json, max_transitions: int | None) -> Json:
    try:
        said: Json = {"initial_data": copy_json(initial_data, "initial_data")}
    except NotJson as exc:
        raise InvalidMessage((Problem("$.initial_data", str(exc)),)) from None
    return said if max_transitions is None else {**said, "max_transitions": max_transitions}


def _chunks(encoded: Iterable[bytes]) -> Iterator[list[bytes]]:
    """*encoded*, in order, cut into what one submission may hold."""
    chunk: list[bytes] = []
    size = 0
    for one in encoded:
        full = len(chunk) == MOST_JOBS_PER_SUBMISSION
        if full or (chunk and size + len(one) > _MOST_BYTES_PER_SUBMISSION):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += len(one) + 1
    if chunk:
        yield chunk


def _problem(answer: httpx.Response) -> tuple[str, str]:
    """The code and the detail of an answer that is an error, whoever sent it."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return "", answer.reason_phrase
    return str(body.get("code", "")), str(body.get("detail", answer.reason_phrase))
