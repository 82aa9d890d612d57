"""What a run of an operation has read and written, as notes from which a commit is made."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from avtomatika_trio._core.access import AccessSet, AuditRow, IssuedToken, Usage
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import FanOut, HistoryRow, Instance, Progress, Service
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_known import ABSENT, Entry, Known
from avtomatika_trio.storage._redis_questions import First, Missing, Question
from avtomatika_trio.storage._signals import News

R = TypeVar("R")

_decoders: dict[type[Any], Any] = {
    cls: msgspec.json.Decoder(cls).decode
    for cls in (
        Job,
        Task,
        Attempt,
        FanOut,
        Instance,
        Service,
        AccessSet,
        Usage,
        IssuedToken,
        Submission,
    )
}

_OF_A_JOB = (Task, Attempt, FanOut)


class Notes:
    """Reads records and indexes from what is known, and notes what is read and written.

    Args:
        keys: Of the partition.
        known: What the process knows.
        answers: To the questions that earlier runs have asked, with the number of the request.
        now: The partition's time.
        is_home: Whether an instance's record is in this partition.
    """

    def __init__(
        self,
        keys: Keys,
        known: Known,
        answers: dict[Question, tuple[Any, int]],
        now: float,
        is_home: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.keys = keys
        self.news = News()
        self._known = known
        self._answers = answers
        self._now = now
        self._is_home = is_home
        # What was read, as it was before this operation.
        self.read: dict[str, bytes] = {}
        self.builds_on: set[object] = set()
        """Commits under way that have written some of it."""
        self.read_sets: dict[str, list[str]] = {}
        self.read_scores: dict[tuple[str, str], float | None] = {}
        # What it has written.
        self.written: dict[str, Any] = {}
        """Key -> record; None = dropped."""
        self.members: dict[str, dict[str, bool]] = {}
        """Of sets: whether the member is there now."""
        self.scores: dict[str, dict[str, float | None]] = {}
        """Of sorted sets; None = the member is not there."""
        self.due_no_later: dict[str, float] = {}
        """When what instances from elsewhere hold here is to be looked at, at the latest."""
        self.rows: list[HistoryRow] = []
        self.audit_rows: list[AuditRow] = []
        self.extra: list[Sequence[str]] = []
        """Further commands, as `commit.lua` knows them."""
        self.said: dict[tuple[str, str], Progress] = {}
        self.guessed: dict[Question, None] = {}
        """Questions whose answer was taken to be that there is nothing: the run does not count."""
        self.job_before: dict[str, Job | None] = {}
        self.forgotten: dict[str, None] = {}
        """Ids of jobs of which nothing is left but what was written after that."""
        self._own_tasks: dict[str, Task] = {}

    @property
    def now(self) -> float:
        return self._now

    # Records.

    def _get(self, key: str, cls: type[R]) -> R | None:
        if key in self.written:
            return cast("R | None", self.written[key])
        entry = self._known.entry(key)
        if entry is None:
            raise Missing([key])
        return self._taken_note_of(key, entry, cls)

    def _taken_note_of(self, key: str, entry: Entry, cls: type[R]) -> R | None:
        self._take_note_of(key, entry)
        record = decoded(entry, cls)
        if isinstance(record, _OF_A_JOB) and record.job_id in self.forgotten:
            return None
        return record

    def _take_note_of(self, key: str, entry: Entry) -> None:
        self.read[key] = entry.token
        if entry.writer is not None:
            self.builds_on.add(entry.writer)

    def _get_all(self, keys: Sequence[str], cls: type[R]) -> list[R]:
        unknown = [k for k in keys if k not in self.written and self._known.entry(k) is None]
        if unknown:
            raise Missing(unknown)
        return [it for it in (self._get(key, cls) for key in keys) if it is not None]

    def _put(self, key: str, record: R, cls: type[R]) -> R | None:
        """Write *record*; returns what was there before.

        Of what was never read it is believed that it is new, which the commit checks: so a new
        job costs no look whether it is there.
        """
        if key not in self.written:
            entry = self._known.entry(key)
            if entry is None:
                self.read[key] = ABSENT
                old = None
            else:
                old = self._taken_note_of(key, entry, cls)
        else:
            old = self.written[key]
        self.written[key] = record
        return old

    def _forget_job(self, job_id: str) -> None:
        """Have all that is of a job deleted, and nothing written that was noted for it."""
        self.forgotten[job_id] = None
        self.written[self.keys.job(job_id)] = None
        for key, record in self.written.items():
            if isinstance(record, _OF_A_JOB) and record.job_id == job_id:
                self.written[key] = None
        for index in (self.keys.tasks_of, self.keys.open_of, self.keys.attempts_of):
            self.members.pop(index(job_id), None)
        self._own_tasks = {k: it for k, it in self._own_tasks.items() if it.job_id != job_id}
        self.said = {k: it for k, it in self.said.items() if it.job_id != job_id}
        self.rows = [row for row in self.rows if row.job_id != job_id]

    # Sets and sorted sets.

    def _member(self, key: str, member: str, *, present: bool) -> None:
        self.members.setdefault(key, {})[member] = present

    def _set(self, key: str) -> list[str]:
        known = self._known.members(key)
        if known is None:
            raise Missing(sets=[key])
        self.read_sets.setdefault(key, list(known))
        changes = self.members.get(key, {})
        kept = [it for it in known if changes.get(it, True)]
        return kept + [it for it, present in changes.items() if present and it not in known]

    def _score(self, key: str, member: str, score: float | None) -> None:
        self.scores.setdefault(key, {})[member] = score

    def _answer(self, question: Question) -> tuple[Any, int]:
        if question not in self._answers:
            raise Missing(questions=[question])
        return self._answers[question]

    def _have(self, *needed: str | Question) -> None:
        """Have records and answers fetched in one look that are sure to be needed."""
        keys = [it for it in needed if isinstance(it, str)]
        unknown = [k for k in keys if k not in self.written and self._known.entry(k) is None]
        questions = [it for it in needed if not isinstance(it, str) and it not in self._answers]
        if unknown or questions:
            raise Missing(unknown, questions=questions)

    def _due(self, key: str, most: int) -> list[tuple[str, float]]:
        """The first *most* members of a sorted set whose time has come."""
        changes = self.scores.get(key, {})
        answer, _ = self._answer(First(key, most + len(changes), due=True))
        found = dict(answer)
        for member, score in changes.items():
            if score is None or score > self._now:
                found.pop(member, None)
            else:
                found[member] = score
        return sorted(found.items(), key=lambda it: (it[1], it[0]))[:most]


def decoded(entry: Entry, cls: type[R]) -> R | None:
    if entry.body is not None:
        entry.record = _decoders[cls](entry.body)
        entry.body = None
    return cast("R | None", entry.record)
