"""The part of the SQLite ledger that is about submissions with a key."""

import sqlite3
from collections.abc import Sequence

import msgspec

from avtomatika_trio._core.submission import Submission
from avtomatika_trio.storage._sqlite_table import encode, upsert

_decode = msgspec.json.Decoder(Submission).decode


class SubmissionRows:
    """See `Ledger`; they are asked for too rarely to be kept in a cache."""

    _connection: sqlite3.Connection
    _now: float
    wrote: bool

    def submission(self, submission_id: str) -> Submission | None:
        query = "SELECT body FROM submissions WHERE id=?"
        row = self._connection.execute(query, (submission_id,)).fetchone()
        return None if row is None else _decode(row[0])

    def put_submission(self, submission: Submission) -> None:
        self.wrote = True
        self._connection.execute(
            upsert("submissions", "id", "expires_at body"),
            (submission.id, submission.expires_at, encode(submission)),
        )

    def drop_submission(self, submission_id: str) -> None:
        self.wrote = True
        self._connection.execute("DELETE FROM submissions WHERE id=?", (submission_id,))

    def expired_submissions(self, *, most: int) -> Sequence[Submission]:
        found = self._connection.execute(
            "SELECT body FROM submissions WHERE expires_at<=? ORDER BY expires_at, id LIMIT ?",
            (self._now, most),
        )
        return [_decode(row[0]) for row in found.fetchall()]
