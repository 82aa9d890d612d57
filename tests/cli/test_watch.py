"""`avtomatika job watch`: what is known of a job, how it is drawn, and on a real terminal."""

import io
import math
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from rich.console import Console
from tests.cli.commands import TOKENS, Run
from tests.client.orchestrators import job_json

from avtomatika_trio.cli import Exit, _jobs
from avtomatika_trio.cli._waits import telling_waits
from avtomatika_trio.cli._watch_screen import screen, summary
from avtomatika_trio.cli._watching import NOBODY_SECONDS, Watching, duration, unix_seconds
from avtomatika_trio.client import Client

JOB = "j1"


def event(number: int, kind: str, state: str, **more: Any) -> dict[str, Any]:
    """A row of history at the second of its number."""
    return {
        "event_id": number,
        "event_type": kind,
        "timestamp": f"2026-01-31T12:00:{number:02}.000Z",
        "state": state,
        "next_state": None,
        "task_id": None,
        "attempt": None,
        "worker_id": None,
        "details": None,
        **more,
    }


def of_task(number: int, kind: str, state: str, task: str, **more: Any) -> dict[str, Any]:
    attempt = {"task_id": f"{JOB}-{task}", "attempt": 1, "worker_id": "w-1"}
    return event(number, kind, state, **{**attempt, **more})


ROWS = [
    event(1, "job_created", "begin"),
    of_task(2, "task_dispatched", "begin", "1", details={"skill": "fetch"}),
    of_task(3, "attempt_leased", "begin", "1"),
    of_task(4, "attempt_lost", "begin", "1"),
    of_task(5, "attempt_leased", "begin", "1", attempt=2, worker_id="w-2"),
    of_task(9, "task_finished", "begin", "1", next_state="split", details={"skill": "fetch"}),
    event(10, "branches_dispatched", "split", next_state="join", details={"branches": 3}),
    of_task(11, "attempt_leased", "split", "4-0"),
    of_task(12, "attempt_leased", "split", "4-1"),
    of_task(13, "task_finished", "split", "4-0", details={"skill": "convert"}),
    of_task(20, "task_finished", "split", "4-1", details={"skill": "convert"}),
    event(21, "state_finished", "join", next_state="begin"),
    event(22, "state_finished", "begin", next_state="begin"),
    event(24, "job_failed", "begin"),
]


def known(until: int) -> Watching:
    watching = Watching()
    for row in ROWS:
        if row["event_id"] <= until:
            watching.add([row])
    return watching


def job(**changed: Any) -> dict[str, Any]:
    return {
        "id": JOB,
        "blueprint_name": "resize",
        "status": "running",
        "state": "split",
        "created_at": "2026-01-31T12:00:01.000Z",
        "updated_at": "2026-01-31T12:00:24.000Z",
        "progress": [],
        "error": None,
        **changed,
    }


def drawn(watching: Watching, told: Mapping[str, Any], *, width: int = 80, height: int = 24) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=False)
    console.print(screen(told, watching, console, watching.last_at))
    return out.getvalue()


def test_states_are_passed_in_order_and_a_state_may_come_again() -> None:
    passed = [(it.state, it.seconds(0)) for it in known(24).passages]
    assert passed == [("begin", 8), ("split", 12), ("join", 0), ("begin", 1), ("begin", 2)]


def test_what_runs_is_what_was_leased_and_has_not_ended() -> None:
    assert [*known(3).running] == ["j1-1"]
    assert not known(4).running
    again = known(5).running["j1-1"]
    assert (again.attempt, again.worker_id) == (2, "w-2")
    assert not known(9).running
    assert [*known(12).running] == ["j1-4-0", "j1-4-1"]
    assert [*known(13).running] == ["j1-4-1"]
    assert not known(24).running


def test_branches_are_counted_and_forgotten_with_their_state() -> None:
    branches = known(13).fan_out
    assert branches is not None
    assert (branches.done, branches.total) == (1, 3)
    assert known(21).fan_out is None


def test_a_job_that_ends_leaves_nothing_running() -> None:
    watching = known(12)
    watching.add([event(30, "job_cancelled", "split")])
    assert not watching.running
    assert watching.passages[-1].left_at is not None


def test_the_picture_tells_states_branches_and_running_tasks() -> None:
    watching = known(13)
    watching.skills["j1-4-1"] = "convert"
    progress = [{"task_id": "j1-4-1", "progress": 0.42, "message": "page 3", "at": ""}]
    picture = drawn(watching, job(progress=progress))
    lines = [" ".join(line.split()) for line in picture.splitlines()]
    assert lines[:2] == ["job j1", "resize running 12 s"]
    assert "begin 8.0 s" in lines
    assert "> split 4.0 s" in lines
    assert any(line.startswith("branches") and line.endswith("1 of 3") for line in lines)
    (task,) = [line for line in lines if line.startswith("convert")]
    assert task.startswith("convert 4-1 w-1 1.0 s")
    assert task.endswith("42% page 3")


def test_the_last_event_of_a_task_is_shown_where_it_says_nothing_else() -> None:
    watching = known(12)
    payload = {"page": 3, "of": "\x1b[2J"}
    details = {"type": "page_done", "payload": payload}
    watching.add([of_task(13, "worker_event", "split", "4-1", details=details)])
    watching.add([of_task(14, "worker_event", "split", "9", details=details)])  # it has ended
    picture = drawn(watching, job(), width=120)
    assert 'page_done {"page": 3' in picture
    assert "\x1b" not in picture
    told = {"task_id": "j1-4-1", "progress": 0.5, "message": "page 3", "at": ""}
    assert "page_done" not in drawn(watching, job(progress=[told]), width=120)
    assert [*watching.running] == ["j1-4-0", "j1-4-1"]


def test_a_second_attempt_says_so() -> None:
    assert "fetch 1 attempt 2" in drawn(known(5), job())


FAILED = {"error": {"code": "TRANSIENT_ERROR", "message": "no GPU"}}


@pytest.mark.parametrize(
    ("rows", "seconds", "told"),
    [
        ([], 1, "fetch 1  -  1.0 s      waits for a worker"),
        ([], 30, "fetch 1  -  30 s      no worker takes it, see `avtomatika worker list`"),
        (
            [("attempt_failed", {**FAILED, "retry_at": unix_seconds("2026-01-31T12:01:00Z")})],
            17,
            "fetch 1  -  17 s      again in 40 s; no GPU",
        ),
        (
            [("attempt_failed", {**FAILED, "retry_at": unix_seconds("2026-01-31T12:00:04Z")})],
            2,
            "fetch 1  -  2.0 s      waits for a worker; no GPU",
        ),
        (
            [("attempt_lost", {"reason": "it vanished"})],
            60,
            "fetch 1  -  1:00      no worker takes it, see `avtomatika worker list`; attempt lost",
        ),
        ([("attempt_failed", FAILED)], 1, None),
        ([("task_finished", {"skill": "fetch"})], 1, None),
    ],
)
def test_a_task_that_no_worker_has_is_shown_with_why(
    rows: list[tuple[str, dict[str, Any]]], seconds: float, told: str | None
) -> None:
    watching = known(2)
    for kind, details in rows:
        watching.add([of_task(3, kind, "begin", "1", details=details)])
    watching.last_at += seconds
    lines = drawn(watching, job(status="waiting_for_worker"), width=90).splitlines()
    assert [it for it in lines if "fetch" in it][:1] == ([] if told is None else [told])


def test_branches_that_no_worker_takes_are_told_after_a_while() -> None:
    told = "no worker takes them, see `avtomatika worker list`"
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=False)
    for watched, seconds, shown in (
        (known(10), 4.9, False),
        (known(10), 5.0, True),
        (known(11), 9.0, False),  # one runs
        (known(20), 99.0, True),  # two are done, and one is left
    ):
        console.print(screen(job(), watched, console, watched.last_at + seconds))
        assert (told in out.getvalue()) == shown
        out.truncate(0)


def test_what_waits_is_shown_after_what_runs_and_within_the_same_room() -> None:
    watching = known(12)
    failed = of_task(
        13, "attempt_failed", "split", "4-2", details={**FAILED, "retry_at": 1_769_860_900.0}
    )
    watching.add([failed])
    assert [line.split()[1] for line in drawn(watching, job()).splitlines()[-3:]] == [
        "4-0",
        "4-1",
        "4-2",
    ]
    low = drawn(watching, job(), height=13).splitlines()
    assert low[-1] == "... and 1 more"


@pytest.mark.parametrize("width", [8, 20, 40, 59, 60, 200])
@pytest.mark.parametrize("until", [1, 2, 4, 5, 12, 24])
def test_no_line_is_wider_than_the_terminal(width: int, until: int) -> None:
    told = {"task_id": "j1-4-1", "progress": 0.5, "message": "m" * 300, "at": ""}
    picture = drawn(known(until), job(id="j" * 100, progress=[told]), width=width)
    assert max(map(len, picture.splitlines())) <= width


def test_many_tasks_and_states_fit_on_a_low_terminal() -> None:
    watching = Watching()
    watching.add([event(1, "job_created", "s0")])
    watching.add(event(2, "state_finished", f"s{n}", next_state=f"s{n + 1}") for n in range(100))
    watching.add(of_task(3, "attempt_leased", "s100", f"4-{n}") for n in range(1000))
    picture = drawn(watching, job(), height=24)
    assert len(picture.splitlines()) <= 24
    assert "s100" in picture
    assert "... 94 before" in picture
    assert "... and 992 more running" in picture


def test_texts_of_others_cannot_steer_the_terminal() -> None:
    told = {"task_id": "j1-4-1", "progress": 0.5, "message": "\x1b[2J[red]x[/red]", "at": ""}
    picture = drawn(known(12), job(blueprint_name="b\x1b[1m", progress=[told]), width=120)
    assert "\x1b" not in picture
    assert "\\x1b[2J[red]x[/red]" in picture


def test_the_summary_tells_what_took_how_long() -> None:
    rows = [" ".join(line.split()) for line in summary(job(), known(24)).splitlines()]
    assert rows[0] == "STATE TOOK"
    assert rows[1:3] == ["begin 8.0 s", "split 12 s"]
    assert rows[-1] == "in all 23 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.26, "0.3 s"),
        (9.94, "9.9 s"),
        (42.9, "42 s"),
        (187, "3:07"),
        (7205, "2:00:05"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@contextmanager
def on_terminal(
    url: str, *argv: str, **environ: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command as a process on a terminal of its own, and the other side of that."""
    ours, theirs = pty.openpty()
    given = {"AVTOMATIKA_URL": url, "CLIENT_TOKEN": TOKENS.client_token, "TERM": "xterm"}
    unset = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    process = subprocess.Popen(
        [sys.executable, "-m", "avtomatika_trio", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, **given, **environ},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read(terminal: int, until: str | None = None) -> str:
    """What comes from *terminal*, until *until* is in it or it is closed."""
    told = b""
    while until is None or until.encode() not in told:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux: nobody has it open any more
            break
        if not part:
            break
        told += part
    return told.decode()


def submitted(ask_for: Run, *argv: str) -> str:
    return ask_for("job", "submit", *argv).out.strip()


def test_a_terminal_is_drawn_on_and_ends_with_a_summary(ask_for: Run, url: str) -> None:
    job_id = submitted(ask_for, "quick", "--data", '{"fail": true}')
    with on_terminal(url, "job", "watch", job_id) as (process, terminal):
        told = read(terminal)
        assert process.wait(30) == Exit.FAILED
    assert "\x1b[" in told
    assert "\x1b[31mfailed" in told
    assert "in all" in told
    assert f"job {job_id} is failed" in told


def test_no_color_leaves_no_colour(ask_for: Run, url: str) -> None:
    job_id = submitted(ask_for, "quick")
    with on_terminal(url, "job", "watch", job_id, NO_COLOR="1") as (process, terminal):
        told = read(terminal)
        assert process.wait(30) == Exit.OK
    assert "finished" in told
    assert "\x1b[1;3" not in told
    assert "\x1b[3" not in told


def test_a_dumb_terminal_gets_plain_lines(ask_for: Run, url: str) -> None:
    job_id = submitted(ask_for, "quick")
    with on_terminal(url, "job", "watch", job_id, TERM="dumb") as (process, terminal):
        told = read(terminal)
        assert process.wait(30) == Exit.OK
    assert "\x1b" not in told
    assert "  finished  done" in told


def test_a_terminal_that_knows_few_characters_gets_plain_lines(ask_for: Run, url: str) -> None:
    job_id = submitted(ask_for, "quick", "--data", '{"name": "ключ"}')
    encoding = {"PYTHONIOENCODING": "latin-1"}
    with on_terminal(url, "job", "watch", job_id, **encoding) as (process, terminal):
        told = read(terminal)
        assert process.wait(30) == Exit.OK
    assert "Traceback" not in told
    assert "  finished  done" in told
    assert '{"name": "\\u043a' in told


def test_ctrl_c_detaches_and_says_how_to_watch_again(ask_for: Run, url: str) -> None:
    job_id = submitted(ask_for, "waits")
    with on_terminal(url, "job", "watch", job_id) as (process, terminal):
        told = read(terminal, "waiting_for_worker")
        process.send_signal(signal.SIGINT)
        told += read(terminal)
        assert process.wait(30) == Exit.INTERRUPTED
    assert f"detached; job {job_id} goes on; watch it again: avtomatika job watch {job_id}" in told
    assert "Traceback" not in told
    assert ask_for("job", "get", job_id, "-o", "json").json["status"] == "waiting_for_worker"


def test_a_termination_leaves_the_terminal_as_it_was(ask_for: Run, url: str) -> None:
    job_id = submitted(ask_for, "waits")
    with on_terminal(url, "job", "watch", job_id) as (process, terminal):
        told = read(terminal, "waiting_for_worker")
        process.terminate()
        told += read(terminal)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert told.rfind("\x1b[?25h") > told.rfind("\x1b[?25l"), "the cursor is hidden"
    assert "Traceback" not in told


def test_plain_lines_tell_how_many_branches_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []
    looks = iter([11, 13, 13, 20, 21, 24])  # so far goes the history at each look at the job
    until = 0

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        asked.append(path.rpartition("/")[2])
        if path.endswith("history"):
            after = int(request.url.params["after"])
            rows = [row for row in ROWS if after < row["event_id"] <= until]
            return httpx.Response(200, json=rows)
        return httpx.Response(200, json=next(jobs))

    def looked_at() -> Iterator[dict[str, Any]]:
        nonlocal until
        for until in looks:
            parallel = until in (11, 13, 20)
            status = "waiting_for_parallel" if parallel else "running" if until < 24 else "failed"
            yield job(status=status, revision=until, state="split" if parallel else "join")

    jobs = looked_at()
    transport = httpx.MockTransport(answer)
    with Client("http://there", "t", transport=transport, retry_seconds=0) as client:
        _jobs._told(client, "table", _jobs._follow(client, JOB, math.inf))
    told = [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "waiting_for_parallel  split  0 of 3 branches done",
        "waiting_for_parallel  split  1 of 3 branches done",
        "waiting_for_parallel  split  2 of 3 branches done",
        "running  join",
        "failed  join",
    ]
    assert asked.count("history") == 4, "it is read where there are branches alone"


DISPATCHED = of_task(2, "task_dispatched", "begin", "1", details={"skill": "fetch"})

LAST_LOOK = "2026-01-31T12:00:20.000Z"


def failed_until(retry_at: str) -> dict[str, Any]:
    at = unix_seconds(f"2026-01-31T{retry_at}Z")
    return of_task(3, "attempt_failed", "begin", "1", details={"retry_at": at})


@pytest.mark.parametrize(
    ("status", "rows", "told"),
    [
        (
            "waiting_for_worker",
            [DISPATCHED],
            "no worker takes the task; is one running that has the skill fetch?",
        ),
        (
            "waiting_for_worker",
            [DISPATCHED, of_task(3, "attempt_lost", "begin", "1")],
            "no worker takes the task; is one running that has the skill fetch?",
        ),
        ("waiting_for_worker", [DISPATCHED, of_task(3, "attempt_leased", "begin", "1")], ""),
        ("waiting_for_worker", [DISPATCHED, failed_until("12:01:00")], ""),
        (
            "waiting_for_worker",
            [DISPATCHED, failed_until("12:00:09")],
            "no worker takes the task; is one running that has the skill fetch?",
        ),
        (
            "waiting_for_parallel",
            [*ROWS[:7], ROWS[7], ROWS[9]],
            "no worker takes any of 2 branches; is one running that has their skills?",
        ),
        ("waiting_for_parallel", ROWS[:8], ""),
        # They have ended just now, and the next ones are about to begin.
        ("waiting_for_worker", [DISPATCHED, of_task(21, "attempt_lost", "begin", "1")], ""),
        ("waiting_for_parallel", [*ROWS[:7], {**ROWS[9], "timestamp": LAST_LOOK}], ""),
        ("running", [DISPATCHED], ""),
    ],
)
def test_who_waits_is_told_once_that_nobody_works(
    capsys: pytest.CaptureFixture[str], status: str, rows: list[dict[str, Any]], told: str
) -> None:
    def history(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params["after"])
        return httpx.Response(200, json=[row for row in rows if row["event_id"] > after])

    last = unix_seconds(LAST_LOOK)
    times = iter(last - n * NOBODY_SECONDS / 2 for n in reversed(range(9)))
    transport = httpx.MockTransport(history)
    with Client("http://there", "t", transport=transport, retry_seconds=0) as client:
        jobs = iter([job(status=status)] * 9)
        looks = telling_waits(client, jobs, Watching(), lambda: next(times))
        seen = [capsys.readouterr().err for _ in looks]
    assert seen[:2] == ["", ""]
    suffix = " `avtomatika worker list` shows the workers\n"
    assert [it for it in seen if it] == ([f"{told}{suffix}"] if told else [])


def test_an_outage_is_told_once_and_so_is_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: Iterator[httpx.Response | Exception] = iter(
        [
            httpx.Response(200, json=job_json()),
            httpx.RemoteProtocolError("Server disconnected."),
            *[httpx.ConnectError("refused")] * 3,
            httpx.Response(429, headers={"retry-after": "0"}),
            httpx.Response(200, json=job_json()),
            httpx.Response(429),
            httpx.Response(200, json=job_json("finished")),
        ]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(_jobs, "_PAUSE_SECONDS", 0.0)
    transport = httpx.MockTransport(answer)
    with Client("http://there", "t", transport=transport, retry_seconds=0) as client:
        statuses = [job["status"] for job in _jobs._follow(client, "j", math.inf)]
    assert statuses == ["running", "running", "finished"]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "http://there is not available: Server disconnected; waiting for it"
    assert [line.rpartition("; ")[2] for line in told] == [
        "waiting for it",
        "http://there answers again",
    ] * 2
