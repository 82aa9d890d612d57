"""`avtomatika job`, against an orchestrator."""

import io
import json
import sys
from pathlib import Path

import pytest
from tests.cli.commands import Run

from avtomatika_trio.cli import Exit


def submitted(ask_for: Run, *argv: str) -> str:
    ran = ask_for("job", "submit", *argv)
    assert ran.code == Exit.OK, ran.err
    return ran.out.strip()


def test_submit_prints_the_id_and_nothing_else(ask_for: Run) -> None:
    ran = ask_for("job", "submit", "quick")
    job_id = ran.out.strip()
    assert ran.code == Exit.OK
    assert ran.err == f"follow it: avtomatika job watch {job_id}\n"
    assert ask_for("job", "get", job_id, "-o", "json").json["id"] == job_id


def test_submit_in_json(ask_for: Run) -> None:
    assert list(ask_for("job", "submit", "quick", "-o", "json").json) == ["job_id"]


def test_waiting_exits_with_a_finished_job(ask_for: Run) -> None:
    ran = ask_for("job", "submit", "quick", "--data", '{"n": 1}', "--wait", "-o", "json")
    assert ran.code == Exit.OK
    assert (ran.json["status"], ran.json["result"]) == ("finished", {"n": 1})


def test_waiting_exits_with_a_failed_job(ask_for: Run) -> None:
    ran = ask_for("job", "submit", "quick", "--data", '{"fail": true}', "--wait", "-o", "json")
    assert ran.code == Exit.FAILED
    assert ran.json["status"] == "failed"
    assert f"job {ran.json['id']} is failed" in ran.err


def test_waiting_times_out_and_says_how_to_go_on(ask_for: Run) -> None:
    ran = ask_for("job", "submit", "waits", "--wait", "--timeout", "0.1")
    job_id = ran.err.split()[1]
    assert (ran.code, ran.out) == (Exit.TIMED_OUT, "")
    assert (
        f"avtomatika: job {job_id} is waiting_for_worker after 0.1 seconds; it goes on:"
        f" avtomatika job watch {job_id}\n"
    ) in ran.err


def test_data_may_come_from_a_file(ask_for: Run, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"name": "ü"}', "utf-8")
    ran = ask_for("job", "submit", "quick", "--data", "@data.json", "--wait", "-o", "json")
    assert ran.json["result"] == {"name": "ü"}


def test_data_may_come_from_stdin(ask_for: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"n": 2}'))
    ran = ask_for("job", "submit", "quick", "--data", "-", "--wait", "-o", "json")
    assert ran.json["result"] == {"n": 2}


REMEDY = "give a JSON object, such as '{\"n\": 1}'"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("[1]", "--data: it is a list, not an object"),
        ("null", "--data: it is a null, not an object"),
        ('{"n": NaN}', "--data: not JSON that can be sent: NaN is not a JSON value"),
        (
            '{"n": 1,\n x}',
            (
                "--data: not JSON at line 2, column 2:"
                " Expecting property name enclosed in double quotes"
            ),
        ),
        ("@missing.json", "'missing.json': cannot be read (No such file or directory)"),
    ],
)
def test_wrong_data_are_refused_before_anything_is_asked(run: Run, data: str, fault: str) -> None:
    ran = run("job", "submit", "quick", "--data", data)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert ran.err == f"avtomatika: {fault}; {REMEDY}\n"


def test_an_unknown_blueprint_is_not_found(ask_for: Run, url: str) -> None:
    ran = ask_for("job", "submit", "quikc")
    assert ran.code == Exit.NOT_FOUND
    assert ran.err == (
        f"avtomatika: {url} refused (404): there is no blueprint 'quikc';"
        " known here: quick, waits; did you mean 'quick'?\n"
    )


@pytest.mark.parametrize("verb", ["get", "history", "watch", "cancel"])
def test_an_unknown_job_is_not_found(ask_for: Run, verb: str) -> None:
    ran = ask_for("job", verb, "nosuch")
    assert (ran.code, ran.out) == (Exit.NOT_FOUND, "")
    assert ran.err == (
        "avtomatika: there is no job 'nosuch'; `avtomatika job list` shows those there are\n"
    )


def test_get_shows_a_job_to_people(ask_for: Run) -> None:
    job_id = submitted(ask_for, "quick")
    ask_for("job", "watch", job_id)
    lines = ask_for("job", "get", job_id).out.splitlines()
    assert lines[0] == f"id         {job_id}"
    assert "status     finished" in lines


def test_a_list_can_be_narrowed(ask_for: Run) -> None:
    waiting = submitted(ask_for, "waits")
    ended = submitted(ask_for, "quick")
    ask_for("job", "watch", ended)
    finished = ask_for("job", "list", "--status", "finished", "--limit", "100", "-o", "json").json
    assert ended in [job["id"] for job in finished]
    assert waiting not in [job["id"] for job in finished]
    of_waits = ask_for("job", "list", "--blueprint", "waits", "-o", "json").json
    assert {job["blueprint_name"] for job in of_waits} == {"waits"}
    assert waiting in [job["id"] for job in of_waits]


@pytest.mark.parametrize(
    "narrowing", [("--blueprint", "wiats"), ("--created-before", "2001-01-31"), ("--label", "no=x")]
)
def test_a_list_of_nothing_says_why(ask_for: Run, narrowing: tuple[str, str]) -> None:
    ran = ask_for("job", "list", *narrowing)
    assert (ran.code, ran.out) == (Exit.OK, "ID  BLUEPRINT  STATUS  STATE  CREATED\n")
    assert ran.err.startswith("none is like this; `avtomatika job list` without filters")


def test_a_list_that_was_cut_says_so(ask_for: Run) -> None:
    submitted(ask_for, "quick")
    newest = submitted(ask_for, "quick")
    ran = ask_for("job", "list", "--limit", "1")
    heading, row = ran.out.splitlines()
    assert heading.split() == ["ID", "BLUEPRINT", "STATUS", "STATE", "CREATED"]
    assert row.split()[0] == newest
    assert ran.err == "the newest 1; there may be more, see --limit\n"


def test_a_list_shows_labels_where_there_are_some(ask_for: Run) -> None:
    submitted(ask_for, "quick")
    newest = submitted(ask_for, "quick", "--label", "zone=3", "--label", "shop=north")
    heading, labelled, plain = ask_for("job", "list", "--limit", "2").out.splitlines()
    assert heading.split()[-2:] == ["CREATED", "LABELS"]
    assert (labelled.split()[0], labelled.split()[-1]) == (newest, "shop=north,zone=3")
    assert plain.split()[-1] == "-"


def test_labels_are_last_in_a_list_and_therefore_whole(ask_for: Run) -> None:
    long = "x" * 80
    submitted(ask_for, "quick", "--label", f"a={long}", "--label", "shop=south")
    assert ask_for("job", "list", "--limit", "1").out.endswith(f"a={long},shop=south\n")


def test_a_list_as_jsonl_is_one_job_a_line(ask_for: Run) -> None:
    submitted(ask_for, "quick")
    ran = ask_for("job", "list", "--limit", "2", "-o", "jsonl")
    assert all(json.loads(line)["id"] for line in ran.out.splitlines())


def test_history_is_told_in_order(ask_for: Run) -> None:
    job_id = submitted(ask_for, "quick")
    ask_for("job", "watch", job_id)
    events = ask_for("job", "history", job_id, "-o", "json").json
    types = [event["event_type"] for event in events]
    assert (types[0], types[-1]) == ("job_created", "job_finished")
    table = ask_for("job", "history", job_id).out.splitlines()
    assert [line.split()[1] for line in table] == ["EVENT", *types]


def test_watch_prints_the_end_and_exits_with_the_outcome(ask_for: Run) -> None:
    job_id = submitted(ask_for, "quick", "--data", '{"fail": true}')
    ran = ask_for("job", "watch", job_id)
    assert ran.code == Exit.FAILED
    assert "  failed  fails" in ran.out
    assert "status     failed" in ran.out.splitlines()


def test_watch_as_jsonl_ends_with_the_final_job(ask_for: Run) -> None:
    job_id = submitted(ask_for, "quick")
    ran = ask_for("job", "watch", job_id, "-o", "jsonl")
    assert json.loads(ran.out.splitlines()[-1])["status"] == "finished"
    assert ask_for("job", "watch", job_id, "-o", "json").json["status"] == "finished"


def test_watch_gives_up_in_time(ask_for: Run) -> None:
    job_id = submitted(ask_for, "waits")
    assert ask_for("job", "watch", job_id, "--timeout", "0").code == Exit.TIMED_OUT


def test_cancelling_twice_is_a_conflict(ask_for: Run, url: str) -> None:
    job_id = submitted(ask_for, "waits")
    ran = ask_for("job", "cancel", job_id, "--reason", "no longer wanted", "-o", "json")
    assert (ran.code, ran.json["status"]) == (Exit.OK, "cancelled")
    again = ask_for("job", "cancel", job_id)
    assert again.code == Exit.CONFLICT
    assert again.err == (
        f"avtomatika: {url} refused (409): job '{job_id}' is cancelled already;"
        f" `avtomatika job get {job_id}` shows how it ended\n"
    )
    assert ask_for("job", "watch", job_id).code == Exit.FAILED
