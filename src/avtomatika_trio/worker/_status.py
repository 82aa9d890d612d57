"""What a worker tells of itself: `GET /health`, shown by `avtomatika worker status`."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from avtomatika_trio._core.failover import Standing
from avtomatika_trio.worker._delivery import Delivery
from avtomatika_trio.worker._link import Link
from avtomatika_trio.worker._requests import Identity
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._spool import Spool
from avtomatika_trio.worker._switchboard import Switchboard


@attrs.frozen(kw_only=True)
class Status:
    """A worker, as its health check shows it.

    It is well as long as some orchestrator has answered a poll or a heartbeat in the last two
    periods, the disk takes results, and it does not stop.  A period is the longest time in which
    neither of the answers may come while all is well.
    """

    identity: Identity
    mode: str
    period_seconds: float
    board: Switchboard
    links: tuple[Link, ...]
    slots: Slots
    spool: Spool
    delivery: Delivery
    running: Callable[[], int]
    is_stopping: Callable[[], bool]
    wall_clock: Callable[[], float]

    def tell(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether all is well, and what to show; points in time are in Unix seconds."""
        reason = self._reason()
        return reason is None, {
            "status": "ok" if reason is None else "unavailable",
            "reason": reason,
            "worker_id": self.identity.worker_id,
            "instance": self.identity.instance,
            "mode": self.mode,
            "slots": self.slots.total,
            "running": self.running(),
            "undelivered": len(self.spool.pending()) + self.delivery.unwritten,
            "orchestrators": [self._of(link) for link in self.links],
        }

    def _is_heard(self) -> bool:
        heard_at = self._heard_at()
        return heard_at is not None and trio.current_time() - heard_at <= 2 * self.period_seconds

    def _heard_at(self) -> float | None:
        """When some orchestrator last answered a poll or a heartbeat."""
        times = [at for link in self.links for at in (link.polled_at, link.renewed_at)]
        return max((at for at in times if at is not None), default=None)

    def _reason(self) -> str | None:
        """Why it is not well; None if it is."""
        told = ["it stops, and takes no more tasks"] if self.is_stopping() else []
        if not self._is_heard():
            told.append(self._silence())
        if self.delivery.disk_fault is not None:
            told.append(
                f"no tasks are taken, since results wait for the disk ({self.delivery.unwritten}):"
                f" {self.delivery.disk_fault}"
            )
        return "; ".join(told) or None

    def _silence(self) -> str:
        """That nobody has answered, by the name of each orchestrator."""
        heard_at = self._heard_at()
        since = "yet" if heard_at is None else f"for {trio.current_time() - heard_at:.0f} s"
        faults = [
            f"{link.url}: {self.board.policy.health(link.url).reason or 'not a word'}"
            for link in self.links
        ]
        return f"no orchestrator has answered {since}: {'; '.join(faults)}"

    def _of(self, link: Link) -> dict[str, Any]:
        health = self.board.policy.health(link.url)
        terms = link.terms
        return {
            "url": link.url,
            "standing": self._standing(link),
            "since_at": self._wall(max(health.since, self.board.started_at)),
            "reason": health.reason,
            "cluster_id": None if terms is None else terms.cluster_id,
            "polled_at": self._wall(link.polled_at),
            "renewed_at": self._wall(link.renewed_at),
            "undelivered": 0 if terms is None else self.spool.depth(terms.cluster_id),
        }

    def _standing(self, link: Link) -> str:
        """`active`, `standby`, `down` or `refused`."""
        policy = self.board.policy
        standing = policy.health(link.url).standing
        if standing is Standing.REFUSED:
            return "refused"
        if standing is Standing.DOWN or not policy.is_usable(link.url):
            return "down"
        is_asked = self.mode != "FAILOVER" or policy.active == link.url
        return "active" if is_asked else "standby"

    def _wall(self, at: float | None) -> float | None:
        """A point in time of the loop, as others know it."""
        if at is None:
            return None
        return round(self.wall_clock() - (trio.current_time() - at), 3)
