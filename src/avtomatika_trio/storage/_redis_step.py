"""What one run of an operation comes to: the arguments of a call of `commit.lua`."""

from collections.abc import Sequence
from typing import Any

import msgspec

from avtomatika_trio._core.job import Job
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_ledger import RedisLedger
from avtomatika_trio.storage._signals import News

encode = msgspec.json.Encoder().encode

#: All of them are text: Redis' reader of MessagePack knows no bytes.
Command = Sequence[str]

#: Arguments of one command: Lua can hand over a few thousand at once.
_MOST_ARGUMENTS = 1000


def checks_of(ledger: RedisLedger) -> list[Command]:
    """What must still be as the operation has read it."""
    checks: list[Command] = []
    for key, token in ledger.read.items():
        checks.append(("record", key, token.decode()))
    for key, members in ledger.read_sets.items():
        checks.append(("set", key, *members))
    for (key, member), score in ledger.read_scores.items():
        checks.append(("score", key, member, "" if score is None else repr(float(score))))
    return checks


def commands_of(ledger: RedisLedger, token: bytes) -> tuple[list[Command], dict[str, int]]:
    """What it has written, as commands; and the length of each record that is stored.

    Args:
        ledger: After the operation has run.
        token: Which the written records begin with.

    Raises:
        ValueError: a record cannot be JSON.
    """
    commands: list[Command] = []
    prefix = token.decode()
    lengths: dict[str, int] = {}
    commands += (_forgetting(ledger.keys, job_id) for job_id in ledger.forgotten)
    for key, record in ledger.written.items():
        if record is None:
            commands.append(("DEL", key))
        else:
            body = encode(record)
            lengths[key] = len(body)
            commands.append(("SET", key, prefix + body.decode()))
    for key, changes in ledger.members.items():
        if len(changes) == 1:  # as most are
            [(member, present)] = changes.items()
            commands.append(("SADD" if present else "SREM", key, member))
            continue
        _change(commands, "SADD", key, [it for it, present in changes.items() if present])
        _change(commands, "SREM", key, [it for it, present in changes.items() if not present])
    for key, scores in ledger.scores.items():
        if len(scores) == 1:
            [(member, score)] = scores.items()
            commands.append(
                ("ZADD", key, repr(float(score)), member)
                if score is not None
                else ("ZREM", key, member)
            )
            continue
        put = [(repr(float(n)), it) for it, n in scores.items() if n is not None]
        _change(commands, "ZADD", key, [part for pair in put for part in pair])
        _change(commands, "ZREM", key, [it for it, n in scores.items() if n is None])
    commands += (
        ("ZADD", ledger.keys.due_instances, "LT", repr(float(due_at)), instance_id)
        for instance_id, due_at in ledger.due_no_later.items()
    )
    for job_id, before in ledger.job_before.items():
        _line_up(commands, ledger.keys, before, ledger.written[ledger.keys.job(job_id)])
    _add_rows(commands, ledger)
    return commands, lengths


def _add_rows(commands: list[Command], ledger: RedisLedger) -> None:
    """What is only ever added, or replaced unseen."""
    keys = ledger.keys
    commands += (
        ("HSET", keys.progress(job_id), task_id, encode(said).decode())
        for (job_id, task_id), said in ledger.said.items()
    )
    for job_id in ledger.job_before:
        job = ledger.written[keys.job(job_id)]
        if job is not None and job.status.is_final:
            commands.append(("DEL", keys.progress(job_id)))
    numbers = keys.history_numbers
    commands += (
        ("NUMBERED", keys.history(row.job_id), numbers, encode(row).decode()) for row in ledger.rows
    )
    commands += (
        ("NUMBERED", keys.audit, keys.audit_numbers, encode(row).decode())
        for row in ledger.audit_rows
    )
    commands += ledger.extra


def _forgetting(keys: Keys, job_id: str) -> Command:
    """Before all else, so that it does not take what was written afterwards."""
    sets = (keys.tasks_of(job_id), keys.attempts_of(job_id))
    begins = (keys.task(""), keys.attempt(""), keys.fan_out(job_id, ""))
    others = (keys.open_of(job_id), keys.progress(job_id), keys.history(job_id))
    return ("FORGET", job_id, *sets, *begins, *others)


def _change(commands: list[Command], name: str, key: str, arguments: list[str]) -> None:
    commands += (
        (name, key, *arguments[at : at + _MOST_ARGUMENTS])
        for at in range(0, len(arguments), _MOST_ARGUMENTS)
    )


def _line_up(commands: list[Command], keys: Keys, before: Job | None, job: Job | None) -> None:
    """Have the new revision of a job claimed, and void what was claimed of the old one."""
    is_ready = job is not None and job.is_ready
    if before is not None and before.is_ready:
        commands += ("ZREM", keys.claims, before.id), ("HDEL", keys.claimed, before.id)
        if job is None or not is_ready or job.blueprint != before.blueprint:
            commands.append(("ZREM", keys.ready(before.blueprint), before.id))
    if job is not None and is_ready:
        commands.append(("SADD", keys.blueprints, job.blueprint))
        commands.append(("LINEUP", keys.ready(job.blueprint), keys.ready_numbers, job.id))


def news_of(news: News, token: bytes, cluster: str, partition: str) -> bytes:
    """What other processes are told of the commit *token*; empty if there is nothing.

    >>> news_of(News(), b"t", "c", "p00")
    b''
    """
    told: dict[str, Any] = {
        "queued": news.queued,
        "lengths": {skill: by for skill, by in news.lengths.items() if by},
        "changed": list(news.changed),
        "ready": any(job.is_ready for job in news.jobs.values()),
    }
    told = {name: value for name, value in told.items() if value}
    return (
        encode({"token": token.decode(), "cluster": cluster, "place": partition, **told})
        if told
        else b""
    )
