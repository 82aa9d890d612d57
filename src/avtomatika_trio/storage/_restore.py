"""Putting records into a ledger as they are, for `Storage.restore`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from avtomatika_trio._core.access import AccessSet, IssuedToken, Usage
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import (
    FanOut,
    Instance,
    Ledger,
    Progress,
    Service,
    Timer,
)
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.storage._records import (
    NumberedAuditRow,
    NumberedRow,
    StorageFacts,
    StoredRecord,
)


class RestoringLedger(Ledger, Protocol):
    """A ledger that also takes records that were made elsewhere."""

    def store_job(self, job: Job) -> None:
        """Write *job*, whatever revision is stored."""
        ...

    def store_row(self, numbered: NumberedRow) -> None:
        """Write a row of the history in its place; later ones get higher numbers."""
        ...

    def store_audit_row(self, numbered: NumberedAuditRow) -> None: ...

    def store_cluster_id(self, cluster_id: str) -> None: ...


def put_as_they_are(ledger: Ledger, records: Sequence[StoredRecord]) -> None:
    """Write *records*, and nothing for those that are stored already.

    Args:
        ledger: A `RestoringLedger`.
        records: In any order.
    """
    restoring = cast("RestoringLedger", ledger)
    for record in records:
        match record:
            case StorageFacts():
                restoring.store_cluster_id(record.cluster_id)
            case Job():
                if ledger.job(record.id) != record:
                    restoring.store_job(record)
            case NumberedRow():
                restoring.store_row(record)
            case NumberedAuditRow():
                restoring.store_audit_row(record)
            case _:
                stored, put = _PLACES[type(record)]
                if stored(ledger, record) != record:
                    put(ledger, record)


#: For each kind that an operation may write as well: what is stored in the place of a record,
#: and what writes it.  Progress cannot be asked for; to say it again does no harm.
_PLACES: Mapping[type[Any], tuple[Callable[[Ledger, Any], Any], Callable[[Ledger, Any], None]]] = {
    Task: (lambda at, it: at.task(it.id), lambda at, it: at.put_task(it)),
    Attempt: (lambda at, it: at.attempt(it.wire_id), lambda at, it: at.put_attempt(it)),
    FanOut: (
        lambda at, it: at.fan_out(it.job_id, it.dispatch),
        lambda at, it: at.put_fan_out(it),
    ),
    Instance: (lambda at, it: at.instance(it.id), lambda at, it: at.put_instance(it)),
    Timer: (lambda at, it: at.timer(it.kind, it.subject), lambda at, it: at.put_timer(it)),
    Progress: (lambda _, __: None, lambda at, it: at.put_progress(it)),
    Service: (lambda at, _: at.service(), lambda at, it: at.put_service(it)),
    AccessSet: (lambda at, _: at.access(), lambda at, it: at.put_access(it)),
    Usage: (lambda at, it: at.usage(it.client, it.month), lambda at, it: at.put_usage(it)),
    IssuedToken: (
        lambda at, it: at.issued_token(it.hash),
        lambda at, it: at.put_issued_token(it),
    ),
    Submission: (lambda at, it: at.submission(it.id), lambda at, it: at.put_submission(it)),
}
