"""What becomes of a result in the spool once somebody has said something about it.

Only the answer to a delivery removes an entry; being told to cancel a task does not.
"""

import logging
from collections.abc import Callable, Sequence

import msgspec

from avtomatika_trio._wire.messages import ResultAnswer
from avtomatika_trio.errors import Refused, SpoolError
from avtomatika_trio.worker._outcome import failed
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool import Spool
from avtomatika_trio.worker._spool_entry import FinishedResult, SpoolEntry

logger = logging.getLogger(__name__)

REJECTED = "RESULT_REJECTED"

#: For so long only the orchestrator that issued a task may say that it never heard of it;
#: and for so long a result waits for a cluster that this worker is not set up to talk to.
PATIENCE_SECONDS = 24 * 3600.0

_UNKNOWN = "job_not_found"


class Settling:
    """Takes results out of the spool, for a reason each.

    Args:
        spool: Where they are.
        holdings: Where attempts are named until they are settled.
        give_back: Called with results that nobody will ever see.
    """

    def __init__(
        self, spool: Spool, holdings: Holdings, give_back: Callable[[Sequence[SpoolEntry]], None]
    ) -> None:
        self._spool = spool
        self._holdings = holdings
        self._give_back = give_back
        self._told: set[str] = set()
        self._replaced: set[int] = set()

    async def settle(
        self, batch: Sequence[SpoolEntry], answers: Sequence[ResultAnswer], url: str, now: float
    ) -> list[SpoolEntry]:
        """Orchestrator *url* answered *batch*.

        Returns:
            Those that are not settled by it: it does not know the task, which it did not
            issue either (rule R5).
        """
        done: list[SpoolEntry] = []
        later: list[SpoolEntry] = []
        for entry, answer in zip(batch, answers, strict=True):
            is_issuer = entry.orchestrator.rstrip("/") == url.rstrip("/")
            if answer.status == "ignored":
                self._tell_once(entry, answer)
            if answer.reason == _UNKNOWN and not is_issuer:
                later.append(entry)
            else:
                done.append(entry)
        # First the spool, then the heartbeats: what is named too long does no harm.
        await self._spool.acknowledge([entry.id for entry in done])
        self._holdings.drop(entry.task_id for entry in done)
        return await self.keep_for_later(later, now)

    async def keep_for_later(self, entries: Sequence[SpoolEntry], now: float) -> list[SpoolEntry]:
        """Keep results that nobody here can take, and set aside those that waited too long."""
        old = [it for it in entries if now - it.finished_at >= PATIENCE_SECONDS]
        await self.set_aside(old, "for a day nobody was there who could take it")
        kept = [it for it in entries if now - it.finished_at < PATIENCE_SECONDS]
        for home in sorted({it.orchestrator for it in kept} - self._told):
            self._told.add(home)
            logger.warning(
                "the spool holds results for %s that cannot be delivered there now; they are"
                " kept for a day (`avtomatika worker spool` shows them)",
                home,
            )
        return kept

    async def set_aside(self, entries: Sequence[SpoolEntry], reason: str) -> None:
        """Nobody will ever take *entries*: keep them for a person to see."""
        for entry in entries:
            logger.error(
                "the result of task %s (job %s) is set aside: %s",
                entry.task_id,
                entry.job_id,
                reason,
            )
            try:
                await self._spool.set_aside(entry.id, reason)
            except SpoolError as exc:
                logger.warning("it could not be set aside and stays in the spool: %s", exc)
        if entries:
            # Given back, which is counted, so that this does not go on for ever.
            self._give_back(entries)

    async def replace(self, entry: SpoolEntry, exc: Refused) -> Sequence[SpoolEntry]:
        """Put a small failure that says why in the place of a result that is refused (R7).

        Returns:
            The new entry, or nothing if that was refused too: then it is set aside.

        Raises:
            SpoolError: nothing has changed.
        """
        if entry.id in self._replaced:
            await self.set_aside([entry], str(exc))
            return ()
        logger.warning("the result of task %s was refused: %s", entry.task_id, exc)
        outcome = failed(
            REJECTED,
            f"the orchestrator refused the result ({exc.status}): {exc.detail}",
            {"status": exc.status, "result_bytes": len(bytes(entry.body))},
        )
        body = outcome.body(
            job_id=entry.job_id, task_id=entry.task_id, worker_id=entry.worker_id, any_data=True
        )
        small = FinishedResult(
            cluster_id=entry.cluster_id,
            orchestrator=entry.orchestrator,
            job_id=entry.job_id,
            task_id=entry.task_id,
            body=msgspec.Raw(body),
            finished_at=entry.finished_at,
            trace_context=entry.trace_context,
        )
        (new,) = await self._spool.append_many([small])
        await self._spool.acknowledge([entry.id])
        self._replaced.add(new.id)
        return (new,)

    def _tell_once(self, entry: SpoolEntry, answer: ResultAnswer) -> None:
        reason = answer.reason or "no reason"
        if reason in self._told:
            return
        self._told.add(reason)
        logger.warning(
            "the result of task %s (job %s) was not wanted: %s, %s (said once for each reason)",
            entry.task_id,
            entry.job_id,
            reason,
            answer.message or "no message",
        )
