"""What the drill of a cluster tells in the end, as a table and as JSON."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from tests.drills.cluster_machines import Kill
from tests.drills.cluster_reckoning import ClusterReckoning
from tests.drills.cluster_run import Drill
from tests.drills.drilling import percentile, percentiles

#: Each is told, up to so many; the rest is in the JSON.
_MOST_PROBLEMS = 20


def as_json(drill: Drill, reckoning: ClusterReckoning) -> dict[str, Any]:
    """Everything, for programs."""
    problems = all_problems(drill, reckoning)
    return {
        "plan": attrs.asdict(drill.plan),
        "is_well": not problems,
        "problems": problems,
        "broken_invariants": drill.broken,
        "accepted": len(drill.accepted),
        "submissions_tried_again": sum(it.retries for it in drill.submitters),
        "submissions_that_came_twice": reckoning.unanswered,
        "jobs": dict(reckoning.jobs),
        "tasks": reckoning.tasks,
        "attempts": reckoning.attempts,
        "repeats": dict(reckoning.repeats),
        "kills": [attrs.asdict(kill) for kill in drill.machines.kills],
        "failed_starts": dict(drill.machines.failed_starts),
        "looks_while_running": drill.looks,
        "lost": reckoning.lost,
        "doubled": reckoning.doubled,
        "stuck": reckoning.stuck,
        "wrong": reckoning.wrong,
        "late_seconds": {
            kind: {"count": len(seconds), **_points(seconds)}
            for kind, seconds in late_seconds(reckoning).items()
        },
        "seconds_from_submit_to_end": _points(reckoning.seconds),
        "recovery_seconds": recovery_seconds(drill, reckoning),
    }


def as_text(drill: Drill, reckoning: ClusterReckoning) -> str:
    """The table."""
    return "\n".join(f"{name:14} {told}" for name, told in _lines(drill, reckoning))


def _lines(drill: Drill, reckoning: ClusterReckoning) -> Iterator[tuple[str, object]]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(reckoning.jobs.items()))
    yield "jobs", f"{reckoning.jobs.total()}: {kinds}"
    yield "tasks", reckoning.tasks
    yield "attempts", reckoning.attempts
    yield "repeated", f"{reckoning.repeats.total()} attempts"
    for why, count in sorted(reckoning.repeats.items()):
        yield "", f"{count} {why}"
    retries = sum(it.retries for it in drill.submitters)
    yield "submissions", f"{retries} tried again, {reckoning.unanswered} came twice"
    yield "kills", _kills(drill.machines.kills)
    yield "failed starts", drill.machines.failed_starts.total()
    yield "looks", f"{drill.looks} at open jobs while they moved, and one at all in the end"
    yield "lost", reckoning.lost
    yield "doubled", reckoning.doubled
    yield "stuck", reckoning.stuck
    yield "wrong end", reckoning.wrong
    for kind, seconds in late_seconds(reckoning).items():
        yield "late", f"{kind}: {len(seconds)}, {percentiles(seconds, 0.5, 0.99)}"
    yield "submit to end", percentiles(reckoning.seconds, 0.5, 0.99)
    for what, seconds in recovery_seconds(drill, reckoning).items():
        yield "recovery", f"{what}: {', '.join(f'{it:.2f}' for it in seconds)} s"
    problems = all_problems(drill, reckoning)
    yield "problems", len(problems)
    for problem in problems[:_MOST_PROBLEMS]:
        yield "", problem
    if drill.broken:
        yield "BROKEN", drill.broken[0]


def all_problems(drill: Drill, reckoning: ClusterReckoning) -> list[str]:
    """What does not hold, in words; empty when all is well."""
    return [*drill.broken, *drill.machines.problems, *reckoning.problems]


def late_seconds(reckoning: ClusterReckoning) -> Mapping[str, Sequence[float]]:
    """How late timers were, of each kind and of all, in order."""
    found: dict[str, list[float]] = defaultdict(list)
    for firing in reckoning.fired:
        found[firing.kind].append(firing.late_seconds)
        found["all timers"].append(firing.late_seconds)
    return {kind: sorted(found[kind]) for kind in sorted(found)}


def recovery_seconds(drill: Drill, reckoning: ClusterReckoning) -> dict[str, list[float]]:
    """How long it took after kills until things went on, in the order of the kills."""
    by: dict[str, list[float]] = defaultdict(list)
    for kill in drill.machines.kills:
        if kill.kind == "redis":
            what = "redis, from its start to the next result"
            by[what] += _next(reckoning.applied_at, kill.back_at)
            continue
        if kill.kind == "orchestrator":
            what = "orchestrator, from its start until it serves"
            by[what].append(kill.back_at - kill.started_at)
            what = "orchestrator, from its kill to the next result anywhere"
            by[what] += _next(reckoning.applied_at, kill.at)
            continue
        next_kill = _next_kill(drill.machines.kills, kill)
        lost_at = [at for at in reckoning.lost_at[kill.name] if kill.at <= at < next_kill]
        if lost_at:  # else it held nothing
            by["worker, from its kill until its last task is queued"].append(max(lost_at) - kill.at)
    return by


def _next(times: Sequence[float], after: float) -> list[float]:
    later = [at - after for at in times if at > after]
    return [min(later)] if later else []


def _next_kill(kills: Sequence[Kill], kill: Kill) -> float:
    later = (it.at for it in kills if it.name == kill.name and it.at > kill.at)
    return min(later, default=float("inf"))


def _kills(kills: Sequence[Kill]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for kill in kills:
        counts[kill.kind] += 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "none"


def _points(ordered: Sequence[float]) -> dict[str, float]:
    if not ordered:
        return {}
    return {
        "p50": percentile(ordered, 0.5),
        "p99": percentile(ordered, 0.99),
        "max": ordered[-1],
    }
