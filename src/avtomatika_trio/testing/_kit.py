"""What opens clusters for tests of blueprints and workers."""

import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from avtomatika_trio._core.blueprint import Blueprint as Graph
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._own_errors import is_its_own
from avtomatika_trio.client import AsyncClient
from avtomatika_trio.orchestrator._context import Limits
from avtomatika_trio.orchestrator._registry import load_blueprints
from avtomatika_trio.testing._clock import check_clock, run
from avtomatika_trio.testing._cluster import CLIENT, CLIENT_TOKEN, Cluster, open_cluster
from avtomatika_trio.testing._ended_job import EndedJob
from avtomatika_trio.testing._fakes import as_worker, played_by
from avtomatika_trio.testing._idle import MOST_SECONDS
from avtomatika_trio.testing._kit_files import Content, KitFiles, open_kit_files
from avtomatika_trio.testing._network import ANY_SERVER
from avtomatika_trio.testing._rig import DAY_SECONDS, POLL_SECONDS, Rig, Seat
from avtomatika_trio.testing._threads import threads_heeded
from avtomatika_trio.worker import SkillBlueprint, Worker
from avtomatika_trio.worker._outcome import unwrapped

Source = Graph | str | Path

#: What a test may wait in virtual time without an end: some ten seconds of real time.
_MOST_SECONDS = 2 * DAY_SECONDS


@asynccontextmanager
async def cluster(
    *blueprints: Source,
    skills: Mapping[str, Any] | None = None,
    workers: Iterable[Worker | SkillBlueprint] = (),
    files: Mapping[str, Content] | None = None,
    seed: int = 0,
    rules: Rules | None = None,
    handler_timeout_seconds: float = 60.0,
    most_seconds: float = _MOST_SECONDS,
) -> AsyncIterator[Rig]:
    """A cluster in one process and in virtual time, for a test of blueprints and workers.

        async def test_a_greeting(autojump_clock):
            async with testing.cluster(greetings, skills={"greet": {"greeting": "Hi"}}) as c:
                job = await c.run({"name": "Ada"})
            assert job.assert_finished() == {"said": "Hi"}

    Orchestrator and workers are the real ones; the network, the disks and the time are played,
    and so are the *skills*, each of which is one of

    * a function: a handler as any other, with the parameters that a handler may have;
    * a list: the outcomes of the attempts, in the order in which they begin;
    * anything else: the outcome of every attempt.

    An outcome is what a handler returns, an error to raise, `LOST` for a worker that dies in the
    middle, or, in a list, a function of the params.

    A handler that is not `async` runs in the loop here, not in a thread, unless it asks for
    `task_files`, or in a blueprint for `context`.  While a handler or a thread is at work time
    stands still.

    At the end of the block everything is killed, and what is stored is looked through: a job
    that nothing moves on, or a result that counts twice, fails the test.

    Args:
        blueprints: Each one, or where they are: a folder, file or module.
        skills: What a worker plays.
        workers: Real ones; each gets a machine.  What its author has chosen in the program -
            `Worker(max_concurrent_tasks=1)` - holds, save where it connects and keeps files;
            environment and settings file are not read.
        files: What is there from the beginning, by URI: `{"s3://films/a.mov": b"..."}`; workers
            may use the buckets.  With None, workers that do not ask for `task_files` leave the
            URIs in params alone.
        seed: Of all chance.
        rules: How patient the orchestrator is.
        handler_timeout_seconds: How long a handler of a state may take.
        most_seconds: How much virtual time may pass while the test waits for something else
            than `run`, `wait` and `sleep`, which have an end: for what never comes it would let
            years pass.

    Raises:
        AssertionError: at the end: what is stored is wrong.  That is a bug of avtomatika-trio.
        BlueprintError: a blueprint is not usable.
        ConfigError: a skill or the settings of a worker are not usable.
        RuntimeError: the clock is real; the message tells the remedy.
        TimeoutError: *most_seconds* have passed.
        TypeError: an argument is something else.
        ValueError: a skill is both played and real, or there can be no such test.
    """
    clock = check_clock()
    found = list(_loaded(blueprints))
    seats = _seats({} if skills is None else skills, workers)
    limits = Limits(poll_hold_seconds=POLL_SECONDS, handler_timeout_seconds=handler_timeout_seconds)
    # The loops of an orchestrator pause: that is no outage.
    given = rules or Rules()
    patience = attrs.evolve(given, outage_seconds=max(given.outage_seconds, 2 * MOST_SECONDS))
    is_open = False
    try:
        with trio.move_on_after(most_seconds) as guard, threads_heeded(clock):
            async with open_kit_files(files) as kept:
                opening = open_cluster(
                    found,
                    seed=seed,
                    rules=patience,
                    limits=limits,
                    is_played=True,
                    blobs=kept.blobs,
                    task_files_dir=kept.task_files_dir,
                )
                names = tuple(it.name for it in found)
                async with _checked(opening, guard, names, seats, kept) as rig:
                    is_open = True
                    yield rig
    except BaseExceptionGroup as group:
        if is_open or isinstance(lone := unwrapped(group), BaseExceptionGroup):
            raise
        raise lone from None
    if guard.cancelled_caught:
        raise TimeoutError(
            f"the test has waited for {most_seconds:g} s of virtual time, for what may never"
            " come; wait for something else, or allow for more with cluster(most_seconds=...)"
        ) from None


@asynccontextmanager
async def _checked(
    opening: AbstractAsyncContextManager[Cluster],
    guard: trio.CancelScope,
    names: tuple[str, ...],
    seats: Iterable[Seat],
    files: KitFiles,
) -> AsyncIterator[Rig]:
    """See `cluster`; what the test raises comes out as it is, not in the groups of nurseries."""
    failure: BaseException | None = None
    violations: list[str] = []
    async with opening as opened, _rig(opened, guard, names, seats, files) as rig:
        try:
            yield rig
        except BaseException as exc:
            if not is_its_own(exc):
                raise
            failure = exc
        violations = await rig.violations()
    if failure is not None:
        raise failure
    assert not violations, "\n".join(violations)


@asynccontextmanager
async def _rig(
    opened: Cluster,
    guard: trio.CancelScope,
    names: tuple[str, ...],
    seats: Iterable[Seat],
    files: KitFiles,
) -> AsyncIterator[Rig]:
    send, receive = trio.open_memory_channel[Seat](math.inf)
    transport = opened.network.transport(CLIENT)
    async with (
        AsyncClient(f"http://{ANY_SERVER}", CLIENT_TOKEN, transport=transport) as client,
        trio.open_nursery() as keeping,
    ):
        rig = Rig(
            client=client,
            cluster=opened,
            guard=guard,
            files=files,
            blueprints=names,
            vacant=send,
        )
        for seat in seats:
            await rig.fill(seat)
        keeping.start_soon(rig.keep_filled, receive)
        yield rig
        keeping.cancel_scope.cancel()


def _loaded(sources: Iterable[Source]) -> list[Graph]:
    """Every blueprint of *sources*.

    Raises:
        BlueprintError: one is not usable.
        TypeError: one is something else.
        ValueError: there is none, or one needs what is not there.
    """
    found: list[Graph] = []
    for source in sources:
        if isinstance(source, Graph):
            found.append(source)
        elif isinstance(source, str | Path):
            found += load_blueprints(str(source))
        else:
            raise TypeError(
                f"{source!r} is no blueprint; give a Blueprint, or the folder, file or module that"
                " has some, and workers as workers=[...]"
            )
    if not found:
        raise ValueError("there is nothing to test; give cluster() a blueprint")
    return found


def _seats(skills: Mapping[str, Any], workers: Iterable[Worker | SkillBlueprint]) -> list[Seat]:
    if not isinstance(skills, Mapping):
        raise TypeError(f"skills is a dict of names and what they do, not {skills!r}")
    if isinstance(workers, Worker | SkillBlueprint | type):
        raise TypeError("workers is a list: workers=[worker]")
    seats = [Seat(played_by(skills), {})] if skills else []
    for given in workers:
        worker = as_worker(given)
        twice = sorted(set(worker.skills) & set(skills))
        if twice:
            raise ValueError(f"played, but a worker has it, too: {', '.join(twice)}")
        seats.append(Seat(worker, {}))
    return seats


def run_job(
    blueprint: Source,
    initial_data: dict[str, Any] | None = None,
    *,
    skills: Mapping[str, Any] | None = None,
    workers: Iterable[Worker | SkillBlueprint] = (),
    files: Mapping[str, Content] | None = None,
    timeout_seconds: float = DAY_SECONDS,
) -> EndedJob:
    """Run one job in a cluster of its own, from a plain function.

        def test_a_greeting():
            job = testing.run_job(greetings, {"name": "Ada"}, skills={"greet": {"greeting": "Hi"}})
            assert job.assert_finished() == {"said": "Hi"}

    Args:
        blueprint: As of `cluster`.
        initial_data: What the handlers get; JSON.
        skills: As of `cluster`.
        workers: As of `cluster`.
        files: As of `cluster`.
        timeout_seconds: How long it may take, in virtual time.

    Raises:
        TimeoutError: it has not ended in time; the message has its history.
        Exception: as of `cluster`.
    """

    async def scenario() -> EndedJob:
        async with cluster(blueprint, skills=skills, workers=workers, files=files) as opened:
            return await opened.run(initial_data, timeout_seconds=timeout_seconds)

    return run(scenario)
