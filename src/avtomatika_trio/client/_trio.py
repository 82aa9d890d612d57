"""The client for Trio; `_requests` and `_following` have the rules."""

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from uuid import uuid4

import httpx
import trio

from avtomatika_trio.client import _following, _requests, _submissions
from avtomatika_trio.client._arguments import check_durations
from avtomatika_trio.client._http import checked, opened, options
from avtomatika_trio.client._plans import Done, Listed, Plan
from avtomatika_trio.client._records import (
    BlueprintInfo,
    HistoryEvent,
    Job,
    Json,
    Progress,
    TaskInfo,
    WorkerInfo,
)
from avtomatika_trio.client._requests import Places, Surroundings
from avtomatika_trio.client._submissions import NewJobs
from avtomatika_trio.client._trio_talk import Items, Talk, now_in_trio

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """A client of an orchestrator, for Trio; close it, or use it in an `async with` block.

    The methods are those of `Client`, and so is what they promise.  Any of them can be
    cancelled: nothing of it goes on, but a request that was sent may have arrived.

    Args:
        url: Of the orchestrator, such as `http://127.0.0.1:8080`; of several that share one
            storage, a list, or a text with commas.  The next one is asked where one cannot be
            reached or is away.
        token: Its `CLIENT_TOKEN`, or one of `clients.toml`.
        timeout_seconds: How long it may be silent.
        retry_seconds: For how long a request is tried again, with pauses that grow, in total:
            where the orchestrator cannot be reached, is away (502, 503, 504) or wants us to
            slow down (429).  What it asks for by `Retry-After` is done.  0 = never.
        ca_file: Who must have signed its certificate (PEM); None = as everybody's.
        cert_file: The certificate to show (PEM); None = none.
        key_file: Its key (PEM); None = it is in *cert_file*.
        transport: For tests: in the place of the network.
        sleep, clock, noise, new_key: For tests: in the place of Trio's, of
            `random.random` and of random keys of submissions.

    Every method that asks the orchestrator raises:

    * `OrchestratorUnavailable`: it could not be reached, or is away; a submission may have
      arrived.
    * `RateLimited`: it still wants us to slow down.
    * `Refused`: it said no; `status` and `detail` tell why.
    * `JobNotFound`: it knows no such job of this client.
    * `InvalidMessage`: an argument cannot be sent; nothing was.

    Outside of Trio, as under asyncio, its methods raise `RuntimeError`: use `Client` in a thread.

    Raises:
        ConfigError: *url*, *token* or a duration is not one, or a file cannot be used.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        token: str,
        *,
        timeout_seconds: float = 30.0,
        retry_seconds: float = 30.0,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = trio.sleep,
        clock: Callable[[], float] = now_in_trio,
        noise: Callable[[], float] = random.random,
        new_key: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        urls = checked(url)
        check_durations(timeout_seconds=timeout_seconds, retry_seconds=retry_seconds)
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._world = Surroundings(
            places=Places(urls),
            clock=clock,
            noise=noise,
            new_key=new_key,
            new_request_id=lambda: uuid4().hex,
            retry_seconds=retry_seconds,
        )
        told = options(urls, token, ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        self._http = opened(httpx.AsyncClient, transport, told)

    def __repr__(self) -> str:
        return f"AsyncClient({','.join(self._world.places.urls)!r})"

    @property
    def url(self) -> str:
        """Of the orchestrator that is asked now."""
        return self._world.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def submit(
        self,
        blueprint: str,
        initial_data: object = None,
        *,
        labels: Mapping[str, str] | None = None,
        max_transitions: int | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Submit one job of *blueprint*.

        Every submission is sent with an `Idempotency-Key`, by which an orchestrator knows it
        again.  One of an older version ignores it, and would take a submission that is sent
        again for another job.  So a generated key is relied on only once the orchestrator has
        said, with its answer to another submission of this client, that it knows keys: until
        then a submission is tried again only where nothing was sent, or where it was put off
        (429, 503).  Who gives a key of his own says so himself: then it is tried again whenever
        no answer came, and the same call in another process submits nothing anew.

        Args:
            blueprint: Its name.
            initial_data: What the handlers get: a dict of JSON, or an instance of a
                dataclass, an attrs class, a `msgspec.Struct` or a pydantic model.
            labels: To find the job by; up to 20.
            max_transitions: After how many states it fails; None = the orchestrator's limit.
            idempotency_key: What makes it the same submission; None = one that is generated.
            traceparent: Of the W3C trace that the job is part of.

        Returns:
            The job's id.

        Raises:
            InvalidMessage: *initial_data* is not JSON, or a key cannot be one; nothing was sent.
            IdempotencyKeyReused: the key was used for another submission.
        """
        new = NewJobs(
            blueprint=blueprint,
            labels=labels,
            max_transitions=max_transitions,
            idempotency_key=idempotency_key,
            traceparent=traceparent,
        )
        return await self._run(_submissions.submit(self._world, new, initial_data))

    async def submit_many(
        self,
        blueprint: str,
        initial_data: Iterable[object],
        *,
        labels: Mapping[str, str] | None = None,
        max_transitions: int | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> Listed[str]:
        """Submit a job of *blueprint* for each of *initial_data*, up to 1,000 in a request.

        A request is accepted as a whole or not at all; if one fails, those before it count,
        and `submitted` of the error has the ids of their jobs.
        With an *idempotency_key*, of up to 240 characters, the second request has `-2` behind
        it, and so on: the same call with the same data submits only what was not submitted yet.
        The other arguments are as of `submit`, for each job.

        Returns:
            The jobs' ids, in order.

        Raises:
            InvalidMessage: one of *initial_data* is not JSON, or the key is none.
            IdempotencyKeyReused: the key was used for another submission.
        """
        new = NewJobs(
            blueprint=blueprint,
            labels=labels,
            max_transitions=max_transitions,
            idempotency_key=idempotency_key,
            traceparent=traceparent,
        )
        return await self._run(_submissions.submit_many(self._world, new, initial_data))

    async def get(self, job_id: str, *, wait_seconds: float = 0, after: int | None = None) -> Job:
        """One job.

        Args:
            job_id: Of the job.
            wait_seconds: Answer only when there is news, but after so long anyway; an
                orchestrator grants up to 60.
            after: News is a revision above this one; None = that the job is final.
        """
        plan = _requests.get(self._world, job_id, wait_seconds=wait_seconds, after=after)
        return await self._run(plan)

    async def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        outage_seconds: float = 30.0,
    ) -> Job:
        """One job, once it is final.

        Args:
            job_id: Of the job.
            timeout_seconds: How long to wait at most, and 5 seconds more for an orchestrator
                that says nothing; None = for ever.
            outage_seconds: For how long the orchestrator may be away in between.

        Raises:
            WaitTimedOut: it is not final yet; this is a `TimeoutError`, too.
        """
        plan = _following.wait(
            self._world, job_id, timeout_seconds=timeout_seconds, outage_seconds=outage_seconds
        )
        return await self._run(plan)

    def follow(
        self, job_id: str, *, after: int = 0, outage_seconds: float = 30.0
    ) -> Items[HistoryEvent | Progress | Job]:
        """What happens to a job, as it happens: its history, and the progress of its tasks.

        The last item is the job as it ended.  A connection that breaks is opened again, and
        goes on after the last event of the history: none is missed or comes twice, while
        reports of progress may be.  An orchestrator without streams of events is asked
        again and again instead.
        Leaving the loop early needs `async with`, see `Items`.

        Args:
            job_id: Of the job.
            after: Only events of the history with an `event_id` above this one.
            outage_seconds: For how long the orchestrator may be away in between.
        """
        plan = _following.follow(self._world, job_id, after=after, outage_seconds=outage_seconds)
        return self._items(plan)

    def list(
        self,
        *,
        statuses: Sequence[str] = (),
        blueprint: str | None = None,
        client: str | None = None,
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        most: int | None = None,
    ) -> Items[Job]:
        """Jobs, newest first; asks for more as they are taken.

        Args:
            statuses: Only with one of these; empty = any.
            blueprint: Only of this one.
            client: For operators: only of this client, `*` = of all; None = those of one's own,
                and with `CLIENT_TOKEN` of all.
            labels: Only with all of these.
            created_after: Only later ones; aware.
            created_before: Only earlier ones; aware.
            most: How many at most; None = all.

        Raises:
            InvalidMessage: a time has no zone.
        """
        plan = _requests.list_jobs(
            self._world,
            statuses=statuses,
            blueprint=blueprint,
            client=client,
            labels=labels,
            created_after=created_after,
            created_before=created_before,
            most=most,
        )
        return self._items(plan)

    async def history(self, job_id: str, *, after: int = 0) -> Listed[HistoryEvent]:
        """What happened to a job, oldest first.

        Args:
            job_id: Of the job.
            after: Only events with an `event_id` above this one.
        """
        return await self._run(_requests.history(self._world, job_id, after=after))

    async def tasks(self, job_id: str) -> Listed[TaskInfo]:
        """The tasks of a job, each with its attempts."""
        return await self._run(_requests.tasks(self._world, job_id))

    async def cancel(self, job_id: str, reason: str | None = None) -> Job:
        """Cancel a job, its tasks and its running attempts.

        Returns:
            The job, cancelled.

        Raises:
            Refused: with status 409; it had ended before.  That it was cancelled is no such
                end for a try that was sent again, since its answer was lost.
        """
        return await self._run(_requests.cancel(self._world, job_id, reason))

    async def blueprints(self) -> Listed[BlueprintInfo]:
        """Name, endpoints and number of states of each blueprint."""
        return await self._run(_requests.blueprints(self._world))

    async def blueprint(self, name: str) -> Json:
        """States and edges, as they came."""
        return await self._run(_requests.blueprint(self._world, name))

    async def graph(self, blueprint: str) -> str:
        """The graph of a blueprint in the DOT language."""
        return await self._run(_requests.graph(self._world, blueprint))

    async def workers(self) -> Listed[WorkerInfo]:
        """Workers by id, each with its processes."""
        return await self._run(_requests.workers(self._world))

    async def reload_access(self) -> Json:
        """Have workers.toml and clients.toml read again; tells what that has changed."""
        return await self._run(_requests.reload_access(self._world))

    async def _run(self, plan: Plan[T]) -> T:
        talk = self._talk(plan)
        try:
            while not isinstance(step := await talk.advance(), Done):
                pass
            return cast("T", step.result)
        finally:
            await talk.aclose()

    def _items(self, plan: Plan[None]) -> Items[Any]:
        return Items(self._talk(plan))

    def _talk(self, plan: Plan[Any]) -> Talk:
        return Talk(self._http, plan, self._timeout_seconds, self._sleep)
