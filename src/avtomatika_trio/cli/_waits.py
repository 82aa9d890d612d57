"""Telling somebody who waits for a job that no worker takes its tasks.

Without that, a worker that was never started, or lacks a skill, looks like a job that takes long.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio.cli._output import note
from avtomatika_trio.cli._watching import NOBODY_SECONDS, Watching
from avtomatika_trio.errors import OrchestratorUnavailable, RateLimited

if TYPE_CHECKING:
    from avtomatika_trio.client import Client

_Job = Mapping[str, Any]

_WAITING = frozenset({JobStatus.WAITING_FOR_WORKER, JobStatus.WAITING_FOR_PARALLEL})


def telling_waits(
    client: "Client", jobs: Iterator[_Job], known: Watching, clock: Callable[[], float]
) -> Iterator[_Job]:
    """*jobs*, one job as it changes; says once for each state of it that nobody works there.

    Args:
        client: Whom to ask for its history.
        jobs: As it comes, also where nothing has changed.
        known: What is known of it; is kept up to date.
        clock: Unix time.

    Raises:
        AvtomatikaError: as *jobs* and the client raise.
    """
    place: object = None
    since = 0.0
    told = False
    for job in jobs:
        now = clock()
        here = job["state"] if job["status"] in _WAITING else None
        if here != place:
            place, since, told = here, now, False
        elif here is not None and not told and now - since >= NOBODY_SECONDS:
            read_on(client, job["id"], known)
            since = now
            if untaken := _untaken(known, now):
                told = True
                note(f"{untaken} `avtomatika worker list` shows the workers")
        yield job


def _untaken(known: Watching, now: float) -> str:
    """What no worker takes, and what to look for; nothing, if one works or is to try again."""
    if known.running or not all(it.is_left(now) for it in known.waiting.values()):
        return ""
    if known.waiting:
        named = ", ".join(sorted({known.skills.get(it, "of it") for it in known.waiting}))
        return f"no worker takes the task; is one running that has the skill {named}?"
    if known.fan_out is not None and known.are_branches_left(now):
        left = known.fan_out.total - known.fan_out.done
        return f"no worker takes any of {left} branches; is one running that has their skills?"
    return ""


def read_on(client: "Client", job_id: str, known: Watching) -> None:
    """Add to *known* what is new in the history of a job."""
    # Who asks for the job tells of it; what is new is read with the next look.
    with contextlib.suppress(OrchestratorUnavailable, RateLimited):
        known.add(row.raw for row in client.history(job_id, after=known.last_event))
