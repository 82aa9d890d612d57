"""What opens clusters for tests of blueprints and workers."""

import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from avtomatika_trio._core.blueprint import Blueprint as Graph
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.client import AsyncClient
from avtomatika_trio.orchestrator._context import Limits
from avtomatika_trio.orchestrator._registry import load_blueprints
from avtomatika_trio.testing._clock import check_clock, run
from avtomatika_trio.testing._cluster import CLIENT, CLIENT_TOKEN, Cluster, open_cluster
from avtomatika_trio.testing._ended_job import EndedJob
from avtomatika_trio.testing._fakes import Fakes, as_worker
from avtomatika_trio.testing._idle import MOST_SECONDS
from avtomatika_trio.testing._network import ANY_SERVER
from avtomatika_trio.testing._rig import DAY_SECONDS, POLL_SECONDS, Post, Rig
from avtomatika_trio.worker import SkillBlueprint, Worker

Source = Graph | str | Path

#: What is not a failure of a test's own, and belongs to the nurseries around it.
_NOT_THE_TESTS = (trio.Cancelled, KeyboardInterrupt, GeneratorExit)


@asynccontextmanager
async def cluster(
    *blueprints: Source,
    skills: Mapping[str, Any] | None = None,
    workers: Iterable[Worker | SkillBlueprint] = (),
    seed: int = 0,
    rules: Rules | None = None,
    handler_timeout_seconds: float = 60.0,
) -> AsyncIterator[Rig]:
    """A cluster in one process and in virtual time, for a test of blueprints and workers.

        async def test_a_greeting(autojump_clock):
            async with testing.cluster(greetings, skills={"greet": {"greeting": "Hi"}}) as rig:
                job = await rig.run({"name": "Ada"})
            assert job.assert_finished() == {"said": "Hi"}

    Orchestrator and workers are the real ones; the network, the disks and the time are played,
    and so are the *skills*, each of which is one of

    * a function: a handler as any other, with the parameters that a handler may have;
    * a list: the outcomes of the attempts, in the order in which they begin;
    * anything else: the outcome of every attempt.

    An outcome is what a handler returns, an error to raise, `LOST` for a worker that dies in the
    middle, or, in a list, a function of the params.

    A handler that is not `async` runs in the loop here, not in a thread: while it runs, time
    stands still, and the methods of `task_files` for threads cannot be used.

    At the end of the block everything is killed, and what is stored is looked through: a job
    that nothing moves on, or a result that counts twice, fails the test.

    Args:
        blueprints: Each one, or where they are: a folder, file or module.
        skills: What a worker plays.
        workers: Real ones; each gets a machine, where its settings are those of the defaults.
        seed: Of all chance.
        rules: How patient the orchestrator is.
        handler_timeout_seconds: How long a handler of a state may take.

    Raises:
        AssertionError: at the end: what is stored is wrong.  That is a bug of avtomatika-trio.
        BlueprintError: a blueprint is not usable.
        ConfigError: a skill is not usable.
        RuntimeError: the clock is real; the message tells the remedy.
        ValueError: a skill is both played and real.
    """
    check_clock()
    found = list(_loaded(blueprints))
    posts = _posts(skills or {}, workers)
    failure: BaseException | None = None
    violations: list[str] = []
    async with (
        open_cluster(
            found,
            seed=seed,
            # The loops of an orchestrator pause: that is no outage.
            rules=rules or Rules(outage_seconds=2 * MOST_SECONDS),
            limits=Limits(
                poll_hold_seconds=POLL_SECONDS, handler_timeout_seconds=handler_timeout_seconds
            ),
            is_played=True,
        ) as opened,
        _rig(opened, tuple(it.name for it in found), posts) as rig,
    ):
        try:
            yield rig
        except _NOT_THE_TESTS:
            raise
        except BaseException as exc:  # as it is, not in the groups of nurseries
            if isinstance(exc, BaseExceptionGroup) and exc.subgroup(_NOT_THE_TESTS):
                raise
            failure = exc
        violations = await rig.violations()
    if failure is not None:
        raise failure
    assert not violations, "\n".join(violations)


@asynccontextmanager
async def _rig(
    opened: Cluster, names: tuple[str, ...], posts: Iterable[Post]
) -> AsyncIterator[Rig]:
    send, receive = trio.open_memory_channel[Post](math.inf)
    transport = opened.network.transport(CLIENT)
    async with (
        AsyncClient(f"http://{ANY_SERVER}", CLIENT_TOKEN, transport=transport) as client,
        trio.open_nursery() as keeping,
    ):
        rig = Rig(client=client, cluster=opened, blueprints=names, vacant=send)
        for post in posts:
            await rig.fill(post)
        keeping.start_soon(rig.keep_filled, receive)
        yield rig
        keeping.cancel_scope.cancel()


def _loaded(sources: Iterable[Source]) -> Iterator[Graph]:
    for source in sources:
        if isinstance(source, Graph):
            yield source
        else:
            yield from load_blueprints(str(source))


def _posts(skills: Mapping[str, Any], workers: Iterable[Worker | SkillBlueprint]) -> list[Post]:
    fakes = Fakes(skills)
    posts = [Post(fakes.worker, {})] if skills else []
    for given in workers:
        worker = as_worker(given)
        twice = sorted(set(worker.skills) & set(skills))
        if twice:
            raise ValueError(f"played, but a worker has it, too: {', '.join(twice)}")
        posts.append(Post(lambda worker=worker: worker, {}))  # type: ignore[misc]
    return posts


def run_job(
    blueprint: Source,
    initial_data: dict[str, Any] | None = None,
    *,
    skills: Mapping[str, Any] | None = None,
    workers: Iterable[Worker | SkillBlueprint] = (),
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
        timeout_seconds: How long it may take, in virtual time.

    Raises:
        TimeoutError: it has not ended in time; the message has its history.
        Exception: as of `cluster`.
    """

    async def scenario() -> EndedJob:
        async with cluster(blueprint, skills=skills, workers=workers) as rig:
            return await rig.run(initial_data, timeout_seconds=timeout_seconds)

    return run(scenario)
