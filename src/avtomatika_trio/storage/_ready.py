"""Which jobs are ready, and who has claimed them: a mirror of the storage within one process.

Every commit's jobs are told here in commit order, so a job is offered in its newest revision
or not at all.  Claims only spare work: what keeps a step from happening twice is the
compare-and-swap of revisions (rule S1).  Everything runs on Trio's thread.
"""

from collections import OrderedDict
from math import inf

import attrs
import trio

from avtomatika_trio._core.job import Job

#: Ready jobs beyond this many are kept by id alone and read again when they are claimed, so
#: that a backlog of any length costs little memory.
_JOBS_KEPT = 1000


@attrs.frozen
class Offer:
    """A revision of a job whose handler can run."""

    job_id: str
    blueprint: str
    revision: int
    job: Job | None
    """None if it must be read."""


@attrs.define
class _Claim:
    offer: Offer
    owner: str
    until: float


@attrs.define(eq=False)
class ReadyJobs:
    """The jobs that wait to be claimed, in the order in which they became ready."""

    _offers: dict[str, OrderedDict[str, tuple[int, Offer]]] = attrs.field(factory=dict, init=False)
    """By blueprint: by job, with their places in the order."""
    _last_place: int = attrs.field(default=0, init=False)
    _first_place: int = attrs.field(default=0, init=False)
    _left: dict[str, set[str]] = attrs.field(factory=dict, init=False)
    """By owner: blueprints of which it wants no jobs."""
    _claims: dict[str, _Claim] = attrs.field(factory=dict, init=False)
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)

    def job_written(self, job: Job) -> None:
        """Take note of a new revision: what is known of older ones is void."""
        self._claims.pop(job.id, None)
        self._withdraw(job.blueprint, job.id)
        if job.is_ready:
            kept = job if len(self._offers.get(job.blueprint, ())) < _JOBS_KEPT else None
            self.offer(Offer(job.id, job.blueprint, job.revision, kept))

    def offer(self, offer: Offer, *, first: bool = False) -> None:
        """Let it be claimed: after all others, or before them."""
        offers = self._offers.setdefault(offer.blueprint, OrderedDict())
        if first:
            self._first_place -= 1
            offers[offer.job_id] = (self._first_place, offer)
            offers.move_to_end(offer.job_id, last=False)
        else:
            self._last_place += 1
            offers[offer.job_id] = (self._last_place, offer)
        self._tell()

    def _withdraw(self, blueprint: str, job_id: str) -> Offer | None:
        offers = self._offers.get(blueprint, OrderedDict())
        _, offer = offers.pop(job_id, (0, None))
        if not offers:
            self._offers.pop(blueprint, None)
        return offer

    def _next_for(self, owner: str) -> Offer | None:
        """The first of those that *owner* may have."""
        left = self._left.get(owner, ())
        firsts = (next(iter(it.values())) for name, it in self._offers.items() if name not in left)
        _, offer = min(firsts, key=lambda it: it[0], default=(0, None))
        return offer

    async def claim(self, owner: str, *, most: int, lease_seconds: float) -> list[Offer]:
        """Wait for ready jobs and claim up to *most*; see `Storage.claim_ready`."""
        await trio.lowlevel.checkpoint()
        self._offer_expired()
        while self._next_for(owner) is None:
            # No claim that is made later ends before this one would, or tells us.
            with trio.move_on_at(min((it.until for it in self._claims.values()), default=inf)):
                await self._news.wait()
            self._offer_expired()
        until = trio.current_time() + lease_seconds
        claimed: list[Offer] = []
        while len(claimed) < most and (offer := self._next_for(owner)) is not None:
            self._withdraw(offer.blueprint, offer.job_id)
            self._claims[offer.job_id] = _Claim(offer, owner, until)
            claimed.append(offer)
        self._tell()  # those who wait must know when these claims end
        return claimed

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _offer_expired(self) -> None:
        now = trio.current_time()
        expired = [claim for claim in self._claims.values() if claim.until <= now]
        for claim in reversed(expired):
            del self._claims[claim.offer.job_id]
            self.offer(claim.offer, first=True)

    def renew(self, owner: str, *, lease_seconds: float) -> None:
        """See `Storage.renew_claims`."""
        until = trio.current_time() + lease_seconds
        for claim in self._claims.values():
            if claim.owner == owner:
                claim.until = until

    def settle(self, job: Offer | Job) -> None:
        """See `Storage.settle_claim`; also if the claim has expired meanwhile."""
        job_id = job.job_id if isinstance(job, Offer) else job.id
        self._take_claim(job_id, job.revision)
        _, offer = self._offers.get(job.blueprint, OrderedDict()).get(job_id, (0, None))
        if offer is not None and offer.revision == job.revision:
            self._withdraw(job.blueprint, job_id)

    def release(self, job_id: str, revision: int) -> None:
        """See `Storage.release_claim`; nothing is left to release once the job has moved on."""
        claim = self._take_claim(job_id, revision)
        if claim is not None:
            self.offer(claim.offer, first=True)

    def leave(self, job: Job, owner: str) -> None:
        """See `Storage.leave_claim`."""
        self._left.setdefault(owner, set()).add(job.blueprint)
        self.release(job.id, job.revision)

    def _take_claim(self, job_id: str, revision: int) -> _Claim | None:
        claim = self._claims.get(job_id)
        if claim is None or claim.offer.revision != revision:
            return None
        return self._claims.pop(job_id)
