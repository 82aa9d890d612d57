"""Log records know the task in whose handler they were written."""

import json
import logging
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio._task_logs import JsonFormatter, TextFormatter, log_fields, trace_fields
from avtomatika_trio.worker import TaskContextFilter, Worker

log = logging.getLogger("handlers.of.mine")


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    handler.addFilter(TaskContextFilter())
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def fields(record: logging.LogRecord) -> tuple[Any, ...]:
    names = ("job_id", "task_id", "attempt", "skill", "worker_id")
    return tuple(getattr(record, name) for name in names)


async def test_lines_of_handlers_that_run_together_are_not_mixed(
    autojump_clock: MockClock, kept: Kept
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(params: dict[str, Any]) -> None:
        for turn in range(5):
            log.warning("%d", params["n"])
            await trio.sleep(0.1 + (params["n"] * 7 + turn) % 5 / 100)

    for n in range(20):
        fake.submit("work", {"n": n})
    async with running(worker, fake, max_concurrent_tasks=20):
        await fake.all_done()
    assert len(kept.records) == 100
    for record in kept.records:
        which = record.getMessage()
        assert fields(record) == (f"job-k{which}", f"k{which}-1", 1, "work", "w1")
    log.warning("outside")
    assert fields(kept.records[-1]) == ("", "", "", "", "")


async def test_so_are_those_of_threads(kept: Kept) -> None:
    """In real time; a few milliseconds."""
    fake, worker = FakeOrchestrator(), Worker()
    meeting = threading.Barrier(4)

    @worker.skill
    def work(params: dict[str, Any]) -> None:
        meeting.wait(5)
        log.warning("%d", params["n"])

    for n in range(4):
        fake.submit("work", {"n": n})
    async with running(worker, fake, max_concurrent_tasks=4):
        await fake.until(lambda: all(task.result for task in fake.tasks.values()), seconds=5)
    told = {(record.getMessage(), record.__dict__["task_id"]) for record in kept.records}
    assert told == {(str(n), f"k{n}-1") for n in range(4)}


async def test_an_embedded_worker_leaves_the_configuration_of_logging_alone(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogRecordFactory())

    @worker.skill
    async def work() -> None:
        log.warning("here")

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert (list(root.handlers), root.level, logging.getLogRecordFactory()) == before


def logged(formatter: logging.Formatter, **extra: object) -> str:
    """A line about a failure in the midst of an attempt."""
    try:
        raise ValueError("two\nlines")  # noqa: TRY301
    except ValueError as exc:
        record = logging.makeLogRecord(
            {
                "name": "mine",
                "levelname": "ERROR",
                "msg": "it %s",
                "args": ("failed\nbadly",),
                "exc_info": (type(exc), exc, exc.__traceback__),
                "created": 1_800_000_000.25,
                **extra,
            }
        )
    TaskContextFilter().filter(record)
    return formatter.format(record)


def test_json_is_one_object_a_line() -> None:
    traceparent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    known = trace_fields({"traceparent": traceparent})
    with log_fields(job_id="j", task_id="t", attempt=2, worker_id="w", skill="s", **known):
        line = logged(JsonFormatter())
    assert "\n" not in line
    said = json.loads(line)
    assert 'raise ValueError("two\\nlines")' in said.pop("exc")
    assert said == {
        "ts": "2027-01-15T08:00:00.250Z",
        "level": "ERROR",
        "logger": "mine",
        "msg": "it failed\nbadly",
        "job_id": "j",
        "task_id": "t",
        "attempt": 2,
        "skill": "s",
        "worker_id": "w",
        "trace_id": "ab" * 16,
        "span_id": "cd" * 8,
    }
    assert json.loads(logged(JsonFormatter())).keys() == {"ts", "level", "logger", "msg", "exc"}


def test_what_extra_gives_is_in_it_and_takes_no_place_of_ours() -> None:
    said = json.loads(logged(JsonFormatter(), frame=7, path=Path("/a"), ts="mine", logger="mine"))
    assert (said["frame"], said["path"]) == (7, "/a")
    assert (said["ts"], said["logger"]) == ("2027-01-15T08:00:00.250Z", "mine")
    assert list(said)[:4] == ["ts", "level", "logger", "msg"]


class Untold:
    def __str__(self) -> str:
        raise LookupError("mine")


def test_no_extra_keeps_a_line_from_being_json() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    given = {"keys": {(1, 2): 3}, "cycle": cycle, "untold": Untold(), "nan": math.nan, "size": 7}

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    said = json.loads(logged(JsonFormatter(), **given), parse_constant=refuse)
    assert said["msg"] == "it failed\nbadly"
    assert {name: said[name] for name in given} == {
        "keys": "{(1, 2): 3}",
        "cycle": "[[...]]",
        "untold": "<Untold of which str() fails: LookupError>",
        "nan": "nan",
        "size": 7,
    }


def test_text_has_the_reason_that_extra_gives() -> None:
    with log_fields(job_id="j", task_id="t", attempt=2):
        line = logged(TextFormatter(), reason="no space left", frame=7).partition("\nTrace")[0]
    assert line.endswith("it failed\nbadly: no space left [j t 2]")


def test_text_shows_the_attempt_behind_the_message() -> None:
    with log_fields(job_id="j", task_id="t", attempt=2):
        assert re.search(
            r"ERROR   mine: it failed\nbadly \[j t 2\]\nTrace", logged(TextFormatter())
        )
    assert "[" not in logged(TextFormatter()).partition("Trace")[0]


def test_what_the_author_has_given_stays() -> None:
    with log_fields(job_id="j"):
        assert json.loads(logged(JsonFormatter(), job_id="mine"))["job_id"] == "mine"


@pytest.mark.parametrize("text", [None, 7, "", "00-xyz-01", f"00-{'ab' * 16}-{'cd' * 8}"])
def test_what_is_no_traceparent_tells_no_trace(text: object) -> None:
    assert trace_fields({"traceparent": text}) == {}
