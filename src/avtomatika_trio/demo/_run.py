"""The demo from its beginning to its end, and what it says about both."""

import shlex
import sys
import sysconfig
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from avtomatika_trio.demo._audit import audit, list_stdlib, merge
from avtomatika_trio.demo._blueprint import code_audit
from avtomatika_trio.demo._cluster import BLUEPRINTS, WORKERS, start_cluster
from avtomatika_trio.demo._follow import Follower
from avtomatika_trio.demo._notes import read_notes
from avtomatika_trio.demo._processes import DemoFailed, Family
from avtomatika_trio.demo._proof import Proof, Repeat, prove
from avtomatika_trio.demo._report import LARGEST_COLUMNS, write_report
from avtomatika_trio.demo._screen import Screen
from avtomatika_trio.errors import AvtomatikaError, OrchestratorUnavailable, Refused
from avtomatika_trio.orchestrator._tokens import TOKENS_FILE

_DEFAULT_FOLDER = Path("avtomatika-demo")

_FAILED = 1
_INTERRUPTED = 130


def run_demo(*, folder: Path | None = None, kill: bool = False, root: Path | None = None) -> int:
    """Audit Python's standard library as one job on an orchestrator and two workers.

    Each run has a new folder `run-N` for its database, logs and report; older ones are kept.
    Nothing that was started runs on when this returns, or when the process is killed.

    Args:
        folder: Where the folders of runs are; `avtomatika-demo` unless given.
        kill: Kill the orchestrator and a worker on the way, start them again, and prove
            afterwards that nothing was lost, nothing counted twice, and the report is the same.
        root: A folder of Python source to audit instead of the standard library.

    Returns:
        The exit code: 0, or 1 when something failed (the reason is on stderr), or 130 when it
        was interrupted by Ctrl-C.

    Raises:
        BrokenPipeError: nobody reads stdout any more.
    """
    screen = Screen()
    root = None if root is None else root.absolute()
    place = None
    try:
        names = list_stdlib(root)
        place = _new_folder((_DEFAULT_FOLDER if folder is None else folder).absolute())
        _run(screen, place, names, kill=kill, root=root)
    except DemoFailed as failed:
        screen.complain(failed.reason, failed.log)
    except (OrchestratorUnavailable, Refused) as failed:
        screen.complain(str(failed), None if place is None else place / "orchestrator.log")
    except BrokenPipeError:
        raise
    except (AvtomatikaError, OSError) as failed:
        screen.complain(str(failed), None)
    except KeyboardInterrupt:
        screen.complain("interrupted; everything that it had started has ended", None)
        return _INTERRUPTED
    else:
        return 0
    if place is not None:
        screen.complain(f"all logs are in {place}", None)
    return _FAILED


def _new_folder(parent: Path) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = parent / f"run-{number}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as exc:
        reason = f"{exc.filename}: cannot be made ({exc.strerror})"
        raise DemoFailed(f"{reason}; choose another place with --folder") from exc
    raise AssertionError  # `count` does not end


def _run(
    screen: Screen, place: Path, names: Sequence[str], *, kill: bool, root: Path | None
) -> None:
    what = f"the standard library of Python {sysconfig.get_python_version()}"
    screen.say(
        f"Auditing {what if root is None else root}: {len(names)} packages and modules, one"
        f" orchestrator, {WORKERS} workers."
    )
    screen.say(f"Everything of this run is in {place} (older runs are kept).")
    with Family(place) as family:
        cluster = start_cluster(family, place)
        with cluster.client as client:
            data = {"root": None if root is None else str(root), "folder": str(place)}
            job_id = client.submit(code_audit.name, data)
            follower = Follower(cluster=cluster, screen=screen, job_id=job_id, folder=place)
            with screen.progress():
                job = follower.follow(kill=kill)
            history = [event.raw for event in client.history(job_id)]
        cluster.stop()
    result = job["result"]
    proof = prove(names, history, read_notes(place))
    problems = [*proof.problems, *_same_count(names, result)]
    if kill:
        problems += _same_report(names, root, result, place)
    if problems:
        raise DemoFailed("; ".join(problems))
    _tell_result(screen, result, names)
    if kill:
        _tell_proof(screen, proof, names)
    _tell_how_to_look(screen, place, job_id)


def _same_count(names: Sequence[str], result: dict[str, Any]) -> list[str]:
    counted = result["totals"]["names"]
    if counted == len(names):
        return []
    return [f"the report counts {counted} names, but there are {len(names)}"]


def _same_report(
    names: Sequence[str], root: Path | None, result: dict[str, Any], place: Path
) -> list[str]:
    """Compare the job's files with those made right here, without any of the product."""
    summary = merge(audit(name, root) for name in names)
    expected = write_report(summary, place / "expected")
    return [
        f"{result[file]} differs from {expected[file]}, which was made in one process"
        for file in ("report", "chart")
        if Path(result[file]).read_bytes() != Path(expected[file]).read_bytes()
    ]


def _tell_result(screen: Screen, result: dict[str, Any], names: Sequence[str]) -> None:
    title = f"The ten largest of {len(names)}"
    screen.say()
    screen.table(title, LARGEST_COLUMNS, result["largest"])
    screen.say()
    screen.say(f"Report: {result['report']}")
    screen.say(f"Chart:  {result['chart']}")
    screen.say(f"SHA-256 of both: {result['sha256']}")


def _tell_proof(screen: Screen, proof: Proof, names: Sequence[str]) -> None:
    screen.say()
    screen.say("Found by comparing the history, the workers' notes, and an audit in one process:")
    screen.say(f"- each of {len(names)} names was counted exactly once")
    screen.say("- report and chart are the same to the byte as those made in one process")
    twice = [repeat for repeat in proof.repeats if repeat.begun]
    again = [repeat for repeat in proof.repeats if not repeat.begun]
    if not twice:
        screen.say("- nothing was analysed twice: what was begun was finished, and in the spool")
    _tell_repeats(screen, "analysed a second time", twice)
    _tell_repeats(screen, "handed out a second time, but not begun the first time", again)


def _tell_repeats(screen: Screen, what: str, repeats: Sequence[Repeat]) -> None:
    if repeats:
        screen.say(f"- {what}, each for the reason that the history gives:")
    for repeat in repeats:
        why = f"attempt {repeat.attempt} at worker {repeat.worker}: {repeat.how}, {repeat.reason}"
        screen.say(f"    {repeat.name}: {why}")


def _tell_how_to_look(screen: Screen, place: Path, job_id: str) -> None:
    command = _command()
    token = f'"$(sed -n \'s/.*"client_token": "\\(.*\\)".*/\\1/p\' {TOKENS_FILE})"'
    screen.say()
    screen.say("To look at the job, serve its database again:")
    screen.say(f"  cd {shlex.quote(str(place))}")
    screen.say(f"  {command} serve --blueprints {BLUEPRINTS}")
    screen.say("and in another terminal, in the same folder:")
    screen.say(f"  {command} job get {job_id}")
    screen.say(f"  {command} job history {job_id}")
    screen.say(f"  {command} blueprint graph {code_audit.name}")
    screen.say(f"  TOKEN={token}")
    screen.say(
        f'  curl -H "X-Client-Token: $TOKEN" http://localhost:8080/api/v1/jobs/{job_id}/history'
    )


def _command() -> str:
    """How to call `avtomatika` in any shell, also where this Python is not on PATH."""
    beside = Path(sys.executable).with_name("avtomatika")
    if beside.exists():
        return shlex.quote(str(beside))
    return f"{shlex.quote(sys.executable)} -m avtomatika_trio"
