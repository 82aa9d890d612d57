"""`avtomatika storage`: look through a storage, back it up, restore it, move it to another."""

import os
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import trio

from avtomatika_trio._config import load_orchestrator_settings
from avtomatika_trio.cli._archive import (
    Archive,
    Header,
    check_place,
    open_archive,
    write_archive,
)
from avtomatika_trio.cli._counting import Count, counting
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._output import complain, listing, note, print_json, print_line
from avtomatika_trio.cli._places import settings_file
from avtomatika_trio.cli._storage_census import Census
from avtomatika_trio.cli._storage_open import Opened, opened
from avtomatika_trio.storage._records import StorageFacts, StoredRecord, in_batches
from avtomatika_trio.testing.invariants import find_violations

_STORAGE = "--storage"


def run(options: Namespace) -> int:
    """Do what the verb says.

    Raises:
        CommandError: it cannot be done: the storage is served, not empty or not there; or the
            file is.
        ConfigError: a setting is wrong, or there is no such kind of storage.
        StorageUnavailable: a storage cannot be used, or somebody else has it.
    """
    verbs: dict[str, Callable[[Namespace], Awaitable[int]]] = {
        "check": _check,
        "backup": _backup,
        "restore": _restore,
        "migrate": _migrate,
    }
    return trio.run(partial(verbs[options.verb], options))


def _url(options: Namespace) -> str:
    """The storage to work on: as told, else that of the settings."""
    return load_orchestrator_settings(
        environ=os.environ,
        file=settings_file(options),
        overrides={"storage_url": options.storage},
    ).settings.storage_url


async def _check(options: Namespace) -> int:
    async with opened(_url(options), name=_STORAGE) as source:
        await source.check_at_rest(live=options.live)
        return await _report(source, await _counted(source), as_json=options.output == "json")


async def _counted(source: Opened) -> Census:
    census = Census()
    with counting("read") as count:
        async for batch in source.storage.export():
            census.count(batch)
            count(len(batch))
    return census


async def _report(source: Opened, census: Census, *, as_json: bool = False) -> int:
    """Print what is in a storage and what is wrong with it; 1 if something is."""
    with counting("check the jobs"):
        violations = await find_violations(source.storage)
    told = census.as_json()
    if as_json:
        print_json({"storage": source.name, "kind": source.kind, **told, "violations": violations})
    else:
        jobs = ", ".join(f"{count} {status}" for status, count in told["jobs"].items())
        lines = {
            "storage": source.name,
            "kind": f"{source.kind}, schema {told['schema']}",
            "cluster": told["cluster_id"],
            "jobs": jobs or "none",
            "open tasks": told["open_tasks"],
            "running": told["running_attempts"],
            "instances": told["instances"],
            "records": census.records,
            "violations": len(violations) or "none",
        }
        print_line(listing(lines))
    for violation in violations:
        complain(violation)
    return Exit.FAILED if violations else Exit.OK


async def _backup(options: Namespace) -> int:
    path = Path(options.file)
    check_place(path, force=options.force)
    async with opened(_url(options), name=_STORAGE) as source:
        await source.check_at_rest(live=options.live)
        before = await source.served_at()
        with (
            write_archive(path, force=options.force) as archive,
            counting("back up") as count,
        ):
            async for batch in source.storage.export():
                if archive.records == 0:
                    archive.begin(_header(source, batch))
                archive.add(batch)
                count(len(batch))
            if not options.live:
                await _check_untouched(source, before)
    note(f"{path} has {archive.records} records of cluster {source.storage.cluster_id}")
    return Exit.OK


def _header(source: Opened, first: Sequence[StoredRecord]) -> Header:
    facts = first[0]
    assert isinstance(facts, StorageFacts)
    return Header(
        schema=facts.schema,
        cluster_id=facts.cluster_id,
        made_at=time.time(),
        storage=source.kind,
    )


async def _check_untouched(source: Opened, before: float | None) -> None:
    """Make sure that nobody has begun to serve it meanwhile.

    Raises:
        CommandError: somebody has.
    """
    if await source.served_at() != before:
        fault = f"{source.name} was served meanwhile, and what was read does not fit together"
        raise CommandError(Exit.CONFLICT, f"{fault}; stop its orchestrators, and begin again")


async def _restore(options: Namespace) -> int:
    url = _url(options)
    with open_archive(Path(options.file)) as archive:
        total = sum(len(batch) for batch in _read_through(archive))
        async with opened(url, name=_STORAGE, is_new=True) as target:
            await target.check_at_rest()
            await target.check_empty()
            with counting("restore", total=total) as count:
                census = await _put_in(target, _each(in_batches(archive.records())), count)
            end = await _compared(target, census)
    note(f"  next  start orchestrators with --storage {target.name}")
    note(
        f"  never  start one on the storage that {options.file} was made of: both have the same"
        " cluster id"
    )
    return end


def _read_through(archive: Archive) -> Iterator[Sequence[StoredRecord]]:
    """Read all of it, so that nothing is written of a backup that is not whole."""
    with counting("read") as count:
        for batch in in_batches(archive.records()):
            yield batch
            count(len(batch))


async def _each(batches: Iterator[Sequence[StoredRecord]]) -> AsyncIterator[Sequence[StoredRecord]]:
    for batch in batches:
        yield batch


async def _migrate(options: Namespace) -> int:
    if options.source == options.target:
        raise CommandError(Exit.USAGE, "SOURCE and TARGET are the same; name another TARGET")
    async with (
        opened(options.source, name="SOURCE") as source,
        opened(options.target, name="TARGET", is_new=True) as target,
    ):
        await source.check_at_rest()
        await target.check_at_rest()
        await target.check_empty()
        before = await source.served_at()
        untouched = partial(_check_untouched, source, before)
        with counting("move") as count:
            census = await _put_in(target, source.storage.export(), count, untouched)
        end = await _compared(target, census)
    note(f"{source.name} is as it was")
    note(f"  next   start orchestrators with --storage {target.name}")
    note(f"  never  start one on {source.name} any more: both have the same cluster id")
    return end


async def _nothing() -> None:
    pass


async def _put_in(
    target: Opened,
    batches: AsyncIterator[Sequence[StoredRecord]],
    count: Count,
    last_check: Callable[[], Awaitable[None]] = _nothing,
) -> Census:
    """Restore *batches*, and count them.

    The facts are put in last: before that it is not the cluster that workers keep results for.
    """
    census = Census()
    try:
        async for batch in batches:
            census.count(batch)
            await target.storage.restore([it for it in batch if it is not census.facts])
            count(len(batch))
        await last_check()
        assert census.facts is not None
        await target.storage.restore([census.facts])
    except BaseException:
        complain(f"{target.name} has a part at most, and is not to be served. {target.way_out}")
        raise
    return census


async def _compared(target: Opened, census: Census) -> int:
    """Make sure that what was put in can be read again, and report on it.

    Raises:
        CommandError: it is something else.
    """
    there = await _counted(target)
    if not there.is_same_as(census):
        fault = f"{target.name} does not hold what was put into it: {_difference(census, there)}"
        raise CommandError(Exit.FAILED, f"{fault}; do not serve it")
    return await _report(target, there)


def _difference(wanted: Census, found: Census) -> str:
    kinds = sorted({*wanted.kinds, *found.kinds})
    counts = [
        f"{found.kinds[it]} of {wanted.kinds[it]} of kind {it}"
        for it in kinds
        if found.kinds[it] != wanted.kinds[it]
    ]
    return ", ".join(counts) or "records are different"
