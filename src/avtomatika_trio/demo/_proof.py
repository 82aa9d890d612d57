"""What must hold after a run of the demo, however often something was killed in it.

Three accounts that know nothing of each other are compared: the job's history as the orchestrator
tells it, the notes that the workers left when they began an analysis, and the modules that there
are.  Functions of their arguments alone; reading the accounts is the caller's part.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from avtomatika_trio.demo._blueprint import AUDITING
from avtomatika_trio.demo._notes import Begun

Row = Mapping[str, Any]
"""One row of a job's history, as the API gives it."""

_GIVEN_UP = {"attempt_lost": "lost", "attempt_unclaimed": "never received"}
"""Why the orchestrator may hand a task out again, and what the demo calls that."""


@attrs.frozen(kw_only=True)
class Repeat:
    """A module that was handed out again, because an attempt at it had come to nothing."""

    name: str
    attempt: int
    """The number of the attempt that came to nothing; the first is number 1."""
    worker: str
    how: str
    """`lost` or `never received`."""
    reason: str
    """In the words of the history."""
    begun: bool
    """Whether the worker had begun it: if so, the module was analysed once more."""


@attrs.frozen(kw_only=True)
class Proof:
    """What the comparison has shown."""

    problems: tuple[str, ...]
    """What does not hold, in words; empty when all is well."""
    repeats: tuple[Repeat, ...]
    """By name, then by attempt."""


@attrs.define(kw_only=True)
class _Account:
    """All that is known of one module's task."""

    leased: set[int] = attrs.Factory(set)
    given_up: dict[int, Row] = attrs.Factory(dict)
    finished: list[Row] = attrs.Factory(list)
    begun: list[Begun] = attrs.Factory(list)


def finished_names(history: Iterable[Row]) -> Iterator[str]:
    """The modules whose audit has been counted, as often as it has been."""
    for row in history:
        if row["event_type"] == "task_finished" and row["state"] == AUDITING:
            yield row["details"]["key"]


def prove(names: Sequence[str], history: Sequence[Row], notes: Iterable[Begun]) -> Proof:
    """Compare the history with the notes and with the *names* of all modules.

    What must hold:

    * every name is counted exactly once;
    * no attempt was begun twice, and none that was not handed out;
    * the attempt that counts was begun;
    * all others were lost or never received, by the history: so what was analysed a second time
      is exactly that of it which the workers had begun.
    """
    counted = Counter(finished_names(history))
    problems = [
        f"{name} was counted {counted[name]} times, not once"
        for name in sorted({*names, *counted})
        if counted[name] != 1 or name not in names
    ]
    accounts = _accounts(history, notes)
    repeats: list[Repeat] = []
    for account in accounts.values():
        name = _name(account)
        problems += (f"{name}: {problem}" for problem in _problems(account))
        repeats += _repeats(name, account)
    repeats.sort(key=lambda repeat: (repeat.name, repeat.attempt))
    return Proof(problems=tuple(problems), repeats=tuple(repeats))


def _accounts(history: Iterable[Row], notes: Iterable[Begun]) -> dict[str, _Account]:
    accounts: dict[str, _Account] = {}
    for row in history:
        if row["state"] != AUDITING or row["task_id"] is None:
            continue
        account = accounts.setdefault(row["task_id"], _Account())
        match row["event_type"]:
            case "attempt_leased":
                account.leased.add(row["attempt"])
            case "attempt_lost" | "attempt_unclaimed":
                account.given_up[row["attempt"]] = row
            case "attempt_retaken":  # its worker is alive after all
                del account.given_up[row["attempt"]]
            case "task_finished":
                account.finished.append(row)
                # A result counts also when its attempt had been given up, but no newer one leased.
                account.given_up.pop(row["attempt"], None)
    for begun in notes:
        accounts.setdefault(begun.task_id, _Account()).begun.append(begun)
    return accounts


def _name(account: _Account) -> str:
    if account.finished:
        return str(account.finished[0]["details"]["key"])
    return account.begun[0].name if account.begun else "a module that nobody has begun"


def _problems(account: _Account) -> Iterator[str]:
    begun = Counter(note.attempt for note in account.begun)
    for attempt, times in sorted(begun.items()):
        if times > 1:
            yield f"attempt {attempt} was begun {times} times"
        if attempt not in account.leased:
            yield f"attempt {attempt} was begun, but never handed out"
    ended = {row["attempt"] for row in account.finished}
    for attempt in sorted(ended - begun.keys()):
        yield f"attempt {attempt} was counted, but never begun"
    for attempt in sorted(account.leased - ended - account.given_up.keys()):
        yield f"attempt {attempt} came to nothing, and the history does not say why"
    for other in {note.name for note in account.begun} - {_name(account)}:
        yield f"its task was begun as {other}"


def _repeats(name: str, account: _Account) -> Iterator[Repeat]:
    begun = {note.attempt for note in account.begun}
    for attempt, row in account.given_up.items():
        yield Repeat(
            name=name,
            attempt=attempt,
            worker=row["worker_id"],
            how=_GIVEN_UP[row["event_type"]],
            reason=row["details"]["reason"],
            begun=attempt in begun,
        )
