"""What keys the Redis storage has, and what stands in its indexes.

Every key begins with the hash tag of its partition, so that all of a partition is on one node
of a Redis Cluster and one script may touch it.  The page on Redis in the docs shows the whole
layout.
"""

import struct
from functools import lru_cache

import attrs

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import TimerKind, WorkerState
from avtomatika_trio._core.task import Lane, Task

#: Between the parts of a member of an index; sorts before everything that can stand in a name.
_BETWEEN = "\x00"

#: Timers that have an index of their own.
_TIMERS = {TimerKind.FILES: "due-files", TimerKind.FORGET: "due-forgets"}


@attrs.frozen
class Keys:
    """The keys of one partition.

    Args:
        partition: Its name, such as `p00`; also what job ids begin with.
    """

    partition: str
    tag: str = attrs.field(init=False)
    """What each key begins with; any key of the partition routes like it."""

    @tag.default
    def _tag(self) -> str:
        return f"{{{self.partition}}}:"

    def _key(self, *parts: str) -> str:
        return self.tag + ":".join(parts)

    # Of the partition.

    @property
    def meta(self) -> str:
        """HASH: schema, cluster id; the root's also the number of partitions."""
        return self._key("meta")

    @property
    def clock(self) -> str:
        """HASH: the partition's offset to the server's time, and the latest time told."""
        return self._key("clock")

    @property
    def news(self) -> str:
        """Channel of what commits have to tell."""
        return self._key("news")

    @property
    def done(self) -> str:
        """With the token of a script call: STRING, what that has answered."""
        return self._key("done", "")

    # Records: STRINGs, a version token and JSON.

    def job(self, job_id: str) -> str:
        return f"{self.tag}job:{job_id}"

    def task(self, task_id: str) -> str:
        return f"{self.tag}task:{task_id}"

    def attempt(self, wire_id: str) -> str:
        return f"{self.tag}attempt:{wire_id}"

    def fan_out(self, job_id: str, dispatch: int | str) -> str:
        return self._key("fan", job_id, str(dispatch))

    def instance(self, instance_id: str) -> str:
        return f"{self.tag}instance:{instance_id}"

    @property
    def service(self) -> str:
        return self._key("service")

    @property
    def access(self) -> str:
        return self._key("access")

    def usage(self, client: str, month: str) -> str:
        return self._key("usage", month, client)

    def token(self, token_hash: str) -> str:
        return self._key("token", token_hash)

    def submission(self, submission_id: str) -> str:
        return self._key("submission", submission_id)

    # Indexes.

    def jobs(self, status: JobStatus, client: str | None = None) -> str:
        """ZSET by `created_at`: ids of jobs."""
        return self._key("jobs", status.value, *(() if client is None else (client,)))

    def labelled(self, name: str, value: str, client: str | None = None) -> str:
        """ZSET by `created_at`: ids of jobs with a label."""
        parts = (name, value) if client is None else (name, value, client)
        return self._key("label", _BETWEEN.join(parts))

    def ready(self, blueprint: str) -> str:
        """ZSET in the order of becoming ready: ids of jobs of a blueprint that can be claimed."""
        return self._key("ready", blueprint)

    @property
    def blueprints(self) -> str:
        """SET: every blueprint of which a job was ever ready."""
        return self._key("blueprints")

    @property
    def ready_numbers(self) -> str:
        """STRING: the newest place in that order."""
        return self._key("ready-numbers")

    @property
    def claims(self) -> str:
        """ZSET by their end: ids of jobs that are claimed."""
        return self._key("claims")

    @property
    def claimed(self) -> str:
        """HASH by job id: who has claimed which version of it."""
        return self._key("claimed")

    def tasks_of(self, job_id: str) -> str:
        """SET: ids of all tasks of a job."""
        return f"{self.tag}tasks:{job_id}"

    def open_of(self, job_id: str) -> str:
        """SET: ids of its tasks that have no outcome yet."""
        return f"{self.tag}open:{job_id}"

    def attempts_of(self, job_id: str) -> str:
        """SET: wire ids of all attempts at its tasks."""
        return f"{self.tag}attempts:{job_id}"

    def leased_to(self, instance_id: str) -> str:
        """SET: wire ids of the attempts that are leased to an instance."""
        return f"{self.tag}leased:{instance_id}"

    @property
    def running(self) -> str:
        """SET: wire ids of all attempts that are leased."""
        return self._key("running")

    def workers(self, state: WorkerState) -> str:
        """SET: ids of the instances whose home it is and that are in a state."""
        return self._key("workers", state.value)

    def queue(self, skill: str, lane: Lane) -> str:
        """ZSET by falling priority, then as `queue_member` sorts: queued tasks."""
        return self._key("queue", lane.value, skill)

    @property
    def skills(self) -> str:
        """SET: every skill of which a task was ever queued."""
        return self._key("skills")

    def holdings(self, instance_id: str) -> str:
        """SET: other partitions in which an instance may hold attempts."""
        return self._key("holdings", instance_id)

    @property
    def instances(self) -> str:
        """SET: ids of all instances."""
        return self._key("instances")

    def instances_of(self, worker_id: str) -> str:
        """SET: ids of the instances of a worker."""
        return self._key("worker", worker_id)

    @property
    def due_instances(self) -> str:
        """ZSET by `due_at`: ids of instances."""
        return self._key("due-instances")

    def timers(self, kind: TimerKind) -> str:
        """ZSET by `due_at`: see `timer_member`."""
        return self._key(_TIMERS.get(kind, "timers"))

    @property
    def ending_tokens(self) -> str:
        """ZSET by `expires_at`: hashes of issued tokens."""
        return self._key("ending-tokens")

    @property
    def ending_submissions(self) -> str:
        """ZSET by `expires_at`: ids of submissions with a key."""
        return self._key("ending-submissions")

    def history(self, job_id: str) -> str:
        """STREAM: the history of a job; the ids are `<number>-0`."""
        return f"{self.tag}history:{job_id}"

    @property
    def history_numbers(self) -> str:
        """STRING: the newest number of a row of history."""
        return self._key("history-numbers")

    @property
    def usages(self) -> str:
        """SET: the keys of all usages."""
        return self._key("usages")

    @property
    def audit(self) -> str:
        """STREAM; the ids are `<number>-0`."""
        return self._key("audit")

    @property
    def audit_numbers(self) -> str:
        """STRING: the newest number of a row of the audit."""
        return self._key("audit-numbers")

    def progress(self, job_id: str) -> str:
        """HASH by task id: the latest progress of each."""
        return f"{self.tag}progress:{job_id}"


def queue_member(task: Task) -> str:
    """The member of a queue that stands for *task*; members sort as `queue_order` wants it.

    >>> from avtomatika_trio._core.ledger import task_id
    >>> queued_task_id(f"{0:016x}j{_BETWEEN}{3:08x}{_BETWEEN}-1-3")
    'j-1-3'
    """
    rest = task.id.removeprefix(task.job_id) if task.id.startswith(task.job_id) else f"={task.id}"
    parts = (task.job_id, f"{task.branch or 0:08x}", rest)
    return _sortable(task.created_at) + _BETWEEN.join(parts)


def queued_task_id(member: str) -> str:
    """The id of the task that *member* stands for."""
    job_id, _, rest = member[16:].split(_BETWEEN, 2)
    return rest[1:] if rest.startswith("=") else job_id + rest


@lru_cache(maxsize=20_000)
def queued_keys(tag: str, member: bytes) -> tuple[str, str]:
    """The keys of that task and of its job; each poll meets the same first ones of a queue."""
    text = member.decode()
    job_id = text[16 : text.index(_BETWEEN, 16)]
    return f"{tag}task:{queued_task_id(text)}", f"{tag}job:{job_id}"


def _sortable(number: float) -> str:
    """16 hexadecimal digits that sort as the numbers do (the bits of IEEE 754, turned round)."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    return f"{bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63):016x}"


def dispatched_at(digits: str) -> float:
    """The time that a member of a queue begins with.

    >>> [dispatched_at(_sortable(it)) for it in (1.7e9, 0.0, -2.5)]
    [1700000000.0, 0.0, -2.5]
    """
    bits = int(digits, 16)
    bits ^= 1 << 63 if bits >> 63 else 0xFFFF_FFFF_FFFF_FFFF
    (number,) = struct.unpack(">d", struct.pack(">Q", bits))
    return float(number)


def timer_member(kind: TimerKind, subject: str) -> str:
    """The member of the index of timers."""
    return f"{kind.value}{_BETWEEN}{subject}"


def timer_of(member: str) -> tuple[TimerKind, str]:
    """Kind and subject that *member* stands for."""
    kind, _, subject = member.partition(_BETWEEN)
    return TimerKind(kind), subject
