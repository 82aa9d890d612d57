"""When the files that are kept beside a job may be removed.

The end of a job sets a timer (`outcomes.finish`).  What it is for happens outside of the
ledger, so it is done in three steps, each of which may be repeated: *take* the timers that
are due, which puts them off for a while; remove the files; say that they *were removed*.  Who
dies in between leaves a timer that is due again.
"""

import attrs

from avtomatika_trio._core.ledger import Ledger, Timer, TimerKind
from avtomatika_trio._core.task import AttemptStatus

LONGEST_URL_SECONDS = 604_800
"""How long a URL to put a file by may be valid: what S3 allows at most."""

#: How long whoever has taken a timer may need, before another one does the same again.
_TAKEN_SECONDS = 300.0

#: How old an upload of several parts must be before it is looked at: nothing is hurried here.
_LONG_SECONDS = 3600.0

#: Likewise where nothing is known here of who has begun it; it may be of another installation
#: that has the same bucket.
_VERY_LONG_SECONDS = 86_400.0


def take_due(ledger: Ledger, *, most: int, retention_seconds: float) -> list[str]:
    """The jobs, up to *most*, whose files are to be removed now.

    They are nobody else's for some minutes.  Who lets files stay longer than whoever set a
    timer puts it off.
    """
    taken: list[str] = []
    for timer in ledger.due_files(most=most):
        job = ledger.job(timer.subject)
        if job is not None and not job.status.is_final:
            ledger.drop_timer(timer.kind, timer.subject)  # a retry may need them
            continue
        if job is not None and job.updated_at + retention_seconds > ledger.now:
            due_at = job.updated_at + retention_seconds
            ledger.put_timer(attrs.evolve(timer, due_at=due_at))
            continue
        ledger.put_timer(attrs.evolve(timer, due_at=ledger.now + _TAKEN_SECONDS))
        taken.append(timer.subject)
    return taken


def were_removed(ledger: Ledger, job_id: str) -> None:
    """The files of the job are gone.

    As long as somebody may have a URL by which another one can be put there, they have to be
    removed once more.
    """
    job = ledger.job(job_id)
    last = 0.0 if job is None else job.updated_at + LONGEST_URL_SECONDS
    if ledger.now < last:
        ledger.put_timer(Timer(kind=TimerKind.FILES, subject=job_id, due_at=last))
    else:
        ledger.drop_timer(TimerKind.FILES, job_id)


@attrs.frozen(kw_only=True)
class PendingUpload:
    """An upload of several parts that is not complete, by where its file would be."""

    job_id: str
    wire_id: str
    """The attempt that has begun it, if one did."""
    begun_at: float


def is_abandoned(ledger: Ledger, upload: PendingUpload) -> bool:
    """Whether nobody will complete *upload* any more, as far as can be told."""
    age = ledger.now - upload.begun_at
    if age < _LONG_SECONDS:
        return False
    job = ledger.job(upload.job_id)
    if job is not None and job.status.is_final:
        return True
    attempt = ledger.attempt(upload.wire_id)
    if job is not None and attempt is not None and attempt.job_id == job.id:
        return attempt.status is not AttemptStatus.LEASED
    return age >= _VERY_LONG_SECONDS
