"""When a job that has ended is forgotten.

The end of a job sets a timer (`outcomes.finish`).  Whoever asks for the job afterwards is told
what one is told of a job that never was.
"""

import attrs

from avtomatika_trio._core.ledger import Ledger, TimerKind
from avtomatika_trio._core.rules import Rules

#: How long after its files were to be removed a job is looked at again: that may have had to wait.
_AFTER_FILES_SECONDS = 600.0


def forget_due(ledger: Ledger, rules: Rules, *, most: int) -> int:
    """Forget up to *most* jobs whose time has come; returns at how many it has looked.

    Who lets jobs stay longer than whoever set a timer puts it off; where they stay for good,
    nothing happens.
    """
    if rules.jobs_retention_seconds is None:
        return 0
    due = ledger.due_forgets(most=most)
    for timer in due:
        job = ledger.job(timer.subject)
        if job is None or not job.status.is_final:
            ledger.drop_timer(timer.kind, timer.subject)
            continue
        due_at = job.updated_at + rules.jobs_retention_seconds
        files = ledger.timer(TimerKind.FILES, job.id)
        if files is not None and rules.files_retention_seconds is not None:
            # Whoever removes them asks for the job, perhaps twice: see `files.were_removed`.
            due_at = max(due_at, files.due_at, ledger.now) + _AFTER_FILES_SECONDS
        if due_at > ledger.now:
            ledger.put_timer(attrs.evolve(timer, due_at=due_at))
        else:
            ledger.forget_job(timer.subject)
    return len(due)
