"""The ledger over dicts.  One object serves one operation, and can take all of it back."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

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
from avtomatika_trio._core.partitions import as_of, forgotten, home_of
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.task import Attempt, AttemptStatus, Lane, Task, TaskStatus
from avtomatika_trio.errors import StaleRevision
from avtomatika_trio.storage._records import NumberedAuditRow, NumberedRow
from avtomatika_trio.storage._signals import News


@attrs.define(eq=False)
class Records:
    """Everything that is stored in a partition, and the indexes that spare a scan."""

    jobs: dict[str, Job] = attrs.field(factory=dict)
    tasks: dict[str, Task] = attrs.field(factory=dict)
    attempts: dict[str, Attempt] = attrs.field(factory=dict)
    fan_outs: dict[tuple[str, int], FanOut] = attrs.field(factory=dict)
    fan_outs_of: dict[str, dict[tuple[str, int], None]] = attrs.field(factory=dict)
    instances: dict[str, Instance] = attrs.field(factory=dict)
    timers: dict[tuple[TimerKind, str], Timer] = attrs.field(factory=dict)
    progress: dict[str, dict[str, Progress]] = attrs.field(factory=dict)
    service: dict[None, Service] = attrs.field(factory=dict)
    rows: dict[int, HistoryRow] = attrs.field(factory=dict)
    """By number, ascending."""
    last_row: dict[None, int] = attrs.field(factory=dict)
    """The highest number that a row was ever given."""
    rows_of: dict[str, list[int]] = attrs.field(factory=dict)
    tasks_of: dict[str, dict[str, None]] = attrs.field(factory=dict)
    open_of: dict[str, dict[str, None]] = attrs.field(factory=dict)
    attempts_of: dict[str, dict[str, None]] = attrs.field(factory=dict)
    leased_to: dict[str, dict[str, None]] = attrs.field(factory=dict)
    queues: dict[tuple[str, Lane], list[tuple[Any, str]]] = attrs.field(factory=dict)
    due_timers: list[tuple[float, TimerKind, str]] = attrs.field(factory=list)
    due_files: list[tuple[float, TimerKind, str]] = attrs.field(factory=list)
    due_forgets: list[tuple[float, TimerKind, str]] = attrs.field(factory=list)
    due_instances: list[tuple[float, str]] = attrs.field(factory=list)
    guests: dict[str, float] = attrs.field(factory=dict)
    """Instances with another home: when to look at what they hold here."""
    access: dict[None, AccessSet] = attrs.field(factory=dict)
    usages: dict[tuple[str, str], Usage] = attrs.field(factory=dict)
    tokens: dict[str, IssuedToken] = attrs.field(factory=dict)
    ending_tokens: list[tuple[float, str]] = attrs.field(factory=list)
    submissions: dict[str, Submission] = attrs.field(factory=dict)
    ending_submissions: list[tuple[float, str]] = attrs.field(factory=list)
    audit: dict[int, AuditRow] = attrs.field(factory=dict)
    """By number, ascending."""


#: The time of the partition with a name.
ClockOf = Callable[[str], float]


class MemoryLedger(Ledger):
    """One operation's view of one partition; `undo` takes all of its writes back."""

    def __init__(self, all_records: Mapping[str, Records], name: str, clock: ClockOf) -> None:
        self._all = all_records
        self._name = name
        self._r = all_records[name]
        self._clock_of = clock
        self._now = clock(name)
        self._undo: list[Callable[[], object]] = []
        self.news = News()

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()

    @property
    def now(self) -> float:
        return self._now

    def _home(self, instance_id: str) -> str:
        return home_of(instance_id, tuple(self._all))

    def is_home_of(self, instance_id: str) -> bool:
        return self._home(instance_id) == self._name

    def job(self, job_id: str) -> Job | None:
        return self._r.jobs.get(job_id)

    def put_job(self, job: Job) -> None:
        old = self._r.jobs.get(job.id)
        found = 0 if old is None else old.revision
        if job.revision != found + 1:
            raise StaleRevision(job.id, job.revision - 1, found)
        self.store_job(job)
        if job.status.is_final and job.id in self._r.progress:
            self._set(self._r.progress, job.id, None)

    def forget_job(self, job_id: str) -> None:
        job = self._r.jobs.get(job_id)
        if job is None:
            return
        if job_id in self._r.rows_of:
            self._undo.append(lambda: _put_in_order(self._r.rows))
        for kind in TimerKind:
            self.drop_timer(kind, job_id)
        r = self._r
        of_it: tuple[tuple[dict[Any, Any], dict[str, Any]], ...] = (
            (r.tasks, r.tasks_of),
            (r.attempts, r.attempts_of),
            (r.fan_outs, r.fan_outs_of),
            (r.rows, r.rows_of),
        )
        for records, index in of_it:
            for key in index.get(job_id, ()):
                self._set(records, key, None)
        indexes: tuple[dict[str, Any], ...] = (r.jobs, r.progress, r.open_of)
        for index in (*indexes, *(it for _, it in of_it)):
            if job_id in index:
                self._set(index, job_id, None)
        self.news.job_forgotten(job)

    def task(self, task_id: str) -> Task | None:
        return self._r.tasks.get(task_id)

    def put_task(self, task: Task) -> None:
        old = self._r.tasks.get(task.id)
        self._set(self._r.tasks, task.id, task)
        self._member(self._r.tasks_of, task.job_id, task.id, present=True)
        self._member(self._r.open_of, task.job_id, task.id, present=task.status.is_open)
        if old is not None and old.status is TaskStatus.QUEUED:
            self._unsort(self._queue(old), (queue_order(old), old.id))
        if task.status is TaskStatus.QUEUED:
            self._sort(self._queue(task), (queue_order(task), task.id))
        self.news.task_written(old, task)

    def _queue(self, task: Task) -> list[tuple[Any, str]]:
        return self._r.queues.setdefault((task.skill, task.lane), [])

    def task_count(self, job_id: str) -> int:
        return len(self._r.tasks_of.get(job_id, ()))

    def open_tasks(self, job_id: str) -> Sequence[Task]:
        return [self._r.tasks[task_id] for task_id in self._r.open_of.get(job_id, ())]

    def queued(self, skill: str, lane: Lane, *, most: int) -> Sequence[Task]:
        queue = self._r.queues.get((skill, lane), [])
        return [self._r.tasks[task_id] for _, task_id in queue[:most]]

    def fan_out(self, job_id: str, dispatch: int) -> FanOut | None:
        return self._r.fan_outs.get((job_id, dispatch))

    def put_fan_out(self, fan_out: FanOut) -> None:
        key = (fan_out.job_id, fan_out.dispatch)
        self._set(self._r.fan_outs, key, fan_out)
        self._member(self._r.fan_outs_of, fan_out.job_id, key, present=True)

    def attempt(self, wire_id: str) -> Attempt | None:
        return self._r.attempts.get(wire_id)

    def put_attempt(self, attempt: Attempt) -> None:
        old = self._r.attempts.get(attempt.wire_id)
        self._set(self._r.attempts, attempt.wire_id, attempt)
        self._member(self._r.attempts_of, attempt.job_id, attempt.wire_id, present=True)
        if old is not None:
            self._member(self._r.leased_to, old.instance, old.wire_id, present=False)
        leased = attempt.status is AttemptStatus.LEASED
        self._member(self._r.leased_to, attempt.instance, attempt.wire_id, present=leased)
        if leased and not self.is_home_of(attempt.instance):
            due_at = self._r.guests.get(attempt.instance, attempt.lease_until)
            self._look_at_guest(attempt.instance, min(due_at, attempt.lease_until))

    def leased(self, instance_id: str) -> Sequence[Attempt]:
        wire_ids = self._r.leased_to.get(instance_id, ())
        return [self._r.attempts[wire_id] for wire_id in wire_ids]

    def instance(self, instance_id: str) -> Instance | None:
        home = self._home(instance_id)
        found = self._all[home].instances.get(instance_id)
        return None if found is None else as_of(found, self._now - self._clock_of(home))

    def put_instance(self, instance: Instance) -> None:
        if not self.is_home_of(instance.id):
            self._look_at_guest(instance.id, instance.due_at)
            return
        old = self._r.instances.get(instance.id)
        self._set(self._r.instances, instance.id, instance)
        self._reschedule(instance.id, None if old is None else old.due_at, instance.due_at)

    def drop_instance(self, instance_id: str) -> None:
        if not self.is_home_of(instance_id):
            self._look_at_guest(instance_id, None)
            return
        old = self._r.instances.get(instance_id)
        if old is not None:
            self._set(self._r.instances, instance_id, None)
            self._reschedule(instance_id, old.due_at, None)

    def _look_at_guest(self, instance_id: str, due_at: float | None) -> None:
        old = self._r.guests.get(instance_id)
        if old != due_at:
            self._set(self._r.guests, instance_id, due_at)
            self._reschedule(instance_id, old, due_at)

    def _reschedule(self, instance_id: str, old: float | None, due_at: float | None) -> None:
        if old is not None:
            self._unsort(self._r.due_instances, (old, instance_id))
        if due_at is not None:
            self._sort(self._r.due_instances, (due_at, instance_id))

    def due_instances(self, *, most: int) -> Sequence[Instance]:
        due = [name for at, name in self._r.due_instances[:most] if at <= self._now]
        return [self.instance(name) or forgotten(name, self.leased(name)) for name in due]

    def timer(self, kind: TimerKind, subject: str) -> Timer | None:
        return self._r.timers.get((kind, subject))

    def put_timer(self, timer: Timer) -> None:
        self.drop_timer(timer.kind, timer.subject)
        self._set(self._r.timers, (timer.kind, timer.subject), timer)
        self._sort(self._by_due(timer.kind), (timer.due_at, timer.kind, timer.subject))

    def drop_timer(self, kind: TimerKind, subject: str) -> None:
        old = self._r.timers.get((kind, subject))
        if old is not None:
            self._set(self._r.timers, (kind, subject), None)
            self._unsort(self._by_due(kind), (old.due_at, kind, subject))

    def due_timers(self, *, most: int) -> Sequence[Timer]:
        return self._due(self._r.due_timers[:most])

    def due_files(self, *, most: int) -> Sequence[Timer]:
        return self._due(self._r.due_files[:most])

    def due_forgets(self, *, most: int) -> Sequence[Timer]:
        return self._due(self._r.due_forgets[:most])

    def _by_due(self, kind: TimerKind) -> list[tuple[float, TimerKind, str]]:
        match kind:
            case TimerKind.FILES:
                return self._r.due_files
            case TimerKind.FORGET:
                return self._r.due_forgets
            case _:
                return self._r.due_timers

    def _due(self, first: Iterable[tuple[float, TimerKind, str]]) -> Sequence[Timer]:
        return [self._r.timers[kind, subject] for at, kind, subject in first if at <= self._now]

    def record(self, row: HistoryRow) -> None:
        number = 1 + max(it.last_row.get(None, 0) for it in self._all.values())
        self.store_row(NumberedRow(number=number, row=row))
        self.news.changed[row.job_id] = None

    def put_progress(self, progress: Progress) -> None:
        said = self._r.progress.get(progress.job_id, {})
        self._set(self._r.progress, progress.job_id, {**said, progress.task_id: progress})
        self.news.changed[progress.job_id] = None

    def service(self) -> Service | None:
        return self._r.service.get(None)

    def put_service(self, service: Service) -> None:
        self._set(self._r.service, None, service)

    def access(self) -> AccessSet | None:
        return self._r.access.get(None)

    def put_access(self, access: AccessSet) -> None:
        self._set(self._r.access, None, access)

    def usage(self, client: str, month: str) -> Usage | None:
        return self._r.usages.get((client, month))

    def put_usage(self, usage: Usage) -> None:
        self._set(self._r.usages, (usage.client, usage.month), usage)

    def issued_token(self, token_hash: str) -> IssuedToken | None:
        return self._r.tokens.get(token_hash)

    def put_issued_token(self, token: IssuedToken) -> None:
        self.drop_issued_token(token.hash)
        self._set(self._r.tokens, token.hash, token)
        self._sort(self._r.ending_tokens, (token.expires_at, token.hash))

    def drop_issued_token(self, token_hash: str) -> None:
        old = self._r.tokens.get(token_hash)
        if old is not None:
            self._set(self._r.tokens, token_hash, None)
            self._unsort(self._r.ending_tokens, (old.expires_at, old.hash))

    def expired_tokens(self, *, most: int) -> Sequence[IssuedToken]:
        ended = [it for at, it in self._r.ending_tokens[:most] if at <= self._now]
        return [self._r.tokens[it] for it in ended]

    def submission(self, submission_id: str) -> Submission | None:
        return self._r.submissions.get(submission_id)

    def put_submission(self, submission: Submission) -> None:
        self.drop_submission(submission.id)
        self._set(self._r.submissions, submission.id, submission)
        self._sort(self._r.ending_submissions, (submission.expires_at, submission.id))

    def drop_submission(self, submission_id: str) -> None:
        old = self._r.submissions.get(submission_id)
        if old is not None:
            self._set(self._r.submissions, submission_id, None)
            self._unsort(self._r.ending_submissions, (old.expires_at, old.id))

    def expired_submissions(self, *, most: int) -> Sequence[Submission]:
        ended = [it for at, it in self._r.ending_submissions[:most] if at <= self._now]
        return [self._r.submissions[it] for it in ended]

    def note_for_audit(self, row: AuditRow) -> None:
        self._set(self._r.audit, _next(self._r.audit), row)

    def wake(self, skill: str) -> None:
        self.news.wake(skill)

    # For records that come from elsewhere, see `RestoringLedger`.

    def store_job(self, job: Job) -> None:
        self._set(self._r.jobs, job.id, job)
        self.news.job_written(job)

    def store_row(self, numbered: NumberedRow) -> None:
        number, row = numbered.number, numbered.row
        if number not in self._r.rows:
            self._sort(self._r.rows_of.setdefault(row.job_id, []), number)
        if number > self._r.last_row.get(None, 0):
            self._set(self._r.last_row, None, number)
        self._set_in_order(self._r.rows, number, row)

    def store_audit_row(self, numbered: NumberedAuditRow) -> None:
        self._set_in_order(self._r.audit, numbered.number, numbered.row)

    def store_cluster_id(self, cluster_id: str) -> None:
        """It is kept by the storage itself."""

    # Writing so that it can be taken back.

    def _set(self, records: dict[Any, Any], key: Any, value: Any) -> None:
        old = records.get(key)
        if value is None:
            del records[key]
        else:
            records[key] = value
        if old is None:
            self._undo.append(lambda: records.pop(key))
        else:
            self._undo.append(lambda: records.__setitem__(key, old))

    def _set_in_order(self, rows: dict[int, Any], number: int, row: Any) -> None:
        is_late = number not in rows and number < _next(rows)
        self._set(rows, number, row)
        if is_late:
            _put_in_order(rows)

    def _member(
        self, index: dict[str, dict[Any, None]], key: str, member: Any, *, present: bool
    ) -> None:
        members = index.setdefault(key, {})
        if present and member not in members:
            members[member] = None
            self._undo.append(lambda: members.pop(member))
        elif not present and member in members:
            del members[member]
            self._undo.append(lambda: members.setdefault(member))

    def _sort(self, ordered: list[Any], item: Any) -> None:
        insort(ordered, item)
        self._undo.append(lambda: ordered.pop(bisect_left(ordered, item)))

    def _unsort(self, ordered: list[Any], item: Any) -> None:
        del ordered[bisect_left(ordered, item)]
        self._undo.append(lambda: insort(ordered, item))


def _put_in_order(rows: dict[int, Any]) -> None:
    for number in sorted(rows):
        rows[number] = rows.pop(number)


def _next(rows: dict[int, Any]) -> int:
    """The number of the row that follows."""
    return next(reversed(rows), 0) + 1
