"""The ledger of one operation over what is known of Redis: it notes what was read and written.

Nothing is sent while the operation runs.  What it needs and nobody knows is raised as `Missing`;
once that was fetched, the operation runs again.  What it has read becomes checks, and what it
has written commands, of one call of `commit.lua` (see `_redis_step`).
"""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import msgspec

from avtomatika_trio._core.access import AccessSet, AuditRow, IssuedToken, Usage
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import (
    FanOut,
    HistoryRow,
    Instance,
    Ledger,
    Progress,
    Service,
    Timer,
    TimerKind,
    queue_order,
)
from avtomatika_trio._core.task import Attempt, AttemptStatus, Lane, Task, TaskStatus
from avtomatika_trio.errors import StaleRevision
from avtomatika_trio.storage._redis_keys import (
    Keys,
    queue_member,
    queued_keys,
    timer_member,
    timer_of,
)
from avtomatika_trio.storage._redis_known import ABSENT, Entry, Known
from avtomatika_trio.storage._redis_questions import First, Missing, Question, Score
from avtomatika_trio.storage._signals import News

R = TypeVar("R")


_decoders: dict[type[Any], Any] = {
    cls: msgspec.json.Decoder(cls).decode
    for cls in (Job, Task, Attempt, FanOut, Instance, Service, AccessSet, Usage, IssuedToken)
}

#: How far past the wanted length a queue is fetched: others may have taken from its head.
_PAST = 32


class RedisLedger(Ledger):
    """See `Ledger`.  One object serves one run of one operation.

    Args:
        keys: Of the partition.
        known: What the process knows.
        answers: To the questions that earlier runs have asked, with the number of the request.
        now: The partition's time.
    """

    def __init__(
        self, keys: Keys, known: Known, answers: dict[Question, tuple[Any, int]], now: float
    ) -> None:
        self.keys = keys
        self.news = News()
        self._known = known
        self._answers = answers
        self._now = now
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
        self.rows: list[HistoryRow] = []
        self.audit_rows: list[AuditRow] = []
        self.extra: list[Sequence[str]] = []
        """Further commands, as `commit.lua` knows them."""
        self.said: dict[tuple[str, str], Progress] = {}
        self.guessed: dict[Question, None] = {}
        """Questions whose answer was taken to be that there is nothing: the run does not count."""
        self.job_before: dict[str, Job | None] = {}
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
        return _decoded(entry, cls)

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

    # Jobs and tasks.

    def job(self, job_id: str) -> Job | None:
        return self._get(self.keys.job(job_id), Job)

    def put_job(self, job: Job) -> None:
        key = self.keys.job(job.id)
        # One that is said to be new is believed to be.
        old = self._put(key, job, Job) if job.revision == 1 else self._get(key, Job)
        found = 0 if old is None else old.revision
        if job.revision != found + 1:
            raise StaleRevision(job.id, job.revision - 1, found)
        self.written[key] = job
        self.job_before.setdefault(job.id, old)
        self._index_job(old, job)
        self.news.job_written(job)

    def _index_job(self, old: Job | None, job: Job) -> None:
        if old is not None and old.status is job.status:
            return
        for one, score in ((old, None), (job, job.created_at)):
            if one is not None:
                self._score(self.keys.jobs(one.status), job.id, score)
                self._score(self.keys.jobs(one.status, job.client), job.id, score)

    def task(self, task_id: str) -> Task | None:
        return self._get(self.keys.task(task_id), Task)

    def put_task(self, task: Task) -> None:
        old = self._put(self.keys.task(task.id), task, Task)
        self._own_tasks[task.id] = task
        if old is None:
            self._member(self.keys.tasks_of(task.job_id), task.id, present=True)
        self._member(self.keys.open_of(task.job_id), task.id, present=task.status.is_open)
        if old is not None and old.status is TaskStatus.QUEUED:
            self._score(self.keys.queue(old.skill, old.lane), queue_member(old), None)
        if task.status is TaskStatus.QUEUED:
            self._score(self.keys.queue(task.skill, task.lane), queue_member(task), -task.priority)
            self._member(self.keys.skills, task.skill, present=True)
        self.news.task_written(old, task)

    def open_tasks(self, job_id: str) -> Sequence[Task]:
        ids = self._set(self.keys.open_of(job_id))
        tasks = self._get_all([self.keys.task(it) for it in ids], Task)
        still = (task for task in tasks if task.status.is_open)
        return sorted(still, key=lambda task: (task.dispatch, task.branch or 0))

    def queued(self, skill: str, lane: Lane, *, most: int) -> Sequence[Task]:
        key = self.keys.queue(skill, lane)
        ask = most + _PAST
        while True:
            members, asked_at = self._answer_or_guess(First(key, ask))
            stored = self._still_queued(members, asked_at, skill, lane, most)
            if len(stored) >= most or len(members) < ask:
                break
            ask *= 4  # all that was fetched of it has been taken meanwhile
        own = [it for it in self._own_tasks.values() if _waits_in(it, skill, lane)]
        tasks = {task.id: task for task in [*stored, *own]}
        return sorted(tasks.values(), key=queue_order)[:most]

    def _answer_or_guess(self, question: First) -> tuple[Sequence[bytes], int]:
        """Whoever hands out looks into several queues: those are asked about all at once.

        A queue of which nothing is known is taken to be empty for this run, all through it: an
        operation that would not end in a world that cannot be would not end here.
        """
        if question not in self._answers:
            if any(it.key == question.key for it in self._answers):
                raise Missing(questions=[question])
            self.guessed[question] = None
            return (), 0
        return self._answers[question]

    def _still_queued(
        self,
        members: Sequence[bytes],
        asked_at: int,
        skill: str,
        lane: Lane,
        most: int,
    ) -> list[Task]:
        """The first *most* of *members* that wait there.

        Those that are not written need not still be there at the commit.  But one that is known
        to be elsewhere may be back, or is only expected to be elsewhere: that is looked up, or
        made a condition of the commit.
        """
        found: list[Task] = []
        unknown: list[str] = []
        jobs: dict[str, None] = {}
        known, written, tag = self._known.entry, self.written, self.keys.tag
        for member in members:
            if len(found) + len(unknown) >= most:
                break
            key, job_key = queued_keys(tag, member)
            if key in written:
                continue  # among its own
            entry = known(key)
            task = None if entry is None else _decoded(entry, Task)
            if task is not None and _waits_in(task, skill, lane):
                found.append(task)
            elif entry is not None and entry.writer is not None:
                self._take_note_of(key, entry)
            elif entry is None or entry.seen_at < asked_at:
                self._known.drop(key)
                unknown.append(key)
                if known(job_key) is None:  # the report on it will need it, and many others theirs
                    jobs[job_key] = None
        if unknown:
            raise Missing([*unknown, *jobs])
        return found

    def fan_out(self, job_id: str, dispatch: int) -> FanOut | None:
        return self._get(self.keys.fan_out(job_id, dispatch), FanOut)

    def put_fan_out(self, fan_out: FanOut) -> None:
        self._put(self.keys.fan_out(fan_out.job_id, fan_out.dispatch), fan_out, FanOut)

    # Attempts and instances.

    def attempt(self, wire_id: str) -> Attempt | None:
        return self._get(self.keys.attempt(wire_id), Attempt)

    def put_attempt(self, attempt: Attempt) -> None:
        old = self._put(self.keys.attempt(attempt.wire_id), attempt, Attempt)
        if old is None:
            self._member(self.keys.attempts_of(attempt.job_id), attempt.wire_id, present=True)
        elif old.instance != attempt.instance:
            self._member(self.keys.leased_to(old.instance), attempt.wire_id, present=False)
        leased = attempt.status is AttemptStatus.LEASED
        self._member(self.keys.leased_to(attempt.instance), attempt.wire_id, present=leased)

    def leased(self, instance_id: str) -> Sequence[Attempt]:
        wire_ids = self._set(self.keys.leased_to(instance_id))
        found = self._get_all([self.keys.attempt(it) for it in wire_ids], Attempt)
        leased = AttemptStatus.LEASED
        return [it for it in found if it.status is leased and it.instance == instance_id]

    def instance(self, instance_id: str) -> Instance | None:
        return self._get(self.keys.instance(instance_id), Instance)

    def put_instance(self, instance: Instance) -> None:
        old = self._put(self.keys.instance(instance.id), instance, Instance)
        if old is None:
            self._member(self.keys.instances, instance.id, present=True)
        self._score(self.keys.due_instances, instance.id, instance.due_at)

    def drop_instance(self, instance_id: str) -> None:
        if self._get(self.keys.instance(instance_id), Instance) is not None:
            self.written[self.keys.instance(instance_id)] = None
            self._member(self.keys.instances, instance_id, present=False)
            self._score(self.keys.due_instances, instance_id, None)

    def due_instances(self, *, most: int) -> Sequence[Instance]:
        due = self._due(self.keys.due_instances, most)
        found = self._get_all([self.keys.instance(it) for it, _ in due], Instance)
        # A record may be newer than the index was when it was looked at.
        return [it for it in found if it.due_at is not None and it.due_at <= self._now]

    # Timers.

    def timer(self, kind: TimerKind, subject: str) -> Timer | None:
        key, member = self.keys.timers(kind), timer_member(kind, subject)
        changes = self.scores.get(key, {})
        if member in changes:
            due_at = changes[member]
        else:
            due_at, _ = self._answer(Score(key, member))
            self.read_scores[key, member] = due_at
        return None if due_at is None else Timer(kind=kind, subject=subject, due_at=due_at)

    def put_timer(self, timer: Timer) -> None:
        key = self.keys.timers(timer.kind)
        self._score(key, timer_member(timer.kind, timer.subject), timer.due_at)

    def drop_timer(self, kind: TimerKind, subject: str) -> None:
        self._score(self.keys.timers(kind), timer_member(kind, subject), None)

    def due_timers(self, *, most: int) -> Sequence[Timer]:
        return self._due_timers(self.keys.timers(TimerKind.RETRY), most)

    def due_files(self, *, most: int) -> Sequence[Timer]:
        return self._due_timers(self.keys.timers(TimerKind.FILES), most)

    def _due_timers(self, key: str, most: int) -> Sequence[Timer]:
        timers: list[Timer] = []
        for member, due_at in self._due(key, most):
            if member not in self.scores.get(key, {}):
                self.read_scores[key, member] = due_at
            kind, subject = timer_of(member)
            timers.append(Timer(kind=kind, subject=subject, due_at=due_at))
        return timers

    # What is told, and what serves.

    def record(self, row: HistoryRow) -> None:
        self.rows.append(row)

    def put_progress(self, progress: Progress) -> None:
        self.said[progress.job_id, progress.task_id] = progress
        self.news.changed[progress.job_id] = None

    def service(self) -> Service | None:
        return self._get(self.keys.service, Service)

    def put_service(self, service: Service) -> None:
        self._put(self.keys.service, service, Service)

    # Who may talk.

    def access(self) -> AccessSet | None:
        return self._get(self.keys.access, AccessSet)

    def put_access(self, access: AccessSet) -> None:
        self._put(self.keys.access, access, AccessSet)
        self.news.access = access

    def usage(self, client: str, month: str) -> Usage | None:
        return self._get(self.keys.usage(client, month), Usage)

    def put_usage(self, usage: Usage) -> None:
        key = self.keys.usage(usage.client, usage.month)
        self._put(key, usage, Usage)
        self._member(self.keys.usages, key, present=True)

    def issued_token(self, token_hash: str) -> IssuedToken | None:
        return self._get(self.keys.token(token_hash), IssuedToken)

    def put_issued_token(self, token: IssuedToken) -> None:
        self._put(self.keys.token(token.hash), token, IssuedToken)
        self._score(self.keys.ending_tokens, token.hash, token.expires_at)

    def drop_issued_token(self, token_hash: str) -> None:
        if self._get(self.keys.token(token_hash), IssuedToken) is not None:
            self.written[self.keys.token(token_hash)] = None
            self._score(self.keys.ending_tokens, token_hash, None)

    def expired_tokens(self, *, most: int) -> Sequence[IssuedToken]:
        due = self._due(self.keys.ending_tokens, most)
        found = self._get_all([self.keys.token(it) for it, _ in due], IssuedToken)
        return [it for it in found if it.expires_at <= self._now]

    def note_for_audit(self, row: AuditRow) -> None:
        self.audit_rows.append(row)

    def wake(self, skill: str) -> None:
        self.news.wake(skill)


def _decoded(entry: Entry, cls: type[R]) -> R | None:
    if entry.body is not None:
        entry.record = _decoders[cls](entry.body)
        entry.body = None
    return cast("R | None", entry.record)


def _waits_in(task: Task, skill: str, lane: Lane) -> bool:
    return task.status is TaskStatus.QUEUED and task.skill == skill and task.lane is lane
