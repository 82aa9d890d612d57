"""The ledger of one operation over what is known of Redis: it notes what was read and written.

Nothing is sent while the operation runs.  What it needs and nobody knows is raised as `Missing`;
once that was fetched, the operation runs again.  What it has read becomes checks, and what it
has written commands, of one call of `commit.lua` (see `_redis_step`).
"""

from collections.abc import Sequence
from math import inf
from typing import cast

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
    WorkerState,
    queue_order,
)
from avtomatika_trio._core.partitions import forgotten
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.task import Attempt, AttemptStatus, Lane, Task, TaskStatus
from avtomatika_trio.errors import StaleRevision, StorageUnavailable
from avtomatika_trio.storage._redis_keys import (
    queue_member,
    queued_keys,
    timer_member,
    timer_of,
)
from avtomatika_trio.storage._redis_notes import Notes, decoded
from avtomatika_trio.storage._redis_questions import Away, First, Missing, Question, Score, Size

#: How far past the wanted length a queue is fetched: others may have taken from its head.
_PAST = 32


class RedisLedger(Notes, Ledger):
    """See `Ledger`.  One object serves one run of one operation."""

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
        if job.revision == 1:
            self._index_labels(job, is_there=True)
        self.news.job_written(job)

    def _index_job(self, old: Job | None, job: Job | None) -> None:
        if old is not None and job is not None and old.status is job.status:
            return
        for one, is_there in ((old, False), (job, True)):
            if one is not None:
                score = one.created_at if is_there else None
                self._score(self.keys.jobs(one.status), one.id, score)
                self._score(self.keys.jobs(one.status, one.client), one.id, score)

    def _index_labels(self, job: Job, *, is_there: bool) -> None:
        """A job keeps the labels that it was made with."""
        score = job.created_at if is_there else None
        for label in job.labels.items():
            self._score(self.keys.labelled(*label), job.id, score)
            self._score(self.keys.labelled(*label, job.client), job.id, score)

    def forget_job(self, job_id: str) -> None:
        job = self.job(job_id)
        if job is None:
            return
        self.job_before.setdefault(job_id, job)
        self._index_job(job, None)
        self._index_labels(job, is_there=False)
        for kind in TimerKind:
            self.drop_timer(kind, job_id)
        self._forget_job(job_id)
        self.news.job_forgotten(job)

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

    def task_count(self, job_id: str) -> int:
        key = self.keys.tasks_of(job_id)
        added = sum(self.members.get(key, {}).values())
        return added if job_id in self.forgotten else self._answer(Size(key))[0] + added

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
            if any(isinstance(it, First) and it.key == question.key for it in self._answers):
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
            task = None if entry is None else decoded(entry, Task)
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
        if old is None or (old.status is AttemptStatus.LEASED) is not leased:
            self._member(self.keys.running, attempt.wire_id, present=leased)
        if leased and not self._is_home(attempt.instance):
            until = min(attempt.lease_until, self.due_no_later.get(attempt.instance, inf))
            self.due_no_later[attempt.instance] = until

    def leased(self, instance_id: str) -> Sequence[Attempt]:
        wire_ids = self._set(self.keys.leased_to(instance_id))
        found = self._get_all([self.keys.attempt(it) for it in wire_ids], Attempt)
        leased = AttemptStatus.LEASED
        return [it for it in found if it.status is leased and it.instance == instance_id]

    def is_home_of(self, instance_id: str) -> bool:
        return self._is_home(instance_id)

    def instance(self, instance_id: str) -> Instance | None:
        if self._is_home(instance_id):
            return self._get(self.keys.instance(instance_id), Instance)
        record, _ = self._answer(Away(instance_id))
        if isinstance(record, StorageUnavailable):
            raise record
        return cast("Instance | None", record)

    def put_instance(self, instance: Instance) -> None:
        if self._is_home(instance.id):
            old = self._put(self.keys.instance(instance.id), instance, Instance)
            if old is None:
                self._member(self.keys.instances, instance.id, present=True)
                self._member(self.keys.instances_of(instance.worker_id), instance.id, present=True)
            elif old.state is not instance.state:
                self._member(self.keys.workers(old.state), instance.id, present=False)
            # Each time, so that those are counted soon that an older release has stored.
            self._member(self.keys.workers(instance.state), instance.id, present=True)
        self._score(self.keys.due_instances, instance.id, instance.due_at)

    def drop_instance(self, instance_id: str) -> None:
        if not self._is_home(instance_id):
            self._score(self.keys.due_instances, instance_id, None)
            return
        old = self._get(self.keys.instance(instance_id), Instance)
        if old is not None:
            self._member(self.keys.instances_of(old.worker_id), instance_id, present=False)
            self.written[self.keys.instance(instance_id)] = None
            self._member(self.keys.instances, instance_id, present=False)
            for state in WorkerState:
                self._member(self.keys.workers(state), instance_id, present=False)
            self._score(self.keys.due_instances, instance_id, None)

    def due_instances(self, *, most: int) -> Sequence[Instance]:
        due = [instance_id for instance_id, _ in self._due(self.keys.due_instances, most)]
        here = [self.keys.instance(it) for it in due if self._is_home(it)]
        found = self._get_all(here, Instance)
        # A record may be newer than the index was when it was looked at.
        still = [it for it in found if it.due_at is not None and it.due_at <= self._now]
        away = [it for it in due if not self._is_home(it)]
        # Whose home does not answer stays due: the others need not wait for it.
        there = [it for it in away if not self._is_unreachable(it)]
        return [*still, *(self.instance(it) or forgotten(it, self.leased(it)) for it in there)]

    def _is_unreachable(self, instance_id: str) -> bool:
        record, _ = self._answer(Away(instance_id))
        return isinstance(record, StorageUnavailable)

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

    def due_forgets(self, *, most: int) -> Sequence[Timer]:
        timers = self._due_timers(self.keys.timers(TimerKind.FORGET), most)
        self._have(*(it for timer in timers for it in self._asked_of(timer.subject)))
        return timers

    def _asked_of(self, job_id: str) -> tuple[str | Question, ...]:
        """What is sure to be asked of a job that may be forgotten."""
        files = timer_member(TimerKind.FILES, job_id)
        return (
            self.keys.job(job_id),
            Size(self.keys.tasks_of(job_id)),
            Score(self.keys.timers(TimerKind.FILES), files),
        )

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
        self.news.changed[row.job_id] = None

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

    def submission(self, submission_id: str) -> Submission | None:
        return self._get(self.keys.submission(submission_id), Submission)

    def put_submission(self, submission: Submission) -> None:
        self._put(self.keys.submission(submission.id), submission, Submission)
        self._score(self.keys.ending_submissions, submission.id, submission.expires_at)

    def drop_submission(self, submission_id: str) -> None:
        if self.submission(submission_id) is not None:
            self.written[self.keys.submission(submission_id)] = None
            self._score(self.keys.ending_submissions, submission_id, None)

    def expired_submissions(self, *, most: int) -> Sequence[Submission]:
        due = self._due(self.keys.ending_submissions, most)
        found = self._get_all([self.keys.submission(it) for it, _ in due], Submission)
        return [it for it in found if it.expires_at <= self._now]

    def note_for_audit(self, row: AuditRow) -> None:
        self.audit_rows.append(row)

    def wake(self, skill: str) -> None:
        self.news.wake(skill)


def _waits_in(task: Task, skill: str, lane: Lane) -> bool:
    return task.status is TaskStatus.QUEUED and task.skill == skill and task.lane is lane
