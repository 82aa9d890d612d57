"""Which version of the keys Redis holds, and how a newer one comes to be while others go on.

Orchestrators are replaced one by one, so for a while processes of two releases share a storage:

* One that runs goes on, whatever schema the storage gets; commits do not ask for it.
* One that opens a storage of an earlier schema upgrades it; there is no command to be given.
* One that opens a storage of a later schema refuses to: it was made by a newer release.

So a step to schema N may only do what processes of schema N - 1 can live with, those that were
started before it, and is no place for anything else:

* It may be run twice, by two processes at once, and between any two commits.
* Keys and members of records may be added.  An older process ignores them, and drops new members
  of a record that it writes: they need a default that is right where they are missing.
* A key, a member or a member's meaning that an older release reads stays as it is.  It can go in
  the release after the one that has stopped to read it.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping

import attrs

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_places import Places
from avtomatika_trio.storage._redis_scripts import OPEN
from avtomatika_trio.storage._redis_wire import ScriptCall

#: Grows with every change of the keys, and of what they hold, that an earlier release must not
#: be started on.
SCHEMA_VERSION = 1

Upgrade = Callable[[RedisBridge, Keys], Awaitable[None]]

#: What makes a storage of the schema N out of one of N - 1, by N; see above for what that may be.
UPGRADES: Mapping[int, Upgrade] = {}


@attrs.frozen(kw_only=True)
class Opened:
    """What a partition says of itself."""

    schema: int
    cluster_id: str
    partitions: int
    """Of the storage; told by the root."""
    time: float
    latest: float
    """The latest time that anybody was told."""
    is_complete: bool = False
    """Whether all partitions were made; told by the root."""


async def open_partition(
    bridge: RedisBridge,
    keys: Keys,
    cluster_id: str | None = None,
    partitions: int = 1,
    *,
    may_make: bool = True,
) -> Opened:
    """Find out what there is; make it if there is nothing, upgrade it if it is older.

    Args:
        bridge: To the server.
        keys: Of the partition.
        cluster_id: That it has to have; None draws one for a new storage.
        partitions: How many a new storage is to have.
        may_make: Whether it may be that there is nothing.

    Raises:
        StorageUnavailable: it cannot be reached, or used.
    """
    new = (cluster_id or secrets.token_hex(8), partitions if may_make else 0)
    found = await _open(bridge, keys, new)
    if cluster_id not in (None, found.cluster_id):
        raise StorageUnavailable(
            f"partition {keys.partition} of what Redis holds is of another storage"
            f" ({found.cluster_id}, not {cluster_id}): was a part of it restored? Restore all of it"
        )
    if found.schema > SCHEMA_VERSION:
        raise StorageUnavailable(
            f"what Redis holds was written by a newer version (its schema is {found.schema}, this"
            f" program knows {SCHEMA_VERSION}); upgrade avtomatika-trio"
        )
    for schema in range(found.schema + 1, SCHEMA_VERSION + 1):
        await UPGRADES[schema](bridge, keys)
        found = await _open(bridge, keys, new, at_least=schema)
    return found


async def _open(
    bridge: RedisBridge, keys: Keys, new: tuple[str, int], *, at_least: int = 0
) -> Opened:
    call = ScriptCall(OPEN, (keys.meta, keys.clock), (SCHEMA_VERSION, *new, at_least))
    [reply] = await bridge.call(call, key=keys.tag)
    if isinstance(reply, Exception):
        raise StorageUnavailable(f"Redis cannot be used: {reply}") from reply
    if not reply:
        raise StorageUnavailable(
            f"partition {keys.partition} of the storage has gone from Redis, though others are"
            " there: was one node emptied? Bring its data back, or restore all of the storage"
        )
    schema, cluster_id, partitions, time, latest, is_complete = reply
    return Opened(
        schema=int(schema),
        cluster_id=cluster_id.decode(),
        partitions=int(partitions),
        time=float(time),
        latest=float(latest),
        is_complete=bool(is_complete),
    )


async def open_others(bridge: RedisBridge, places: Places, root: Opened) -> dict[str, Opened]:
    """Open every partition of the storage whose root has been opened.

    Once all have been made none is made again: one that has lost its data is for people to
    look at.
    """
    opened = {
        name: await open_partition(
            bridge, keys, root.cluster_id, root.partitions, may_make=not root.is_complete
        )
        for name, keys in places.keys.items()
    }
    if not root.is_complete:
        await bridge.call(("HSET", places.root.meta, "complete", 1), key=places.root.tag)
    return opened
