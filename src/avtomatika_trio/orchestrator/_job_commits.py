"""What clients have done, by partition: jobs in theirs, quotas and the audit in the root.

Where one commit cannot touch both, what was counted for jobs that were not stored is taken
back, if that can be done; and a cancellation comes before its row in the audit.
"""

import logging
from collections.abc import Sequence
from functools import partial

import attrs
import trio

from avtomatika_trio._core import steps
from avtomatika_trio._core.access import AuditRow
from avtomatika_trio._core.admission import give_back_spent, spend
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context

logger = logging.getLogger(__name__)


async def submit(context: Context, new: Sequence[steps.NewJob], allowed: int | None) -> None:
    """Store *new*, jobs of one client and one partition.

    Args:
        context: Where.
        new: At least one.
        allowed: How many that client may submit in a month; None = any number.

    Raises:
        QuotaExceeded: they are more; nothing is stored or counted.
        StorageUnavailable: they are not stored, as far as is known.
    """
    storage = context.storage
    partition = storage.partition_of(new[0].id)
    if allowed is None:
        await storage.commit(partial(steps.submit, new=new), partition)
        return
    client, month = new[0].client, context.month()
    count = partial(spend, client=client, month=month, jobs=len(new), allowed=allowed)
    if partition == storage.partitions[0]:
        await storage.commit(partial(_submit_and_count, new=new, count=count), partition)
        return
    with trio.CancelScope(shield=True):
        await storage.commit(count)
        try:
            await storage.commit(partial(steps.submit, new=new), partition)
        except StorageUnavailable:
            back = partial(give_back_spent, client=client, month=month, jobs=len(new))
            try:
                await storage.commit(back)
            except StorageUnavailable as exc:
                logger.warning("%d jobs of %s stay counted: %s", len(new), client, exc)
            raise


def _submit_and_count(ledger: Ledger, new: Sequence[steps.NewJob], count: "partial[None]") -> None:
    count(ledger)
    steps.submit(ledger, new)


async def cancel(
    context: Context, job_id: str, reason: str, audit: AuditRow | None
) -> tuple[bool, Job]:
    """Cancel the job; *audit*, if there is one, is noted unless it had ended before.

    Returns:
        Whether it had, and the job.
    """
    storage = context.storage
    partition = storage.partition_of(job_id)
    together = partition == storage.partitions[0]
    operation = partial(
        _cancel,
        job_id=job_id,
        reason=reason,
        audit=audit if together else None,
        rules=context.rules,
    )
    with trio.CancelScope(shield=True):
        was_final, job = await storage.commit(operation, partition)
        if audit is not None and not together and not was_final:
            try:
                await storage.commit(partial(_note, audit=audit))
            except StorageUnavailable as exc:
                logger.error("not in the audit: %s: %s", audit, exc)  # noqa: TRY400 - no bug
    return was_final, job


def _cancel(
    ledger: Ledger, job_id: str, reason: str, audit: AuditRow | None, rules: Rules
) -> tuple[bool, Job]:
    before = ledger.job(job_id)
    was_final = before is not None and before.status.is_final
    if audit is not None and not was_final:
        _note(ledger, audit)
    return was_final, steps.cancel(ledger, job_id, reason, rules)


def _note(ledger: Ledger, audit: AuditRow) -> None:
    ledger.note_for_audit(attrs.evolve(audit, at=ledger.now))
