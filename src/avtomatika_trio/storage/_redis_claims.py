"""Which jobs are claimed, and by whom: kept in Redis, since several orchestrators claim.

Claims only spare work: what keeps a step from happening twice is the compare-and-swap of
revisions (rule S1).  A commit that writes a job voids the claim of the revision before.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any

import attrs
import msgspec
import outcome
import trio

from avtomatika_trio._core.job import Job
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_clock import PartitionClock
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_known import TOKEN_BYTES
from avtomatika_trio.storage._redis_scripts import CLAIM, HOLD
from avtomatika_trio.storage._redis_wire import ScriptCall

logger = logging.getLogger(__name__)

_job = msgspec.json.Decoder(Job).decode


@attrs.define(eq=False)
class _Call:
    """A claim under way, and who waits for it."""

    task: trio.lowlevel.Task | None


@attrs.frozen
class _Claim:
    owner: str
    job_id: str
    mark: bytes
    """What Redis has noted of it."""
    blueprint: str


class Claims:
    """The claims that this process holds, and its waiting for jobs to claim.

    Args:
        bridge: To the server.
        keys: Of the partition.
        clock: The partition's time.
        fresh_token: Makes the name of a call.
        channel: Of news.
        news: What other processes are told when a job was released.
        look_again: Called when there may be something to claim.
        requests: Numbers for requests, in whose order they are carried out.
        learn: Told of the records of claimed jobs, with the number of the request.
    """

    def __init__(
        self,
        bridge: RedisBridge,
        keys: Keys,
        clock: PartitionClock,
        fresh_token: Callable[[], bytes],
        channel: str,
        news: bytes,
        look_again: Callable[[], None],
        requests: Iterator[int],
        learn: Callable[[str, bytes, int], None],
    ) -> None:
        self._bridge = bridge
        self._keys = keys
        self._clock = clock
        self._fresh_token = fresh_token
        self._release_news = (channel, news)
        self._look_again = look_again
        self._requests = requests
        self._learn = learn
        self._held: dict[tuple[str, int], _Claim] = {}
        """What this process has claimed, by job and revision."""
        self._left: dict[str, set[str]] = {}
        """By owner: blueprints of which it wants no jobs."""
        self.next_end = inf
        """When, by the partition's time, the next claim ends that was not renewed until then."""

    async def claim(self, owner: str, *, most: int, lease_seconds: float) -> list[Job]:
        """Claim what there is now, up to *most*; see `Storage.claim_ready`."""
        jobs, next_end = await self._claim(owner, most, lease_seconds)
        self.next_end = inf if next_end is None else next_end
        return jobs

    def put_off(self, seconds: float) -> None:
        """Look for claims that have ended so much later, and not sooner."""
        self.next_end = self._clock.now() + seconds

    def seconds_to_next_end(self) -> float:
        """How long until a claim ends, unless it is renewed."""
        return self.next_end - self._clock.now()

    async def _claim(
        self, owner: str, most: int, lease_seconds: float
    ) -> tuple[list[Job], float | None]:
        keys = self._keys
        names = (
            *(keys.done, keys.clock, keys.blueprints, keys.ready("")),
            *(keys.claims, keys.claimed, keys.job("")),
        )
        arguments = (
            *(self._given_now(), owner, most, repr(lease_seconds), self._fresh_token()),
            *self._left.get(owner, ()),
        )
        number = next(self._requests)
        call = _Call(trio.lowlevel.current_task())

        def replied(replies: list[Any] | StorageUnavailable) -> None:
            answer: outcome.Outcome[Any]
            if isinstance(replies, StorageUnavailable):
                answer = outcome.Error(replies)
            elif isinstance(replies[0], Exception):
                fault = f"Redis has refused a claim: {replies[0]}"
                answer = outcome.Error(StorageUnavailable(fault))
            else:
                jobs, next_end = self._note(owner, replies[0], number)
                if call.task is None:
                    self._hold("release", self._taken(*jobs[::-1]))
                answer = outcome.Value((jobs, next_end))
            if call.task is not None:
                trio.lowlevel.reschedule(call.task, answer)

        def abandon(_: object) -> trio.lowlevel.Abort:
            call.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._bridge.submit([ScriptCall(CLAIM, names, arguments)], replied, key=keys.tag)
        found: tuple[list[Job], float | None] = await trio.lowlevel.wait_task_rescheduled(abandon)
        return found

    def _note(
        self, owner: str, reply: Sequence[bytes], number: int
    ) -> tuple[list[Job], float | None]:
        time, next_end, *rest = reply
        self._clock.heard(float(time))
        jobs: list[Job] = []
        for job_id, value in zip(rest[::2], rest[1::2], strict=True):
            try:
                job = _job(value[TOKEN_BYTES:])
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                # It stays claimed until the claim ends, and is told of again then.
                logger.error("job %s in Redis is damaged, and waits: %s", job_id.decode(), exc)  # noqa: TRY400
                continue
            mark = b"%b %b %b" % (value[:TOKEN_BYTES], owner.encode(), job.blueprint.encode())
            self._held[job.id, job.revision] = _Claim(owner, job.id, mark, job.blueprint)
            self._learn(self._keys.job(job.id), value, number)
            jobs.append(job)
        return jobs, float(next_end) if next_end else None

    def renew(self, owner: str, *, lease_seconds: float) -> None:
        """See `Storage.renew_claims`."""
        self._hold("renew", [it for it in self._held.values() if it.owner == owner], lease_seconds)

    def settle(self, job: Job) -> None:
        """See `Storage.settle_claim`."""
        self._hold("settle", self._taken(job))

    def release(self, job: Job) -> None:
        """See `Storage.release_claim`."""
        self._hold("release", self._taken(job))

    def leave(self, job: Job, owner: str) -> None:
        """See `Storage.leave_claim`."""
        self._left.setdefault(owner, set()).add(job.blueprint)
        self.release(job)

    def release_all(self) -> None:
        """This process ends: others need not wait until its claims do."""
        held = list(self._held.values())
        self._held.clear()
        self._hold("release", held[::-1])

    def void(self, job: Job) -> None:
        """A new revision of the job was committed here: the claim of the last one is no more."""
        self._held.pop((job.id, job.revision - 1), None)

    def _taken(self, *jobs: Job) -> list[_Claim]:
        found = (self._held.pop((job.id, job.revision), None) for job in jobs)
        return [it for it in found if it is not None]

    def _given_now(self) -> str:
        return "" if self._clock.slack else repr(self._clock.now())

    def _hold(self, what: str, claims: Sequence[_Claim], seconds: float = 0.0) -> None:
        if not claims:
            return
        keys = self._keys
        names = (keys.clock, keys.ready(""), keys.claims, keys.claimed)
        held = (part for it in claims for part in (it.job_id, it.mark, it.blueprint))
        arguments = (self._given_now(), what, repr(seconds), *self._release_news, *held)

        def replied(_: list[Any] | StorageUnavailable) -> None:
            if what == "release":
                self._look_again()

        # If it cannot be done, the claims end by themselves.
        self._bridge.submit([ScriptCall(HOLD, names, arguments)], replied, key=keys.tag)
