"""What clients have done, by partition: jobs in theirs, quotas and the audit in the root.

Where one commit cannot touch both, what was counted for jobs that are seen not to be stored is
taken back, if that can be done; and a cancellation comes before its row in the audit.
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
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.submissions import find_submission, submit_once
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context

logger = logging.getLogger(__name__)


async def submit(
    context: Context,
    new: Sequence[steps.NewJob],
    allowed: int | None,
    once: Submission | None = None,
) -> Submission | None:
    """Store *new*, jobs of one client and one partition.

    Args:
        context: Where.
        new: At least one.
        allowed: How many that client may submit in a month; None = any number.
        once: What to remember, in the same commit, of a submission with a key.

    Returns:
        What was made before with that key: then nothing is stored or counted now.

    Raises:
        QuotaExceeded: they are more; nothing is stored or counted.
        StorageUnavailable: they are not stored, as far as is known.
    """
    storage = context.storage
    partition = storage.partition_of(new[0].id)
    if allowed is None:
        return await storage.commit(partial(_submit, new=new, once=once), partition)
    client, month = new[0].client, context.month()
    count = partial(spend, client=client, month=month, jobs=len(new), allowed=allowed)
    if partition == storage.partitions[0]:
        together = partial(_submit, new=new, once=once, count=count)
        return await storage.commit(together, partition)
    if once is not None:  # so that one who has used up the quota is answered again
        find = partial(find_submission, submission_id=once.id)
        before = await storage.commit(find, partition)
        if before is not None:
            return before
    with trio.CancelScope(shield=True):
        await storage.commit(count)
        back = partial(give_back_spent, client=client, month=month, jobs=len(new))
        try:
            before = await storage.commit(partial(_submit, new=new, once=once), partition)
        except StorageUnavailable:
            if await _are_missing(context, new):
                await _give_back(context, back, client, len(new))
            raise
        if before is not None:  # another orchestrator was faster
            await _give_back(context, back, client, len(new))
    return before


async def _are_missing(context: Context, new: Sequence[steps.NewJob]) -> bool:
    """Whether it is certain that *new*, of which no commit has told, are not stored.

    They are stored together or not at all.  Of what is not known they stay counted: a quota is
    a promise to whoever runs this, too.
    """
    try:
        return await context.storage.job(new[0].id) is None
    except StorageUnavailable as exc:
        logger.warning("%d jobs of %s stay counted: %s", len(new), new[0].client, exc)
        return False


async def _give_back(context: Context, back: "partial[None]", client: str, jobs: int) -> None:
    try:
        await context.storage.commit(back)
    except StorageUnavailable as exc:
        logger.warning("%d jobs of %s stay counted: %s", jobs, client, exc)


def _submit(
    ledger: Ledger,
    new: Sequence[steps.NewJob],
    once: Submission | None,
    count: "partial[None] | None" = None,
) -> Submission | None:
    if once is not None:
        return submit_once(ledger, once, new, count)
    if count is not None:
        count(ledger)
    steps.submit(ledger, new)
    return None


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
