"""Deleting a job from the SQLite file, with all that is of it."""

import sqlite3
from typing import Any

Keys = list[tuple[Any, ...]]

#: In which order keys are told.
_KEYS = (
    "SELECT id FROM tasks WHERE job_id=?",
    "SELECT wire_id FROM attempts WHERE job_id=?",
    "SELECT job_id, dispatch FROM fan_outs WHERE job_id=?",
)

_DELETIONS = (
    "DELETE FROM tasks WHERE job_id=?",
    "DELETE FROM attempts WHERE job_id=?",
    "DELETE FROM fan_outs WHERE job_id=?",
    "DELETE FROM progress WHERE job_id=?",
    "DELETE FROM history WHERE job_id=?",
    "DELETE FROM job_labels WHERE job_id=?",
    "DELETE FROM jobs WHERE id=?",
)


def delete_job(connection: sqlite3.Connection, job_id: str) -> tuple[Keys, Keys, Keys]:
    """Delete the job, of which nothing waits to be written; its timers are left.

    Returns:
        The keys of the tasks, the attempts and the fan-outs that are gone.
    """
    tasks, attempts, fan_outs = (connection.execute(it, (job_id,)).fetchall() for it in _KEYS)
    for statement in _DELETIONS:
        connection.execute(statement, (job_id,))
    return tasks, attempts, fan_outs
