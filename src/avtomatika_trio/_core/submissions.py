"""Submissions that are told apart by a key, so that a repeated one makes no second jobs.

A record is in the partition that a hash of client and key names, and so are the jobs that were
made with it: both are one commit, on whichever orchestrator.
"""

from collections.abc import Callable, Sequence

import attrs

from avtomatika_trio._core import steps
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.submission import Submission

#: How long a repeated submission is recognised.
KEPT_SECONDS = 86_400.0

#: Of the records whose time is over, how many are forgotten when one is written: more than are
#: written, so that their number stays bounded.
_FORGOTTEN_AT_ONCE = 10


def find_submission(ledger: Ledger, submission_id: str) -> Submission | None:
    """What was made before with that key, if its time is not over."""
    found = ledger.submission(submission_id)
    return None if found is None or found.expires_at <= ledger.now else found


def submit_once(
    ledger: Ledger,
    said: Submission,
    new: Sequence[steps.NewJob],
    count: Callable[[Ledger], None] | None = None,
) -> Submission | None:
    """Accept *new*, unless something was submitted with that key before.

    Args:
        ledger: Where.
        said: Of the request; its time is set here.
        new: The jobs that it asks for.
        count: Counts them against a quota; what it raises undoes everything.

    Returns:
        What was made before, in which case nothing is done now; or None.
    """
    found = find_submission(ledger, said.id)
    if found is not None:
        return found
    if count is not None:
        count(ledger)
    for old in ledger.expired_submissions(most=_FORGOTTEN_AT_ONCE):
        ledger.drop_submission(old.id)
    steps.submit(ledger, new)
    ledger.put_submission(attrs.evolve(said, expires_at=ledger.now + KEPT_SECONDS))
    return None
