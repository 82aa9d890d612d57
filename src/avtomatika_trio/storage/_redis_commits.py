"""Carries operations through: run, fetch what was missing, commit, and again if others were faster.

All of it happens in callbacks on Trio's thread, so that a step whose caller has left is carried
through all the same.  What a step writes is *expected* at once, and the next operation of this
process builds upon it without waiting for the answer: should the step be refused, Redis refuses
those that were built on it, too, since the versions that they name never came to be.
"""

import itertools
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import msgspec
import outcome
import trio

from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_clock import PartitionClock
from avtomatika_trio.storage._redis_fetch import Answers, Elsewhere, Fetcher
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_known import Known
from avtomatika_trio.storage._redis_ledger import RedisLedger
from avtomatika_trio.storage._redis_link import PATIENCE_SECONDS
from avtomatika_trio.storage._redis_questions import Missing
from avtomatika_trio.storage._redis_scripts import COMMIT
from avtomatika_trio.storage._redis_step import checks_of, commands_of, news_of
from avtomatika_trio.storage._redis_wire import ScriptCall
from avtomatika_trio.storage._signals import News

#: What is wrong with what an operation wrote, not with Redis: values that JSON cannot hold.
_FAULTS_OF_RECORDS = (ArithmeticError, MemoryError, RecursionError, TypeError, ValueError)


_STRANGER = (
    "Redis does not hold the storage that was opened (any more): was it emptied, or restored to"
    " another one? Bring its data back, or start the orchestrators again to begin a new one"
)

#: How long a refusal is taken for what is to be expected.
_REFUSED_SECONDS = 3.0

_TOO_MANY = "there are more steps to do than Redis can do at present"

#: News that come of steps that were given up are heard; so many of them are remembered.
_MOST_GIVEN_UP = 10_000

#: How many steps of a process are under way at a time.  The others are not run before there is
#: room, so that a slow server is not sent what is too old by the time it is read.
_MOST_UNDER_WAY = 256


@attrs.define(eq=False)
class _Step:
    """One operation on its way."""

    operation: Callable[[Ledger], Any]
    ledger_type: type[RedisLedger] = RedisLedger
    becomes: str | None = None
    """The cluster id that it gives the storage."""
    task: trio.lowlevel.Task | None = None
    """Who waits; None once the caller was cancelled, or before it waits."""
    answers: Answers = attrs.field(factory=dict)
    settled: outcome.Outcome[Any] | None = None
    born: float = attrs.field(factory=time.monotonic)
    fetched: dict[str, None] = attrs.field(factory=dict)
    """Records that were fetched for it."""


@attrs.define(eq=False)
class _Run:
    """One run of a step's operation, on its way to Redis."""

    step: _Step
    ledger: RedisLedger
    token: bytes
    answer: outcome.Outcome[Any]
    number: int = 0
    """Of the request."""
    writes: bool = False


class Commits:
    """The commits of one process to one partition.

    Args:
        bridge: To the server.
        keys: Of the partition.
        clock: The partition's time, as far as it is known here.
        cluster_id: Of the storage that was opened.
        tell: Told, in order, of what was committed.
        channel: Of news; empty = the partition's own.
        elsewhere: The keys and the clock of the partition in which an instance's record is;
            None = it is in this one.
    """

    def __init__(
        self,
        bridge: RedisBridge,
        keys: Keys,
        clock: PartitionClock,
        cluster_id: str,
        tell: Callable[[News], None],
        *,
        channel: str = "",
        elsewhere: Elsewhere = lambda _: None,
    ) -> None:
        self._bridge = bridge
        self._channel = channel or keys.news
        self._elsewhere = elsewhere
        self._keys = keys
        self._clock = clock
        self._cluster_id = cluster_id
        self._given_ids: set[str] = set()
        """Which this process has, or may have, given the storage."""
        self._tell = tell
        self._known = Known()
        self._prefix = secrets.token_urlsafe(9)
        self._numbers = itertools.count()
        self.requests = itertools.count(1)
        """Numbers of requests, which are carried out in this order."""
        self._fetcher = Fetcher(bridge, keys, clock, self._known, self.requests, elsewhere)
        self._waiting: deque[_Step] = deque()
        self._under_way = 0
        self._runs: dict[_Run, None] = {}
        """Sent and not answered, in order."""
        self._given_up: dict[str, None] = {}
        """Tokens of steps of which nobody knows whether they were done, the newest."""
        self._refused: tuple[str, float] | None = None
        """Why the last step that writes was not done, and when; None = it was."""
        self.stranger: str | None = None
        """Set while Redis does not hold the storage that was opened."""

    @property
    def cluster_id(self) -> str:
        """Of the storage; what a restore brings counts once it is known to be stored."""
        return self._cluster_id

    @property
    def fault(self) -> str | None:
        """Why what is written is refused; None = it is not, as far as is known.

        Whoever serves writes something in each partition every second, unless another process
        has: after a while without a refusal it is that.
        """
        if self.stranger is not None:
            return self.stranger
        if self._refused is None or time.monotonic() - self._refused[1] > _REFUSED_SECONDS:
            return None
        return self._refused[0]

    def fresh_token(self) -> bytes:
        """A token that nobody else will ever have."""
        return f"{self._prefix}{next(self._numbers):08x}".encode()

    def learn(self, key: str, value: bytes, seen_at: int) -> None:
        """A record was read by the request *seen_at*."""
        self._known.learn(key, value, seen_at)
        self._known.let_go((key,))

    def was_told(self, token: str) -> bool:
        """Whether this process has told itself, or will, of the commit *token*."""
        return token.startswith(self._prefix) and token not in self._given_up

    async def commit(
        self,
        operation: Callable[[Ledger], Any],
        ledger_type: type[RedisLedger] = RedisLedger,
        *,
        becomes: str | None = None,
    ) -> Any:
        """See `Storage.commit`.

        Args:
            operation: Given a ledger of the type *ledger_type*.
            becomes: The cluster id that it gives the storage, if it does.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        step = _Step(operation, ledger_type, becomes)
        self._waiting.append(step)
        self._start()
        if step.settled is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return step.settled.unwrap()
        step.task = trio.lowlevel.current_task()

        def abandon(_: object) -> trio.lowlevel.Abort:
            step.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abandon)

    def _is_home(self, instance_id: str) -> bool:
        return self._elsewhere(instance_id) is None

    def _start(self) -> None:
        while self._waiting and self._under_way < _MOST_UNDER_WAY:
            self._under_way += 1
            step = self._waiting.popleft()
            if time.monotonic() - step.born > PATIENCE_SECONDS:
                self._settle(step, outcome.Error(StorageUnavailable(_TOO_MANY)))
            else:
                self._run(step)

    def _settle(self, step: _Step, answer: outcome.Outcome[Any]) -> None:
        self._under_way -= 1
        self._known.let_go(step.fetched)
        step.settled = answer
        if step.task is not None:
            trio.lowlevel.reschedule(step.task, answer)
            step.task = None

    def _run(self, step: _Step) -> None:
        now = self._clock.now()
        ledger = step.ledger_type(self._keys, self._known, step.answers, now, self._is_home)
        answer: outcome.Outcome[Any]
        try:
            answer = outcome.Value(step.operation(ledger))
        except Missing as missing:
            missing.questions = (*missing.questions, *ledger.guessed)
            self._fetch(step, missing, ledger.now)
            return
        except Exception as exc:  # noqa: BLE001 - the caller's, if what it has read is true
            answer = outcome.Error(exc)
        if ledger.guessed:
            self._fetch(step, Missing(questions=tuple(ledger.guessed)), ledger.now)
            return
        self._submit(_Run(step, ledger, self.fresh_token(), answer))

    # Committing.

    def _submit(self, run: _Run) -> None:
        ledger = run.ledger
        commands: Sequence[Any] = ()
        told = b""
        if isinstance(run.answer, outcome.Value):
            try:
                commands, lengths = commands_of(ledger, run.token)
            except _FAULTS_OF_RECORDS as exc:
                refused = ValueError(f"a record cannot be stored in Redis: {exc}")
                refused.__cause__ = exc
                run.answer = outcome.Error(refused)
            else:
                told = news_of(ledger.news, run.token, self._cluster_id, self._keys.partition)
                self._expect(run, lengths)
        checks = checks_of(ledger)
        if not (checks or commands or told):
            self._settle(run.step, run.answer)
            return
        run.writes = bool(commands)
        self._runs[run] = None
        run.number = next(self.requests)
        if run.step.becomes is not None:
            self._given_ids.add(run.step.becomes)
        keys = (self._keys.meta, self._keys.clock, self._keys.done)
        times = (repr(ledger.now), self._clock.slack)
        step = _packed((checks, commands))
        arguments = (self._cluster_id, *times, self._channel, told, run.token, step)
        call = ScriptCall(COMMIT, keys, arguments)
        self._bridge.submit([call], partial(self._replied, run), key=self._keys.tag)

    def _expect(self, run: _Run, lengths: dict[str, int]) -> None:
        for key, record in run.ledger.written.items():
            self._known.expect(key, run.token, record, run)
            self._known.trim(key, lengths.get(key, 0))
        for key, changes in run.ledger.members.items():
            self._known.expect_members(key, changes)

    def _doubt(self, run: _Run) -> None:
        """*run* did not happen: neither will those that were built upon it."""
        dead: set[object] = {run}
        sets = set(run.ledger.members)
        self._forget(run)
        for other in self._runs:
            if not (
                other.ledger.builds_on.isdisjoint(dead) and sets.isdisjoint(other.ledger.read_sets)
            ):
                dead.add(other)
                sets.update(other.ledger.members)
                self._forget(other)

    def _forget(self, run: _Run) -> None:
        for key in run.ledger.written:
            self._known.doubt(key, run)
        for key in run.ledger.members:
            self._known.doubt_members(key)

    def _replied(self, run: _Run, replies: list[Any] | StorageUnavailable) -> None:
        del self._runs[run]
        if isinstance(replies, StorageUnavailable):
            # Whether it was done is not known; whoever waits hears so.
            self._give_up(run.token.decode())
            self._fail(run, replies)
        elif isinstance(replies[0], Exception):
            error = StorageUnavailable(f"Redis has refused a commit: {replies[0]}")
            error.__cause__ = replies[0]
            self._fail(run, error)
        else:
            self._answered(run, *replies[0])
        self._start()

    def _give_up(self, token: str) -> None:
        self._given_up[token] = None
        if len(self._given_up) > _MOST_GIVEN_UP:
            del self._given_up[next(iter(self._given_up))]

    def _fail(self, run: _Run, error: StorageUnavailable) -> None:
        if run.writes:
            self._refused = (str(error), time.monotonic())
        self._doubt(run)
        self._known.let_go(run.ledger.read)
        self._settle(run.step, outcome.Error(error))

    def _answered(self, run: _Run, verdict: bytes, told: bytes, *others: Any) -> None:
        if verdict == b"stranger":
            self._met_a_stranger(run, told.decode())
            return
        self.stranger = None
        self._clock.heard(float(told), anew=verdict == b"time")
        if verdict == b"done":
            if run.writes:
                self._refused = None
            for key in run.ledger.written:
                self._known.confirm(key, run, run.number)
            for key in others:
                self._known.forget_stored(key.decode())
            self._cluster_id = run.step.becomes or self._cluster_id
            self._known.let_go(run.ledger.read)
            if isinstance(run.answer, outcome.Value):
                self._tell(run.ledger.news)
            self._settle(run.step, run.answer)
            return
        self._doubt(run)
        for key, value in zip(others[::2], others[1::2], strict=True):
            name = key.decode()
            if name in run.ledger.read:
                self._known.correct(name, run.ledger.read[name], value, run.number)
            else:
                self._known.doubt_members(name)
        self._run_again(run)

    def _run_again(self, run: _Run) -> None:
        """Others were faster: fetch together what it needs and nobody knows any more.

        What the run wrote was forgotten with it: an operation on a hundred jobs would miss them
        one after the other, and begin anew each time.
        """
        ledger, answers = run.ledger, run.step.answers
        records = [key for key in ledger.read if self._known.entry(key) is None]
        sets = [key for key in ledger.read_sets if self._known.members(key) is None]
        questions = tuple(answers)
        answers.clear()
        if records or sets or questions:
            self._fetch(run.step, Missing(records, sets, questions), ledger.now)
        else:
            self._run(run.step)

    def _met_a_stranger(self, run: _Run, cluster_id: str) -> None:
        """The storage is not the one that *run* has named; perhaps this process renamed it."""
        if cluster_id not in self._given_ids:
            self.stranger = _STRANGER
            self._fail(run, StorageUnavailable(_STRANGER))
            return
        self._cluster_id = cluster_id
        self._doubt(run)
        run.step.answers.clear()
        self._run(run.step)

    def _fetch(self, step: _Step, missing: Missing, now: float) -> None:
        step.fetched.update(dict.fromkeys(missing.records))

        def fetched(fault: StorageUnavailable | None) -> None:
            if fault is None:
                self._run(step)
            else:
                self._settle(step, outcome.Error(fault))
            self._start()

        self._fetcher.fetch(missing, now, step.answers, fetched)


#: One argument takes the server and us much less time than a hundred.
_packed = msgspec.msgpack.Encoder().encode
