"""Labels, times and keys of jobs on the command line."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.cli.commands import Run

from avtomatika_trio.cli import Exit
from avtomatika_trio.cli._narrowing import given
from avtomatika_trio.cli._parser import parse

_NAMES = ("labels", "created_after", "created_before")


def test_what_is_not_given_is_not_asked_for() -> None:
    assert given(parse(["job", "list"]), *_NAMES) == {}


def test_labels_and_times_are_read() -> None:
    options = parse(
        [
            *("job", "list", "--label", "team=video", "--label", "night=a=b"),
            *("--created-after", "2026-01-31", "--created-before", "2026-01-31T12:00:00+02:00"),
        ]
    )
    assert given(options, *_NAMES) == {
        "labels": {"team": "video", "night": "a=b"},
        "created_after": datetime(2026, 1, 31, tzinfo=UTC),
        "created_before": datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))),
    }


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        (("--label", "video"), "'video' is not a label; give one like team=video"),
        (("--label", "ключ=x"), "'ключ' is no name of a label; give 1 to 64 letters of ASCII"),
        (
            ("--label", "a=1", "--label", "a=2", "--url", "http://127.0.0.1:1", "--token", "t"),
            "--label: 'a' is given as '1' and '2'; a job has one value of a label: give it once",
        ),
        (("--label", "=x"), "'=x' is not a label; give one like team=video"),
        (("--created-after", "soon"), "'soon' is not a point in time; give one like 2026-01-31T"),
        (("--created-before", "2026-01-31T12:00:00"), "is not a point in time; give one like"),
    ],
)
def test_what_is_neither_is_a_usage_error(run: Run, argv: tuple[str, ...], fault: str) -> None:
    ran = run("job", "list", *argv)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert fault in ran.err


def test_jobs_are_found_by_label_and_time(ask_for: Run) -> None:
    job_id = ask_for("job", "submit", "quick", "--label", "team=video").out.strip()
    ask_for("job", "submit", "quick", "--label", "team=audio")
    found = ask_for("job", "list", "--label", "team=video", "-o", "json").json
    assert [job["id"] for job in found] == [job_id]
    late = ask_for("job", "list", "--label", "team=video", "--created-after", "2999-01-01")
    assert late.code == Exit.OK
    assert job_id not in late.out


def test_a_key_submits_once(ask_for: Run) -> None:
    ids = {ask_for("job", "submit", "quick", "--idempotency-key", "k1").out for _ in range(2)}
    assert len(ids) == 1
