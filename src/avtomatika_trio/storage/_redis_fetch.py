"""Fetching what an operation needs and nobody here knows."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import msgspec

from avtomatika_trio._core.ledger import Instance
from avtomatika_trio._core.partitions import as_of
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_clock import PartitionClock
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_known import TOKEN_BYTES, Known
from avtomatika_trio.storage._redis_questions import Away, First, Missing, Question, Score, Size

#: How many keys one MGET names.
_MOST_KEYS = 500

_instance = msgspec.json.Decoder(Instance).decode

Elsewhere = Callable[[str], tuple[Keys, PartitionClock] | None]
"""The keys and the clock of the partition in which an instance's record is; None = this one."""

Answers = dict[Question, tuple[Any, int]]
"""To questions, each with the number of its request."""

Told = Callable[[StorageUnavailable | None], None]


@attrs.frozen
class Fetcher:
    """Fetches for the operations of one partition."""

    bridge: RedisBridge
    keys: Keys
    clock: PartitionClock
    known: Known
    requests: Iterator[int]
    """Numbers for requests, in whose order they are carried out."""
    elsewhere: Elsewhere

    def fetch(self, missing: Missing, now: float, answers: Answers, told: Told) -> None:
        """Have what is *missing* in `known` and in *answers* when *told* is called.

        Args:
            missing: What the operation has asked for.
            now: The time of the operation.
            answers: Where answers to questions go.
            told: Called on Trio's thread: with None, or with why it could not be fetched.
        """
        away = [it for it in missing.questions if isinstance(it, Away)]
        here = [it for it in missing.questions if not isinstance(it, Away)]
        rest = Missing(missing.records, missing.sets, here)

        def next_one(fault: StorageUnavailable | None) -> None:
            if fault is not None:
                told(fault)
            elif away:
                self._fetch_away(away.pop(), answers, next_one)
            elif rest.records or rest.sets or rest.questions:
                self._fetch_here(rest, now, answers, told)
            else:
                told(None)

        next_one(None)

    def _fetch_here(self, missing: Missing, now: float, answers: Answers, told: Told) -> None:
        records, sets, questions = missing.records, missing.sets, missing.questions
        commands: list[tuple[Any, ...]] = [
            ("MGET", *records[at : at + _MOST_KEYS]) for at in range(0, len(records), _MOST_KEYS)
        ]
        commands += [("SMEMBERS", key) for key in sets]
        commands += [_command(question, now) for question in questions]
        number = next(self.requests)

        def fetched(replies: list[Any] | StorageUnavailable) -> None:
            fault = _fault_of(replies)
            if isinstance(replies, StorageUnavailable) or fault is not None:
                told(fault)
                return
            at = len(replies) - len(sets) - len(questions)
            values = itertools.chain.from_iterable(replies[:at])
            for key, value in zip(records, values, strict=True):
                self.known.learn(key, value, number)
            for key, members in zip(sets, replies[at:], strict=False):
                self.known.learn_members(key, [it.decode() for it in members])
            for question, reply in zip(questions, replies[at + len(sets) :], strict=True):
                answers[question] = (_answer(question, reply), number)
            told(None)

        self.bridge.submit(commands, fetched, key=self.keys.tag)

    def _fetch_away(self, question: Away, answers: Answers, told: Told) -> None:
        """The record of an instance as it is now; its times become this partition's."""
        place = self.elsewhere(question.instance_id)
        assert place is not None
        keys, clock = place

        def fetched(replies: list[Any] | StorageUnavailable) -> None:
            answers[question] = (_record_in(replies, self.clock.now() - clock.now()), 0)
            told(None)

        self.bridge.submit([("GET", keys.instance(question.instance_id))], fetched, key=keys.tag)


def _record_in(
    replies: list[Any] | StorageUnavailable, later: float
) -> Instance | StorageUnavailable | None:
    """The instance that was asked for, by a clock that is *later*; or why it is not known."""
    fault = _fault_of(replies)
    if isinstance(replies, StorageUnavailable) or fault is not None:
        return fault
    if replies[0] is None:
        return None
    try:
        return as_of(_instance(replies[0][TOKEN_BYTES:]), later)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return StorageUnavailable(f"a worker's record in Redis is damaged: {exc}")


def _fault_of(replies: list[Any] | StorageUnavailable) -> StorageUnavailable | None:
    if isinstance(replies, StorageUnavailable):
        return replies
    refused = next((it for it in replies if isinstance(it, Exception)), None)
    return None if refused is None else StorageUnavailable(f"Redis has refused a look: {refused}")


def _command(question: Question, now: float) -> tuple[Any, ...]:
    match question:
        case First(key=key, most=most, due=True):
            return ("ZRANGEBYSCORE", key, "-inf", repr(now), "WITHSCORES", "LIMIT", 0, most)
        case First(key=key, most=most):
            return ("ZRANGE", key, 0, most - 1)
        case Score(key=key, member=member):
            return ("ZSCORE", key, member)
        case Size(key=key):
            return ("SCARD", key)
        case Away():
            raise AssertionError(question)


def _answer(question: Question, reply: Any) -> Any:
    if isinstance(question, Score):
        return None if reply is None else float(reply)
    if isinstance(question, Size):
        return int(reply)
    if isinstance(question, First) and not question.due:
        return reply
    return [(m.decode(), float(n)) for m, n in zip(reply[::2], reply[1::2], strict=True)]
