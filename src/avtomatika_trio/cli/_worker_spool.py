"""`avtomatika worker spool`: what is in the folder of a worker's results, and nothing changed."""

import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec

from avtomatika_trio._config import load_worker_settings
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._output import age, listing, note, print_json, print_line, table
from avtomatika_trio.cli._places import settings_file
from avtomatika_trio.worker._spool_entry import SpoolEntry
from avtomatika_trio.worker._spool_holder import Holder, LockState
from avtomatika_trio.worker._spool_inspection import SpoolContents, inspect_spool

_CLUSTERS = ("CLUSTER", "WAITING", "BYTES", "OLDEST")
_WAITING = ("TASK", "JOB", "CLUSTER", "ORCHESTRATOR", "WORKER", "AGE", "BYTES")
_SET_ASIDE = ("SET ASIDE", "JOB", "CLUSTER", "WORKER", "AGE", "BYTES", "REASON")
_DAMAGED = ("DAMAGED", "AGE", "BYTES")

_Json = dict[str, Any]


@attrs.frozen
class _Result:
    """A result in the folder; with a *reason* if it was set aside."""

    entry: SpoolEntry
    reason: str | None = None

    @property
    def size_bytes(self) -> int:
        return memoryview(self.entry.body).nbytes

    def as_json(self, *, now: float) -> _Json:
        """All that is known of it but its body."""
        fields = self._fields()
        del fields["body"]
        seconds = round(max(0.0, now - self.entry.finished_at), 3)
        state = "waiting" if self.reason is None else "set_aside"
        return {"state": state, **fields, "age_seconds": seconds, "bytes": self.size_bytes}

    def whole(self) -> _Json:
        """It with its body."""
        return {**self._fields(), "body": msgspec.json.decode(self.entry.body)}

    def _fields(self) -> _Json:
        fields = attrs.asdict(self.entry)
        return fields if self.reason is None else {"reason": self.reason, **fields}


def run(options: Namespace) -> int:
    """Print what waits in the spool, what was set aside, and who has it open.

    Raises:
        CommandError: there is no spool, or not the task that was asked for.
        ConfigError: a setting is wrong.
        SpoolError: it cannot be read.
    """
    folder = load_worker_settings(
        environ=os.environ,
        file=settings_file(options),
        overrides={"spool_dir": options.spool_dir},
    ).settings.spool_dir.absolute()
    contents = inspect_spool(folder)
    if contents is None:
        remedy = (
            "no worker has kept results there yet. If one keeps them elsewhere, give --spool-dir"
            " or set WORKER_SPOOL_DIR"
        )
        raise CommandError(Exit.NOT_FOUND, f"there is no spool in {folder}: {remedy}")
    if options.task is not None:
        _print_task(options, contents)
    else:
        _print(options.output, contents, now=time.time())
    return Exit.OK


def _results(contents: SpoolContents) -> Iterator[_Result]:
    yield from map(_Result, contents.waiting)
    yield from (_Result(aside.entry, aside.reason) for aside in contents.set_aside)


def _print_task(options: Namespace, contents: SpoolContents) -> None:
    """Print a result with its body; one that is here twice, once a line if that was asked for."""
    found = [it.whole() for it in _results(contents) if it.entry.task_id == options.task]
    if not found:
        fault = f"no result of task {options.task!r} is in {contents.folder}"
        remedy = "it was delivered, or never came; `avtomatika worker spool` shows those there are"
        raise CommandError(Exit.NOT_FOUND, f"{fault}: {remedy}")
    if options.output == "jsonl":
        for told in found:
            print_json(told, one_line=True)
        return
    print_json(found[0])
    if len(found) > 1:
        note(f"there are {len(found)} results of it; -o jsonl prints them all")


def _print(output: str, contents: SpoolContents, *, now: float) -> None:
    if output == "json":
        print_json(_as_json(contents, now))
    elif output == "jsonl":
        for result in _results(contents):
            print_json(result.as_json(now=now), one_line=True)
    else:
        print_line("\n\n".join(_sections(contents, now)))
    for text in contents.notes:
        note(text)


def _as_json(contents: SpoolContents, now: float) -> _Json:
    told = [result.as_json(now=now) for result in _results(contents)]
    return {
        "folder": str(contents.folder),
        "worker_id": contents.worker_id,
        "lock": {"state": contents.holder.state.value, "pid": contents.holder.pid},
        "log_bytes": contents.log_bytes,
        "clusters": _clusters(contents, now),
        "waiting": [it for it in told if it["state"] == "waiting"],
        "set_aside": [it for it in told if it["state"] == "set_aside"],
        "damaged_files": [
            {"name": it.name, "age_seconds": round(now - it.modified_at, 3), "bytes": it.size_bytes}
            for it in contents.damaged_files
        ],
        "instances": contents.instances,
        "notes": list(contents.notes),
    }


def _clusters(contents: SpoolContents, now: float) -> list[_Json]:
    """How much waits for each cluster; the one that waits longest is first."""
    found: dict[str, _Json] = {}
    for entry in contents.waiting:
        told = found.setdefault(
            entry.cluster_id,
            {"cluster_id": entry.cluster_id, "waiting": 0, "bytes": 0, "oldest_seconds": 0.0},
        )
        told["waiting"] += 1
        told["bytes"] += _Result(entry).size_bytes
        told["oldest_seconds"] = max(told["oldest_seconds"], round(now - entry.finished_at, 3))
    return sorted(found.values(), key=lambda it: -it["oldest_seconds"])


def _sections(contents: SpoolContents, now: float) -> Iterator[str]:
    yield listing(_header(contents))
    if contents.waiting:
        clusters = [
            (it["cluster_id"], it["waiting"], it["bytes"], age(it["oldest_seconds"]))
            for it in _clusters(contents, now)
        ]
        yield table(_CLUSTERS, clusters)
        yield table(_WAITING, [_waiting_row(_Result(entry), now) for entry in contents.waiting])
    if contents.set_aside:
        aside = [_Result(it.entry, it.reason) for it in contents.set_aside]
        yield table(_SET_ASIDE, [_aside_row(it, now) for it in aside], whole_last=True)
    if contents.damaged_files:
        damaged = [
            (it.name, age(now - it.modified_at), it.size_bytes) for it in contents.damaged_files
        ]
        yield table(_DAMAGED, damaged)


def _header(contents: SpoolContents) -> Mapping[str, object]:
    instances = contents.instances
    return {
        "folder": str(contents.folder),
        "worker": contents.worker_id,
        "open": _holder(contents.holder),
        "log": f"{contents.log_bytes} bytes",
        "waiting": _count(len(contents.waiting)),
        "set aside": _count(len(contents.set_aside)),
        "instances": None if instances is None else ", ".join(instances) or "none",
    }


def _count(results: int) -> str:
    return "1 result" if results == 1 else f"{results or 'no'} results"


def _holder(holder: Holder) -> str:
    match holder.state:
        case LockState.HELD:
            return f"by process {holder.pid}"
        case LockState.FREE:
            return "by nobody"
        case LockState.UNKNOWN:
            return f"not known on this system; the last was process {holder.pid}, which runs"


def _waiting_row(result: _Result, now: float) -> tuple[object, ...]:
    entry = result.entry
    where = (entry.task_id, entry.job_id, entry.cluster_id, entry.orchestrator, entry.worker_id)
    return (*where, age(now - entry.finished_at), result.size_bytes)


def _aside_row(result: _Result, now: float) -> tuple[object, ...]:
    entry = result.entry
    where = (entry.task_id, entry.job_id, entry.cluster_id, entry.worker_id)
    return (*where, age(now - entry.finished_at), result.size_bytes, result.reason)
