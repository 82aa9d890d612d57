"""Everything that a memory storage holds, in the order of `Storage.export`."""

from collections.abc import Sequence
from itertools import chain

from avtomatika_trio.storage._memory_ledger import Records
from avtomatika_trio.storage._records import NumberedAuditRow, NumberedRow, StoredRecord


def all_records(records: Records) -> Sequence[StoredRecord]:
    """All of them but the facts; what is committed later does not show."""
    return [
        *records.service.values(),
        *records.access.values(),
        *records.instances.values(),
        *sorted(records.jobs.values(), key=lambda it: (it.created_at, it.id)),
        *sorted(records.tasks.values(), key=lambda it: (it.job_id, it.dispatch, it.branch or 0)),
        *records.attempts.values(),
        *(it for _, it in sorted(records.fan_outs.items())),
        *(it for _, it in sorted(records.timers.items())),
        *sorted(
            chain.from_iterable(said.values() for said in records.progress.values()),
            key=lambda it: (it.job_id, it.task_id),
        ),
        *(NumberedRow(number=number, row=row) for number, row in records.rows.items()),
        *(NumberedAuditRow(number=number, row=row) for number, row in records.audit.items()),
        *(it for _, it in sorted(records.usages.items())),
        *records.tokens.values(),
        *records.submissions.values(),
    ]
