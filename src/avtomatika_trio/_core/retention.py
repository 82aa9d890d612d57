"""When a job that has ended is forgotten.

The end of a job sets a timer (`outcomes.finish`).  Whoever asks for the job afterwards is told
what one is told of a job that never was.
"""

import attrs

from avtomatika_trio._core.ledger import Ledger, Timer, TimerKind
from avtomatika_trio._core.rules import Rules

#: How long after its files were to be removed a job is looked at again: that may have had to wait.
_AFTER_FILES_SECONDS = 600.0

#: In one commit no further job is forgotten once those before it had so many tasks: others wait
#: for that commit.
_ENOUGH_TASKS = 1000


def forget_due(ledger: Ledger, rules: Rules, *, most: int) -> bool:
    """Forget some jobs whose time has come, up to *most*; whether there may be more at once.

    Who lets jobs stay longer than whoever set a timer puts it off; where they stay for good,
    nothing happens.
    """
    if rules.jobs_retention_seconds is None:
        return False
    due = ledger.due_forgets(most=most)
    tasks = 0
    for timer in due:
        if tasks >= _ENOUGH_TASKS:
            return True
        due_at = _due_at(ledger, timer, rules, rules.jobs_retention_seconds)
        if due_at is None:
            ledger.drop_timer(timer.kind, timer.subject)
        elif due_at > ledger.now:
            ledger.put_timer(attrs.evolve(timer, due_at=due_at))
        else:
            tasks += ledger.task_count(timer.subject)
            ledger.forget_job(timer.subject)
    return len(due) == most


def _due_at(ledger: Ledger, timer: Timer, rules: Rules, retention_seconds: float) -> float | None:
    """When the job of *timer* may be forgotten; None if it is not there, or goes on."""
    job = ledger.job(timer.subject)
    if job is None or not job.status.is_final:
        return None
    end = job.updated_at + retention_seconds
    files = ledger.timer(TimerKind.FILES, job.id)
    if files is None or rules.files_retention_seconds is None:
        return end
    # Whoever removes them asks for the job, perhaps twice: see `files.were_removed`.
    return max(end, files.due_at, ledger.now) + _AFTER_FILES_SECONDS
